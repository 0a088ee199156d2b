package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

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
	serverConfig, err := serverTLS(cfg, cfg.Listen.GRPC.TLS, slog.New(slog.DiscardHandler), "h2")
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
	time.Sleep(recheck + 100*time.Millisecond)
	if got := served(t, l.Addr().String()); got != "first" {
		t.Errorf("with a broken file %q is served, want what was good last", got)
	}
	writePair(t, dir, "second")
	time.Sleep(recheck + 100*time.Millisecond)
	if got := served(t, l.Addr().String()); got != "second" {
		t.Errorf("after the change %q is served", got)
	}
}
