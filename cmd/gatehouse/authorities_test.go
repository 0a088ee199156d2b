package main

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// selfSigned serves HTTPS with a certificate that nobody else vouches for, and
// returns its address and what has to be trusted.
func selfSigned(t *testing.T, name string) (address string, ca []byte) {
	t.Helper()
	dir := t.TempDir()
	writePair(t, dir, name)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "127.0.0.1", name, 1), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
}

// D5: ca_file is trusted beside the system's authorities and read again when it
// changes; what cannot be used changes nothing and is said once.
func TestD5AuthoritiesOfAProvider(t *testing.T) {
	const alone = "GATEHOUSE_TEST_ALONE" // a process reads the system's authorities once
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestD5AuthoritiesOfAProvider$", "-test.count=1")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	first, firstCA := selfSigned(t, "localhost")
	second, secondCA := selfSigned(t, "localhost")
	public, publicCA := selfSigned(t, "localhost")
	dir := t.TempDir()
	put := func(name string, content []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	t.Setenv("SSL_CERT_FILE", put("system.pem", publicCA))
	t.Setenv("SSL_CERT_DIR", dir+"/none")
	file := put("ca.pem", firstCA)
	var said bytes.Buffer
	entry := &config.Provider{Name: "cluster", CAFile: file}
	base, err := transport(&config.Config{}, entry, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: base}
	expect := func(when string, firstOK, secondOK bool) {
		t.Helper()
		for address, want := range map[string]bool{first: firstOK, second: secondOK, public: true} {
			resp, err := client.Get(address)
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != want {
				t.Errorf("%s: %s: %v, want trust %v", when, map[string]string{first: "first", second: "second", public: "public"}[address], err, want)
			}
		}
	}
	expect("at start", true, false)
	put("ca.pem", secondCA)
	expect("replaced", false, true)
	put("ca.pem", []byte("half a fil"))
	expect("broken", false, true)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("missing", false, true)
	put("ca.pem", append(firstCA, secondCA...))
	expect("both", true, true)
	if n := strings.Count(said.String(), "ca_file cannot be used"); n != 2 {
		t.Errorf("%d complaints, want one about each kind of trouble:\n%s", n, said.String())
	}
	if n := strings.Count(said.String(), "ca_file read again"); n != 2 {
		t.Errorf("read again %d times, want 2:\n%s", n, said.String())
	}
	if _, err := transport(&config.Config{}, &config.Provider{CAFile: put("junk.pem", []byte("junk"))}, slog.Default()); err == nil {
		t.Error("a first file without a certificate is accepted")
	}
}
