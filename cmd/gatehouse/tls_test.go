package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// writePair writes a self-signed certificate for name.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// identify writes a self-signed certificate with a SPIFFE ID, which is its own authority.
func identify(t *testing.T, dir, name, id string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}
}

// S17: whoever may call Check may ask for identities, so only the listed callers may.
func TestClientIDs(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "gatehouse")
	envoy := identify(t, dir, "envoy.pem", "spiffe://mesh/ns/ingress/sa/envoy")
	other := identify(t, dir, "other.pem", "spiffe://mesh/ns/apps/sa/app")
	cas, err := os.ReadFile(filepath.Join(dir, "other.pem"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "envoy.pem"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(cas); err != nil {
		t.Fatal(err)
	}
	f.Close()
	g := start(t, fmt.Sprintf(`
listen:
  grpc: {address: "127.0.0.1:0", tls: {cert_file: %[1]s/tls.crt, key_file: %[1]s/tls.key, client_ca_file: %[1]s/envoy.pem, client_ids: ["spiffe://mesh/ns/ingress/sa/envoy"]}}
rules: [{name: open, hosts: [a.example.com], allow: anonymous}]
`, dir))
	stranger := identify(t, dir, "stranger.pem", "spiffe://mesh/ns/ingress/sa/envoy") // the right name, by nobody's authority
	for name, c := range map[string]struct {
		certs []tls.Certificate
		want  bool
	}{
		"listed":      {[]tls.Certificate{envoy}, true},
		"not listed":  {[]tls.Certificate{other}, false},
		"self-signed": {[]tls.Certificate{stranger}, false},
		"none":        {nil, false},
	} {
		conn, err := grpc.NewClient(g.address("grpc"), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: c.certs})))
		if err != nil {
			t.Fatal(err)
		}
		_, err = authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{})
		if (err == nil) != c.want {
			t.Errorf("%s: %v, want answered %v", name, err, c.want)
		}
		conn.Close()
	}
}

// served is the name in the certificate that a client sees.
func served(t *testing.T, address string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cfg, err := config.Parse(filepath.Join(dir, "gatehouse.yaml"), []byte(
		"listen: {grpc: {address: ':0', tls: {cert_file: tls.crt, key_file: tls.key}}}\nrules: [{name: open, hosts: [a.example.com], allow: anonymous}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, dir, "first")
	log := &sink{}
	serverConfig, err := serverTLS(cfg, cfg.Listen.GRPC.TLS, slog.New(slog.NewJSONHandler(log, nil)), "h2")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				_ = c.(*tls.Conn).Handshake()
				c.Close()
			}(conn)
		}
	}()

	if got := served(t, l.Addr().String()); got != "first" {
		t.Fatalf("served %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("half a fil"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		time.Sleep(recheck + 100*time.Millisecond)
		if got := served(t, l.Addr().String()); got != "first" {
			t.Errorf("with a broken file %q is served, want what was good last", got)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("a broken file was spoken of %d times in two looks", n)
	}
	if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(recheck + 100*time.Millisecond)
	if got := served(t, l.Addr().String()); got != "first" {
		t.Errorf("with a missing file %q is served, want what was good last", got)
	}
	writePair(t, dir, "second")
	time.Sleep(recheck + 100*time.Millisecond)
	if got := served(t, l.Addr().String()); got != "second" {
		t.Errorf("after the change %q is served", got)
	}
}
