package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// authority issues certificates for loopback into files that are replaced in place:
// ca.pem, server.pem, server.key, client.pem, client.key.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey // of the root that issues
	root *x509.Certificate

	mu   sync.Mutex
	pool *x509.CertPool  // every root; guarded by mu
	cert tls.Certificate // of the client, the newest; guarded by mu
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	dir, err := os.MkdirTemp(run.dir, "tls-")
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{dir: dir, pool: x509.NewCertPool()}
	a.addRoot(t)
	a.issue(t)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// addRoot makes the root that issues from now on. ca.pem names the older ones too: who
// rotates an authority first tells everybody of the new one, and then issues under it.
func (a *authority) addRoot(t testing.TB) {
	t.Helper()
	var der []byte
	a.key, a.root, der = newRoot(t)
	old, _ := os.ReadFile(a.file("ca.pem"))
	replace(t, a.file("ca.pem"), append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), old...))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pool.AddCert(a.root)
}

// issue makes new certificates for server and client.
func (a *authority) issue(t testing.TB) {
	t.Helper()
	a.leaf(t, "server")
	cert := a.leaf(t, "client")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cert = cert
}

func newRoot(t testing.TB) (*ecdsa.PrivateKey, *x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "e2e " + random()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, ca, der
}

// leaf writes name.key and name.pem.
func (a *authority) leaf(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}, a.root, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	replace(t, a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// replace writes a file so that a reader sees the old text or the new.
func replace(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// client is the configuration of who connects, with the newest certificate.
func (a *authority) client() *tls.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &tls.Config{RootCAs: a.pool.Clone(), Certificates: []tls.Certificate{a.cert}, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// newest is client for who trusts the newest root alone.
func (a *authority) newest() *tls.Config {
	cfg := a.client()
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(a.root)
	return cfg
}

// redis are the lines for a server that speaks nothing else on its port.
func (a *authority) redis(t testing.TB, port int) string {
	t.Helper()
	return fmt.Sprintf("port 0\ntls-port %d\ntls-auth-clients yes\ntls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s",
		port, a.file("server.pem"), a.file("server.key"), a.file("ca.pem"))
}

// Redis speaks TLS with the certificates of before and, once told, with new ones.
func TestAuthorityHarness(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	r.tls = newAuthority(t)
	r.up(t)
	plain := &redis{port: r.port, password: r.password}
	if _, err := plain.try("PING"); err == nil {
		t.Error("a TLS port answers plain text")
	}
	old := r.tls.client()
	r.tls.addRoot(t)
	r.reloadTLS(t)
	r.tls.issue(t)
	r.reloadTLS(t)
	if got := r.do(t, "PING"); got[0] != "PONG" {
		t.Errorf("PING with a new certificate = %q", got)
	}
	c, err := tls.Dial("tcp", addr(r.port), old)
	if err == nil {
		c.Close()
		t.Error("who knows only the old root accepts the new certificate")
	}
}

// reloadTLS has a running server read its certificates again.
func (r *redis) reloadTLS(t testing.TB) {
	t.Helper()
	r.do(t, "CONFIG", "SET", "tls-cert-file", r.tls.file("server.pem"), "tls-key-file", r.tls.file("server.key"), "tls-ca-cert-file", r.tls.file("ca.pem"))
}
