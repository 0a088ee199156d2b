package admin_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const issuer = "https://idp.example.com"

// sink is a log that tests can read while it is written.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// last returns the last line about a call, as soon as there are n of them: a line may be
// written after the answer was sent.
func (s *sink) last(t *testing.T, n int) map[string]any {
	t.Helper()
	for range 500 {
		var lines []string
		for line := range strings.Lines(s.String()) {
			if strings.Contains(line, `"msg":"admin call"`) {
				lines = append(lines, line)
			}
		}
		if len(lines) >= n {
			var fields map[string]any
			if err := json.Unmarshal([]byte(lines[n-1]), &fields); err != nil {
				t.Fatal(err)
			}
			return fields
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log does not hold %d calls:\n%s", n, s)
	return nil
}

// shaky is a store that can be told to fail.
type shaky struct {
	session.Store
	mu   sync.Mutex // guards what follows
	list error
	end  error
	left int // Ends that still work, when end is set
}

func (s *shaky) List(ctx context.Context, index []string) ([]session.Handle, error) {
	s.mu.Lock()
	err := s.list
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.Store.List(ctx, index)
}

func (s *shaky) End(ctx context.Context, h session.Handle, index []string) error {
	s.mu.Lock()
	err, left := s.end, s.left
	s.left--
	s.mu.Unlock()
	if err != nil && left <= 0 {
		return err
	}
	return s.Store.End(ctx, h, index)
}

func (s *shaky) fail(list, end error, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.end, s.left = list, end, left
}

func manager(t testing.TB, store session.Store) *session.Manager {
	t.Helper()
	ring, err := seal.NewRing([]seal.Key{seal.NewKey(time.Now())}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(session.Config{Store: store, Ring: ring, IdleTimeout: time.Hour, AbsoluteTimeout: 12 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// signIn makes a session of a user.
func signIn(t testing.TB, m *session.Manager, subject, device string) session.ID {
	t.Helper()
	id, _, err := m.Create(t.Context(), rand.Text(), session.Session{
		Identity: &authz.Identity{Provider: "corp", Issuer: issuer, Subject: subject},
		Summary:  session.Summary{Device: device, Address: "192.0.2.7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// alive reports whether a session can still be used.
func alive(t *testing.T, m *session.Manager, id session.ID) bool {
	t.Helper()
	_, err := m.Load(t.Context(), id, false)
	return err == nil
}

// office is a running Server with the sessions behind it.
type office struct {
	store   *shaky
	manager *session.Manager
	log     *sink
}

func current(m *session.Manager) func() admin.Current {
	return func() admin.Current {
		return admin.Current{Sessions: m, Issuers: map[string]string{"corp": issuer}}
	}
}

// open serves cfg on l.
func open(t *testing.T, l net.Listener, cfg admin.Config) *office {
	t.Helper()
	o := &office{store: &shaky{Store: session.NewMemory(0)}, log: &sink{}}
	o.manager = manager(t, o.store)
	if cfg.Current == nil {
		cfg.Current = current(o.manager)
	}
	cfg.Log = slog.New(slog.NewJSONHandler(o.log, nil))
	s, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return o
}

// onSocket serves cfg on a unix socket, and returns a connection to it.
func onSocket(t *testing.T, cfg admin.Config) (*office, *grpc.ClientConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := admin.ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, l, cfg)
	return o, dial(t, "unix://"+path, insecure.NewCredentials())
}

// onTCP serves cfg on a port of this machine, and returns its address.
func onTCP(t *testing.T, cfg admin.Config) (*office, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return open(t, l, cfg), l.Addr().String()
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func at(provider, subject string) *adminv1.User {
	return &adminv1.User{At: &adminv1.User_Provider{Provider: provider}, Subject: subject}
}

func atIssuer(issuer, subject string) *adminv1.User {
	return &adminv1.User{At: &adminv1.User_Issuer{Issuer: issuer}, Subject: subject}
}

// certificate is self-signed: its own authority.
func certificate(t *testing.T, name, id string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if id != "" {
		uri, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{uri}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
