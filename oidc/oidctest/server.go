package oidctest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

// Server is a Provider on a port.
type Server struct {
	*Provider
	Addr string // host:port as it can be given to Serve again
	http *http.Server
}

// Serve listens on addr, "127.0.0.1:0" or "localhost:0" or with a fixed port,
// and sets the issuer to http://HOST:PORT unless the Config named one. A Server
// that was closed can be brought back: idp.Serve(srv.Addr).
func (p *Provider) Serve(addr string) (*Server, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host != "127.0.0.1" && host != "localhost" {
		return nil, fmt.Errorf("address %q: 127.0.0.1:PORT or localhost:PORT, a test provider does not leave the machine", addr)
	}
	// localhost may mean ::1 as well; one address is enough, every client falls back.
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", addr)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s := &Server{Provider: p, Addr: net.JoinHostPort(host, port)}
	p.mu.Lock()
	if p.issuer == "" {
		p.issuer = "http://" + s.Addr
	}
	p.mu.Unlock()
	s.http = &http.Server{
		Handler: p, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // a client that hangs up is what many tests are about
	}
	go func() { _ = s.http.Serve(l) }() // ends with Close
	return s, nil
}

// Close closes the port and every connection at once. The Provider keeps its state.
func (s *Server) Close() { _ = s.http.Close() }

// T is what Start needs of *testing.T and its kind.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start serves a new Provider on 127.0.0.1, or where the Issuer of cfg says
// (http://localhost:PORT), until the test ends.
func Start(t T, cfg Config) *Server {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatalf("oidctest: %v", err)
	}
	addr := "127.0.0.1:0"
	if rest, ok := strings.CutPrefix(cfg.Issuer, "http://"); ok {
		addr, _, _ = strings.Cut(rest, "/")
	}
	s, err := p.Serve(addr)
	if err != nil {
		t.Fatalf("oidctest: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}
