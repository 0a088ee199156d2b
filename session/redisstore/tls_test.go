package redisstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

type files struct{ cert, key string }

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t testing.TB) (files, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := files{cert: filepath.Join(t.TempDir(), "cert.pem"), key: filepath.Join(t.TempDir(), "key.pem")}
	for name, block := range map[string]*pem.Block{f.cert: {Type: "CERTIFICATE", Bytes: der}, f.key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return f, pool
}

// freeAddress returns an address of this machine that nobody listened on a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newTLSServer starts a server that asks for client certificates when clients is not empty.
func newTLSServer(t testing.TB, pair files, clients string) (*server, string) {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	args := []string{"--tls-port", port, "--bind", "127.0.0.1", "--tls-cert-file", pair.cert, "--tls-key-file", pair.key, "--tls-auth-clients", "no"}
	if clients != "" {
		args = append(args[:len(args)-1], "yes", "--tls-ca-cert-file", clients)
	}
	return newServer(t, args...), address
}

func always(c *tls.Config) func() (*tls.Config, error) {
	return func() (*tls.Config, error) { return c, nil }
}

// D1: TLS, and nothing but the configured CA.
func TestTLS(t *testing.T) {
	pair, pool := certificate(t)
	_, address := newTLSServer(t, pair, "")
	good := newStore(t, redisstore.Config{Addresses: []string{address}, TLS: always(&tls.Config{RootCAs: pool})})
	if err := good.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	newWatch(t, good).want(t, true)
	for name, cfg := range map[string]func() (*tls.Config, error){
		"another CA":   always(&tls.Config{RootCAs: x509.NewCertPool()}),
		"another name": always(&tls.Config{RootCAs: pool, ServerName: "redis.test"}),
		"no file":      func() (*tls.Config, error) { return nil, errors.New("no file") },
		"plain text":   nil,
	} {
		bad := newStore(t, redisstore.Config{Addresses: []string{address}, TLS: cfg})
		if err := bad.Ping(t.Context()); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

// D1: a server that asks for client certificates.
func TestClientCertificate(t *testing.T) {
	pair, pool := certificate(t)
	client, _ := certificate(t)
	_, address := newTLSServer(t, pair, client.cert)
	own, err := tls.LoadX509KeyPair(client.cert, client.key)
	if err != nil {
		t.Fatal(err)
	}
	good := newStore(t, redisstore.Config{Addresses: []string{address}, TLS: always(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}})})
	if err := good.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	bad := newStore(t, redisstore.Config{Addresses: []string{address}, TLS: always(&tls.Config{RootCAs: pool})})
	if err := bad.Ping(t.Context()); err == nil {
		t.Error("connected without a certificate")
	}
}
