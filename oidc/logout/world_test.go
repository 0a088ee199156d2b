package logout_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
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

const (
	appHost = "http://app.localhost:8000"
	ownHost = "http://auth.localhost:8000" // the login host
	mine    = ownHost + "/oauth2/sessions"
)

// world is one replica with its provider: all real but the provider, and a store that
// can be down.
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
	log      *buffer
}

// newWorld has a login host when own says so.
func newWorld(t *testing.T, own bool, change ...func(*world, *logout.Config)) *world {
	t.Helper()
	return newWorldAt(t, own, func(*world, *login.Config) {}, change...)
}

func newWorldAt(t *testing.T, own bool, at func(*world, *login.Config), change ...func(*world, *logout.Config)) *world {
	t.Helper()
	w := &world{t: t, log: &buffer{}, store: &faultyStore{Store: session.NewMemory(0)}}
	w.idp = oidctest.Start(t, oidctest.Config{AutoLogin: "alice", AlwaysRefresh: true})
	w.provider = w.newProvider("corp", "mesh", w.idp.Issuer())
	w.ring = check(seal.NewRing([]seal.Key{seal.NewKey(time.Now())}, 0, nil))(t)
	w.sessions = check(session.New(session.Config{Store: w.store, Ring: w.ring, IdleTimeout: time.Hour, AbsoluteTimeout: 12 * time.Hour}))(t)
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	lc := login.Config{
		Prefix: "/oauth2", Hosts: []login.Host{{Name: "app.localhost", Origin: appHost, Providers: []string{"corp"}}},
		Providers: []*oidc.Provider{w.provider}, Sessions: w.sessions, Ring: w.ring, CheckTimeout: 5 * time.Second, Log: log,
	}
	if own {
		lc.LoginHost = &login.Host{Name: "auth.localhost", Origin: ownHost, Providers: []string{"corp"}}
	}
	at(w, &lc)
	w.login = check(login.New(lc))(t)
	cfg := logout.Config{Login: w.login, Sessions: w.sessions, Ring: w.ring, Providers: lc.Providers, Log: log}
	for _, f := range change {
		f(w, &cfg)
	}
	w.logout = check(logout.New(cfg))(t)
	policy := check(authz.NewPolicy([]authz.Rule{{
		Name: "app", Hosts: []string{"app.localhost"}, Require: authz.AnyUser(),
		Sources: []authz.Source{{Provider: "corp", Login: true, Authenticator: w.login.Authenticator("corp", false)}},
	}}))(t)
	w.gate = check(authz.New(authz.Config{Policy: policy, Render: login.Render}))(t)
	t.Cleanup(func() {
		w.login.Wait(5 * time.Second)
		w.logout.Wait(5 * time.Second)
	})
	return w
}

func (w *world) newProvider(name, client, issuer string) *oidc.Provider {
	w.t.Helper()
	return check(oidc.NewProvider(oidc.ProviderConfig{Name: name, Issuer: issuer, Client: &oidc.ClientConfig{
		ID: client, Secret: func() (string, error) { return "mesh-secret", nil }, Scopes: []string{"email", "profile", "groups"},
	}}))(w.t)
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

// faultyStore is a store that can be down, and remembers what it was given.
type faultyStore struct {
	session.Store
	down, endsFail atomic.Bool
	putsFail       atomic.Bool
	hang           atomic.Int32 // so many readings of tokens take as long as they may
	ends           atomic.Int32 // so many endings work before endsFail is set

	mu    sync.Mutex // guards made
	made  []session.Handle
	index []string
}

var errDown = errors.New("store is down")

func (s *faultyStore) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	if s.down.Load() {
		return nil, errDown
	}
	s.mu.Lock()
	s.made, s.index = append(s.made, r.Handle), append(s.index, r.Index...)
	s.mu.Unlock()
	return s.Store.Create(ctx, r)
}

func (s *faultyStore) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	if s.down.Load() {
		return session.Record{}, 0, errDown
	}
	if f&session.FieldTokens != 0 && s.hang.Add(-1) >= 0 {
		<-ctx.Done()
		return session.Record{}, 0, ctx.Err()
	}
	return s.Store.Load(ctx, h, f)
}

func (s *faultyStore) End(ctx context.Context, h session.Handle, index []string) error {
	if s.down.Load() || s.endsFail.Load() {
		return errDown
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.ends.Add(-1) == 0 {
		s.endsFail.Store(true)
	}
	return s.Store.End(ctx, h, index)
}

func (s *faultyStore) List(ctx context.Context, index []string) ([]session.Handle, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.List(ctx, index)
}

func (s *faultyStore) Get(ctx context.Context, name string) ([]byte, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Get(ctx, name)
}

func (s *faultyStore) Put(ctx context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	if s.down.Load() || s.putsFail.Load() {
		return nil, errDown
	}
	return s.Store.Put(ctx, name, value, life)
}

// browser keeps cookies by host.
type browser struct {
	w     *world
	agent string
	jar   map[string]map[string]string
}

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

func (w *world) browser() *browser {
	return &browser{w: w, agent: firefox, jar: map[string]map[string]string{}}
}

// signedIn is a browser that has signed in at an address.
func (w *world) signedIn(address string) *browser {
	w.t.Helper()
	b := w.browser()
	b.open(address)
	if !b.alive(address) {
		w.t.Fatalf("not signed in at %s", address)
	}
	return b
}

func (w *world) as(subject string) { w.idp.Always(oidctest.Authorize, w.idp.As(subject)) }

func (b *browser) cookies(host string) string {
	var pairs []string
	for name, value := range b.jar[host] {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

// copy is a thief with the same cookies.
func (b *browser) copy() *browser {
	c := b.w.browser()
	for host, jar := range b.jar {
		c.jar[host] = map[string]string{}
		for name, value := range jar {
			c.jar[host][name] = value
		}
	}
	return c
}

func (b *browser) session(host string) string { return b.jar[host]["__Host-gh_corp"] }

var navigate = []authz.Field{{Name: "accept", Value: "text/html"}, {Name: "sec-fetch-mode", Value: "navigate"}, {Name: "sec-fetch-dest", Value: "document"}}

// submit is what a browser says when a form of the same origin is sent.
func submit(origin string) []authz.Field {
	return append(append([]authz.Field{}, navigate...), authz.Field{Name: "sec-fetch-site", Value: "same-origin"}, authz.Field{Name: "origin", Value: origin})
}

// send sends one request to us. A nil answer means that the application was reached.
func (b *browser) send(method, address string, header []authz.Field) *authz.Response {
	b.w.t.Helper()
	u := check(url.Parse(address))(b.w.t)
	header = append([]authz.Field{{Name: "user-agent", Value: b.agent}}, header...)
	if c := b.cookies(u.Hostname()); c != "" {
		header = append(header, authz.Field{Name: "cookie", Value: c})
	}
	r := check(authz.NewRequest(authz.Raw{
		Method: method, Authority: u.Host, Target: u.RequestURI(), Header: header, ID: "req-1", Peer: authz.Peer{Client: "192.0.2.7"},
	}))(b.w.t)
	var out authz.Response
	if e := b.w.endpoint(r.Host, r.Path); e != nil {
		out = e(b.w.t.Context(), r)
	} else {
		d := b.w.gate.Authorize(b.w.t.Context(), r)
		if d.Outcome == authz.Allow {
			return nil
		}
		out = d.Response
	}
	b.keep(u.Hostname(), out)
	b.w.checkAnswer(address, out)
	return &out
}

func (w *world) endpoint(host, path string) authz.Endpoint {
	if e := w.logout.Endpoint(host, path); e != nil {
		return e
	}
	return w.login.Endpoint(host, path)
}

func (b *browser) keep(host string, r authz.Response) {
	if b.jar[host] == nil {
		b.jar[host] = map[string]string{}
	}
	for _, f := range r.Header {
		if f.Name != "set-cookie" {
			continue
		}
		name, rest, _ := strings.Cut(f.Value, "=")
		value, attributes, _ := strings.Cut(rest, ";")
		if strings.Contains(attributes, "Max-Age=0") {
			delete(b.jar[host], name)
		} else {
			b.jar[host][name] = value
		}
	}
}

// checkAnswer checks what every answer of ours must have (W1 to W6).
func (w *world) checkAnswer(address string, r authz.Response) {
	w.t.Helper()
	if field(r, "cache-control") != "no-store" || field(r, "access-control-allow-origin") != "" || field(r, "referrer-policy") == "" || field(r, "x-content-type-options") != "nosniff" {
		w.t.Errorf("%s: answer %d may be cached or shared: %v", address, r.Status, r.Header)
	}
	if !strings.HasPrefix(field(r, "content-type"), "text/html") {
		return
	}
	policy := field(r, "content-security-policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") ||
		field(r, "x-frame-options") != "DENY" || bytes.Contains(r.Body, []byte("<script")) || !strings.Contains(field(r, "content-type"), "charset=utf-8") {
		w.t.Errorf("%s: unsafe page: %v\n%s", address, r.Header, r.Body)
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

// open loads an address and follows where it leads, through the provider, too. It
// returns the last address and what was there; nil: the application.
func (b *browser) open(address string, more ...authz.Field) (string, *authz.Response) {
	b.w.t.Helper()
	for range 12 {
		if strings.HasPrefix(address, b.w.idp.Issuer()) {
			address = b.atProvider(address)
			continue
		}
		out := b.send("GET", address, append(append([]authz.Field{}, navigate...), more...))
		if out == nil || out.Status != http.StatusFound && out.Status != http.StatusSeeOther {
			return address, out
		}
		address = check(check(url.Parse(address))(b.w.t).Parse(field(*out, "location")))(b.w.t).String()
	}
	b.w.t.Fatalf("goes round in circles, at last %s", address)
	return "", nil
}

// alive reports whether an address shows what is behind the login.
func (b *browser) alive(address string) bool {
	b.w.t.Helper()
	out := b.send("GET", address, navigate)
	return out == nil || out.Status == http.StatusOK
}

func (b *browser) atProvider(address string) string {
	b.w.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req := check(http.NewRequestWithContext(b.w.t.Context(), http.MethodGet, address, http.NoBody))(b.w.t)
	res := check(client.Do(req))(b.w.t)
	defer res.Body.Close()
	if res.Header.Get("Location") == "" {
		b.w.t.Fatalf("the provider answered %d without a location to %s", res.StatusCode, address)
	}
	return res.Header.Get("Location")
}

type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *buffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *buffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// logged reports whether one line of the log holds all parts.
func (w *world) logged(parts ...string) bool {
next:
	for line := range strings.Lines(w.log.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		return true
	}
	return false
}

// clean checks that nothing secret was logged or said (V2).
func (w *world) clean(texts ...string) {
	w.t.Helper()
	for _, secret := range w.idp.Secrets() {
		for _, text := range append(texts, w.log.String()) {
			if strings.Contains(text, secret) {
				w.t.Errorf("%.20q… is in: %.300s", secret, text)
			}
		}
	}
}
