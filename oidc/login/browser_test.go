package login_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/logout"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const host = "app.localhost"

// world is one replica with its provider: real Login, real Manager over the memory
// store, a fake provider.
type world struct {
	t        *testing.T
	idp      *oidctest.Server
	provider *oidc.Provider
	ring     *seal.Ring
	store    *faultyStore
	sessions *session.Manager
	login    *login.Login
	logout   *logout.Logout
	gate     *authz.Authorizer
	log      *syncBuffer
	skew     atomic.Int64 // added to our clock
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

func newWorld(t *testing.T, change ...func(*login.Config)) *world {
	t.Helper()
	w := &world{t: t, log: &syncBuffer{}}
	w.idp = oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	w.provider = w.newProvider("corp", w.idp.Issuer())
	w.ring = check(seal.NewRing([]seal.Key{seal.NewKey(time.Now())}, 0, nil))(t)
	w.store = &faultyStore{Store: session.NewMemory(0)}
	w.sessions = check(session.New(session.Config{Store: w.store, Ring: w.ring, IdleTimeout: time.Hour, AbsoluteTimeout: 12 * time.Hour}))(t)
	cfg := w.config()
	for _, f := range change {
		f(&cfg)
	}
	w.assemble(cfg)
	return w
}

func (w *world) config() login.Config {
	return login.Config{
		Prefix: "/oauth2", Hosts: []login.Host{{Name: host, Origin: "http://app.localhost:8000", Providers: []string{"corp"}}},
		Providers: []*oidc.Provider{w.provider}, Sessions: w.sessions, Ring: w.ring, CheckTimeout: 5 * time.Second,
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: w.now,
	}
}

func (w *world) newProvider(name, issuer string) *oidc.Provider {
	w.t.Helper()
	return check(oidc.NewProvider(oidc.ProviderConfig{Name: name, Issuer: issuer, Client: &oidc.ClientConfig{
		ID: "mesh", Secret: func() (string, error) { return "mesh-secret", nil }, Scopes: []string{"email", "profile", "groups"},
	}}))(w.t)
}

func (w *world) assemble(cfg login.Config) {
	w.t.Helper()
	w.login = check(login.New(cfg))(w.t)
	w.logout = check(logout.New(logout.Config{Login: w.login, Sessions: w.sessions, Ring: w.ring, Log: cfg.Log}))(w.t)
	policy := check(authz.NewPolicy([]authz.Rule{
		{Name: "admin", Hosts: []string{host}, Paths: []string{"/admin/**"}, Sources: []authz.Source{w.source()}, Require: authz.Groups("admins")},
		{Name: "app", Hosts: []string{host}, Sources: []authz.Source{w.source()}, Require: authz.AnyUser()},
	}))(w.t)
	w.gate = check(authz.New(authz.Config{Policy: policy, Endpoints: w.endpoint, Render: login.Render}))(w.t)
	w.t.Cleanup(func() { w.login.Wait(5 * time.Second) })
}

func (w *world) source() authz.Source {
	return authz.Source{Provider: "corp", Login: true, Authenticator: w.login.Authenticator("corp", false)}
}

func (w *world) endpoint(host, path string) authz.Endpoint {
	if e := w.logout.Endpoint(host, path); e != nil {
		return e
	}
	return w.login.Endpoint(host, path)
}

func check[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// faultyStore is a store that can be down.
type faultyStore struct {
	session.Store
	down, full           atomic.Bool
	life                 atomic.Int64 // of the last note
	creates, loads, ends atomic.Int64
	puts, takes          atomic.Int64
}

var errStoreDown = errors.New("store is down")

func (s *faultyStore) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	s.creates.Add(1)
	if s.down.Load() {
		return nil, errStoreDown
	}
	return s.Store.Create(ctx, r)
}

func (s *faultyStore) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	s.loads.Add(1)
	if s.down.Load() {
		return session.Record{}, 0, errStoreDown
	}
	return s.Store.Load(ctx, h, f)
}

func (s *faultyStore) End(ctx context.Context, h session.Handle, index []string) error {
	s.ends.Add(1)
	if s.down.Load() {
		return errStoreDown
	}
	return s.Store.End(ctx, h, index)
}

func (s *faultyStore) Get(ctx context.Context, name string) ([]byte, error) {
	if s.down.Load() {
		return nil, errStoreDown
	}
	return s.Store.Get(ctx, name)
}

func (s *faultyStore) Put(ctx context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	s.puts.Add(1)
	s.life.Store(int64(life))
	switch {
	case s.down.Load():
		return nil, errStoreDown
	case s.full.Load():
		return nil, session.ErrFull
	}
	return s.Store.Put(ctx, name, value, life)
}

func (s *faultyStore) Take(ctx context.Context, name string) ([]byte, error) {
	s.takes.Add(1)
	if s.down.Load() {
		return nil, errStoreDown
	}
	return s.Store.Take(ctx, name)
}

// browser keeps cookies as a browser does and checks those it is given (C3).
type browser struct {
	w   *world
	mu  sync.Mutex // guards jar
	jar map[string]string
}

func (w *world) browser() *browser { return &browser{w: w, jar: make(map[string]string)} }

func (b *browser) cookies() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pairs []string
	for name, value := range b.jar {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

func (b *browser) names(prefix string) (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.jar {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// copy is another browser with the same cookies.
func (b *browser) copy() *browser {
	c := b.w.browser()
	for name, value := range b.jar {
		c.jar[name] = value
	}
	return c
}

func (b *browser) store(r authz.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range r.Header {
		if f.Name != "set-cookie" {
			continue
		}
		name, rest, _ := strings.Cut(f.Value, "=")
		value, attributes, _ := strings.Cut(rest, ";")
		for _, want := range []string{"; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"} {
			if !strings.Contains(";"+attributes+";", want+";") {
				b.w.t.Errorf("cookie %s has no %q: %s", name, want, attributes)
			}
		}
		if !strings.HasPrefix(name, "__Host-gh_") || strings.Contains(attributes, "Domain") || len(f.Value) > 4096 {
			b.w.t.Errorf("cookie %s breaks the rules of __Host-: %s", name, attributes)
		}
		if strings.Contains(attributes, "Max-Age=0") {
			delete(b.jar, name)
		} else {
			b.jar[name] = value
		}
	}
}

var navigate = []authz.Field{{Name: "accept", Value: "text/html"}, {Name: "sec-fetch-mode", Value: "navigate"}, {Name: "sec-fetch-dest", Value: "document"}}

// get loads an address in a tab and keeps the cookies.
func (b *browser) get(target string, more ...authz.Field) authz.Decision {
	b.w.t.Helper()
	return b.send("GET", target, append(append([]authz.Field{}, navigate...), more...))
}

func (b *browser) send(method, target string, header []authz.Field) authz.Decision {
	b.w.t.Helper()
	if c := b.cookies(); c != "" {
		header = append([]authz.Field{{Name: "cookie", Value: c}}, header...)
	}
	r, err := authz.NewRequest(authz.Raw{Method: method, Authority: host + ":8000", Target: target, Header: header, ID: "req-1"})
	var d authz.Decision
	if err != nil {
		d = b.w.gate.Reject(r, err)
	} else {
		d = b.w.gate.Authorize(b.w.t.Context(), r)
	}
	b.store(d.Response)
	if d.Outcome != authz.Allow {
		b.w.checkResponse(target, d.Response)
	}
	return d
}

// checkResponse checks what every answer of ours must have (W*).
func (w *world) checkResponse(target string, r authz.Response) {
	w.t.Helper()
	if field(r, "cache-control") != "no-store" || field(r, "access-control-allow-origin") != "" {
		w.t.Errorf("%s: answer %d may be cached or shared: %v", target, r.Status, r.Header)
	}
	html := strings.HasPrefix(field(r, "content-type"), "text/html")
	if html && (!strings.Contains(field(r, "content-security-policy"), "default-src 'none'") || !strings.Contains(field(r, "content-security-policy"), "frame-ancestors 'none'") ||
		field(r, "x-content-type-options") != "nosniff" || field(r, "referrer-policy") == "" || bytes.Contains(r.Body, []byte("<script"))) {
		w.t.Errorf("%s: unsafe page: %v\n%s", target, r.Header, r.Body)
	}
	if r.Status == 307 || r.Status == 308 {
		w.t.Errorf("%s: redirect %d repeats a request elsewhere", target, r.Status)
	}
}

func field(r authz.Response, name string) string {
	for _, f := range r.Header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// begin opens an address without a session and follows to the provider: it returns
// the callback's target (path and query).
func (b *browser) begin(target string) string {
	b.w.t.Helper()
	d := b.get(target)
	if d.Response.Status != 302 {
		b.w.t.Fatalf("GET %s = %d, want 302\n%s", target, d.Response.Status, d.Response.Body)
	}
	return b.start(field(d.Response, "location"))
}

func (b *browser) start(target string) string {
	b.w.t.Helper()
	d := b.get(target)
	if d.Response.Status != 302 {
		b.w.t.Fatalf("GET %s = %d, want 302\n%s", target, d.Response.Status, d.Response.Body)
	}
	return b.atProvider(field(d.Response, "location"))
}

// atProvider lets the provider sign in whoever it does, and returns the target of the
// callback that it sends the browser to.
func (b *browser) atProvider(address string) string {
	b.w.t.Helper()
	to := b.w.atProvider(address)
	target, ok := strings.CutPrefix(to, "http://app.localhost:8000")
	if !ok {
		b.w.t.Fatalf("the provider sends the browser to %q", to)
	}
	return target
}

// signIn does a whole login and ends up at target.
func (b *browser) signIn(target string) {
	b.w.t.Helper()
	b.lands(b.begin(target), target)
	if d := b.get(target); d.Outcome != authz.Allow {
		b.w.t.Fatalf("GET %s after the login = %v %s", target, d.Outcome, d.Reason)
	}
}

// lands checks that a callback signs in and returns to target.
func (b *browser) lands(callback, target string) {
	b.w.t.Helper()
	d := b.get(callback)
	if d.Response.Status != 303 || field(d.Response, "location") != target {
		b.w.t.Fatalf("callback = %d to %q, want 303 to %q\n%s", d.Response.Status, field(d.Response, "location"), target, d.Response.Body)
	}
}

// param changes one parameter of a callback's target.
func param(target, name, value string) string {
	path, raw, _ := strings.Cut(target, "?")
	q, _ := url.ParseQuery(raw)
	if value == "" {
		q.Del(name)
	} else {
		q.Set(name, value)
	}
	return path + "?" + q.Encode()
}

type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
