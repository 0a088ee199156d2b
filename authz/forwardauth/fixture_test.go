package forwardauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/forwardauth"
)

const (
	good  = authz.CookiePrefix + "corp=opens"
	proxy = "10.0.0.7"
)

// sessions recognises one cookie, as a login flow does, without cryptography.
type sessions struct{ tokens bool }

func (s sessions) Authenticate(ctx context.Context, r *authz.Request) (*authz.Identity, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("no deadline")
	}
	switch values := r.Header.Cookies(authz.CookiePrefix+"corp", 2); {
	case len(values) == 0:
		return nil, authz.ErrNoCredentials
	case values[0] == "down":
		return nil, errors.New("store is down")
	case values[0] != "opens":
		return nil, authz.ErrBadCredentials
	}
	id := &authz.Identity{
		Provider: "corp", Issuer: "https://idp.test", Subject: "alice", User: "alice",
		Email: "alice@good.test", EmailVerified: true, Groups: []string{"staff"}, Session: "s-7f3a",
	}
	if s.tokens {
		id.Tokens = &authz.Tokens{Access: "at-1", ID: "idt-1"}
	}
	return id, nil
}

func (sessions) Challenge(r *authz.Request, _ error) authz.Challenge {
	return authz.Challenge{Location: "/oauth2/start?rd=" + strings.ReplaceAll(r.Path, "/", "%2F"), WWWAuthenticate: `Cookie cookie-name="x"`}
}

// world is a Handler with what it told.
type world struct {
	t      testing.TB
	h      *forwardauth.Handler
	mu     sync.Mutex // guards what follows
	faults []forwardauth.Fault
	seen   []*authz.Request
	why    []authz.Decision
}

func newWorld(t testing.TB, profile forwardauth.Profile, change func(*forwardauth.Config)) *world {
	t.Helper()
	w := &world{t: t}
	login := func(tokens bool) []authz.Source {
		return []authz.Source{{Provider: "corp", Login: true, Authenticator: sessions{tokens}}}
	}
	policy, err := authz.NewPolicy([]authz.Rule{
		{Name: "public", Hosts: []string{"app.test"}, Paths: []string{"/public/**"}, Methods: []string{"GET"}, Anonymous: true},
		{Name: "post", Hosts: []string{"app.test"}, Paths: []string{"/post"}, Methods: []string{"POST"}, Anonymous: true},
		{Name: "app", Hosts: []string{"app.test"}, Sources: login(false), Require: authz.AnyUser()},
		{Name: "tokens", Hosts: []string{"tokens.test"}, Sources: login(true), Require: authz.AnyUser(), Forward: authz.Forward{AccessToken: true, IDToken: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := authz.New(authz.Config{
		Policy: policy, Passage: authz.Passage{Authority: "auth.test", Prefix: "/oauth2"},
		Endpoints: func(host, path string) authz.Endpoint {
			if host != "app.test" || !strings.HasPrefix(path, "/oauth2/") {
				return nil
			}
			return func(_ context.Context, r *authz.Request) authz.Response {
				if r.Path == "/oauth2/page" {
					return authz.Response{Status: 200, Body: []byte("a page")}
				}
				return authz.Response{Status: 303, Header: []authz.Field{{Name: "location", Value: "/deep"}, {Name: "set-cookie", Value: "a=1"}, {Name: "set-cookie", Value: "b=2"}}}
			}
		},
		Observe: func(r *authz.Request, d *authz.Decision, _ time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen, w.why = append(w.seen, r), append(w.why, *d)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := forwardauth.Config{
		Current: func() forwardauth.Current {
			return forwardauth.Current{Authorizer: a, Prefix: "/oauth2", Origin: func(host string) string {
				if host == "nowhere.test" {
					return ""
				}
				return "https://" + host
			}}
		},
		Profile: profile, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Miswired: func(f *forwardauth.Fault) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.faults = append(w.faults, *f)
		},
	}
	if change != nil {
		change(&cfg)
	}
	if w.h, err = forwardauth.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// last returns what was decided last.
func (w *world) last() (*authz.Request, authz.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		w.t.Fatal("nothing was decided")
	}
	return w.seen[len(w.seen)-1], w.why[len(w.why)-1]
}

func (w *world) faultKinds() (kinds []forwardauth.Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.faults {
		kinds = append(kinds, f.Kind)
	}
	return kinds
}

// ask sends a question to target with header lines "name: value".
func (w *world) ask(method, target string, lines ...string) *http.Response {
	w.t.Helper()
	in := httptest.NewRequest(method, "/", nil)
	in.RequestURI = target
	in.RemoteAddr = proxy + ":4711"
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name == "host" {
			in.Host = value
			continue
		}
		if name == "from" {
			in.RemoteAddr = value
			continue
		}
		in.Header.Add(name, value)
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, in)
	resp := rec.Result()
	if resp.StatusCode != 200 && resp.StatusCode < 302 {
		w.t.Errorf("status %d is neither an allow nor a refusal", resp.StatusCode)
	}
	return resp
}

// question is one as the proxy of profile sends it about method host target.
func question(profile forwardauth.Profile, method, host, target string, lines ...string) (m, t string, all []string) {
	switch profile {
	case forwardauth.Envoy:
		return method, "/oauth2/auth" + target, append(lines, "host: "+host)
	case forwardauth.IngressNginx:
		// As the controller writes them, with auth-proxy-set-headers as in the manifest.
		return "GET", "/oauth2/auth", append(lines,
			"host: gatehouse.sso.svc", "x-original-url: https://"+host+target, "x-original-method: "+method, "x-forwarded-host: "+host,
			"x-sent-from: nginx-ingress-controller", "x-real-ip: 192.0.2.1", "x-forwarded-for: 192.0.2.1", "x-auth-request-redirect: "+target)
	case forwardauth.Caddy:
		all = append(lines, "host: "+host)
	default:
		all = append(lines, "host: gatehouse.sso.svc:4180")
	}
	return "GET", "/oauth2/auth", append(all, "x-forwarded-method: "+method, "x-forwarded-host: "+host, "x-forwarded-uri: "+target,
		"x-forwarded-proto: https", "x-forwarded-for: 192.0.2.1")
}

func (w *world) about(profile forwardauth.Profile, method, host, target string, lines ...string) *http.Response {
	w.t.Helper()
	m, t, all := question(profile, method, host, target, lines...)
	return w.ask(m, t, all...)
}

const browser = "accept: text/html"
