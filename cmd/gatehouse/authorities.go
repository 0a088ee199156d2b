package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// transport reaches a provider.
func transport(cfg *config.Config, entry *config.Provider, log *slog.Logger) (http.RoundTripper, error) {
	if entry.CAFile == "" {
		return trusting(nil), nil
	}
	a := &authorities{provider: entry.Name, path: cfg.Path(entry.CAFile), log: log}
	return a, a.read()
}

// trusting trusts the authorities in pool; nil: those of the system.
func trusting(pool *x509.CertPool) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return t
}

// authorities is a transport that trusts the authorities of a file beside those of
// the system. The file is looked at for every request, of which there are few, so
// that an authority can be replaced without a restart and without losing the keys
// that were read. What cannot be used leaves what was read last in use. Safe for
// concurrent use.
type authorities struct {
	provider, path string
	log            *slog.Logger

	mu      sync.Mutex // guards the fields below
	content []byte
	current *http.Transport
	said    string // the last complaint; empty: the file is in use
}

// RoundTrip implements http.RoundTripper.
func (a *authorities) RoundTrip(r *http.Request) (*http.Response, error) {
	return a.transport().RoundTrip(r)
}

func (a *authorities) transport() *http.Transport {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.read()
	if err == nil {
		a.said = ""
		return a.current
	}
	if err.Error() != a.said {
		a.said = err.Error()
		a.log.Error("ca_file cannot be used; what was read last stays", "provider", a.provider, "error", a.said)
	}
	return a.current
}

// read is called with mu held, or before a is shared.
func (a *authorities) read() error {
	content, err := config.ReadFile(a.path)
	if err != nil {
		return err
	}
	if bytes.Equal(content, a.content) {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil { // a system without authorities of its own
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(content) {
		return fmt.Errorf("%s holds no certificate in PEM", a.path)
	}
	if a.current != nil {
		a.current.CloseIdleConnections() // made with trust in the old ones
		a.log.Info("ca_file read again", "provider", a.provider)
	}
	a.content, a.current = content, trusting(pool)
	return nil
}
