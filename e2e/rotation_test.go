package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// secretGate stands before an oidctest and accepts several secrets of its one client
// at a time, as a provider does whose client's secret is being changed.
type secretGate struct {
	provider http.Handler
	real     string // that the provider knows

	mu    sync.Mutex
	valid map[string]int // how often each was used; guarded by mu
}

func (g *secretGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id, secret, ok := r.BasicAuth(); ok {
		if !g.use(secret) {
			w.Header().Set("content-type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client"})
			return
		}
		r.SetBasicAuth(id, g.real)
	}
	g.provider.ServeHTTP(w, r)
}

func (g *secretGate) use(secret string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.valid[secret]
	if ok {
		g.valid[secret]++
	}
	return ok
}

func (g *secretGate) accept(secret string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid[secret] = 0
}

// revoke forgets a secret and returns how often it was used.
func (g *secretGate) revoke(secret string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer delete(g.valid, secret)
	return g.valid[secret]
}

// gatedProvider is an oidctest behind a secretGate.
func gatedProvider(t testing.TB, cfg oidctest.Config) (*oidctest.Server, *secretGate) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Issuer = "http://" + l.Addr().String()
	p, err := oidctest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	secret := cfg.Clients[0].Secret
	g := &secretGate{provider: p, real: secret, valid: map[string]int{secret: 0}}
	srv := &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { srv.Close() })
	return &oidctest.Server{Provider: p, Addr: l.Addr().String()}, g
}

// reread is longer than it takes Gatehouse to notice a changed file.
const reread = 3 * time.Second

// Every secret is replaced while people work and sign in, and nobody is refused.
func TestRotationUnderLoad(t *testing.T) {
	s := newStack(t, fixture{redis: true, tls: true, gate: true, replicas: 3, offline: true, sessions: []string{"activation_delay: 4s"}})
	s.envoy.awaitHealthy(t, 3)
	s.idp.Always(oidctest.Token, byGrant(lives(4), lives(4))) // refreshes all the time
	c := s.gather(t, appHost, 3)
	stop := load(t, s.port, 8, 10*time.Millisecond, "GET /load HTTP/1.1\r\nhost: "+appHost+"\r\n"+c.cookies[0]+"\r\n\r\n")
	phase := func(name string, act func()) {
		t.Helper()
		c.during(t, name, false, time.Second, func() {
			act()
			s.session(t, appHost, "root") // a login works, and its session everywhere
		}).only(t, name, allowed)
	}
	phase("before", func() {})
	phase("sealing key", func() { s.rotateKey(t) })
	phase("client secret", func() { s.rotateClientSecret(t) })
	phase("redis password", func() { s.rotateRedisPassword(t) })
	phase("certificates", func() { s.rotateCertificates(t) })
	n, bad := stop()
	t.Logf("through Envoy: %d requests, %d failed", n, len(bad))
	if n < 500 || len(bad) > 0 {
		t.Errorf("through Envoy: %d of %d requests failed: %.3q", len(bad), n, bad)
	}
}

// rotateKey adds a sealing key and waits until it seals.
func (s *stack) rotateKey(t *testing.T) {
	made := write(t, "second", newKey(t))
	if err := os.Rename(made, filepath.Join(s.keyDir, "second")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4*time.Second + reread) // activation_delay
}

func (s *stack) rotateClientSecret(t *testing.T) {
	next := "secret-" + random()
	note("client secret", next)
	s.gate.accept(next)
	replace(t, s.secretFile, []byte(next+"\n"))
	time.Sleep(reread)
	s.gate.revoke(s.client.secret)
	time.Sleep(5 * time.Second) // every session is renewed with the new one
	if n := s.gate.revoke(next); n == 0 {
		t.Error("the new client secret was never used")
	}
	s.gate.accept(next)
}

func (s *stack) rotateRedisPassword(t *testing.T) {
	old, next := s.redis.password, "redis-"+random()
	note("redis password", next)
	s.redis.do(t, "ACL", "SETUSER", "default", ">"+next)
	replace(t, s.redisFile, []byte(next))
	time.Sleep(reread)
	s.redis.password = next
	s.redis.do(t, "ACL", "SETUSER", "default", "<"+old)
	s.reconnect(t)
}

// reconnect has Redis close every connection, so that new ones are made.
func (s *stack) reconnect(t *testing.T) {
	t.Helper()
	s.redis.do(t, "CLIENT", "KILL", "TYPE", "normal")
	s.redis.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
	s.redis.monitor(t)
	time.Sleep(time.Second)
}

func (s *stack) rotateCertificates(t *testing.T) {
	s.tls.addRoot(t) // everybody learns of it first
	s.redis.reloadTLS(t)
	time.Sleep(reread)
	s.tls.issue(t)
	s.redis.reloadTLS(t)
	time.Sleep(reread)
	s.reconnect(t)
	for i, g := range s.replicas {
		fresh := newChecks(t, g.grpc, credentials.NewTLS(s.tls.newest()))
		if v := fresh.get(t.Context(), openHost, "/tls"); v.outcome() != allowed {
			t.Errorf("replica %d, to who trusts the new root alone: %v", i, v)
		}
	}
}

// The gate knows which secrets count.
func TestSecretGateHarness(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{gate: true})
	s.session(t, appHost, "alice")
	if n := s.gate.revoke(s.client.secret); n == 0 {
		t.Error("a login used no client secret")
	}
	a := newAgent(t)
	if p := a.signIn(s.url(appHost, "/refused"), "alice"); p.Status < 400 {
		t.Errorf("a login with a client secret that was revoked ended at %.80s with %d", p.url, p.Status)
	}
	s.gate.accept(s.client.secret)
	s.session(t, appHost, "alice")
	neverArrived(t, s.app, "/refused")
}
