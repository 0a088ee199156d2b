package authz_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func bearerSource(s *source) authz.Source {
	return authz.Source{Provider: "machines", Authenticator: s}
}

func loginSource(s *source) authz.Source {
	return authz.Source{Provider: "corp", Login: true, Authenticator: s}
}

// TestSources covers S9: one winner, never merged.
func TestSources(t *testing.T) {
	t.Parallel()
	token := field("authorization", "Bearer t")
	robot := func() *authz.Identity { return &authz.Identity{Provider: "machines", Subject: "robot", User: "robot"} }
	ok := func() source { return source{identity: alice(), challenge: authz.Challenge{Location: "/oauth2/start"}} }
	none := func() source {
		return source{err: authz.ErrNoCredentials, challenge: authz.Challenge{Location: "/oauth2/start"}}
	}
	basic := field("authorization", "Basic Y2xpZW50")
	for _, tt := range []struct {
		name           string
		bearer, login  source
		header         []authz.Field
		status         int
		reason, user   string
		askedB, askedL int
	}{
		{"bearer beside cookie", source{identity: robot()}, ok(), []authz.Field{token}, 0, "allowed", "robot", 1, 0},
		{"bad bearer beside good cookie", source{err: authz.ErrBadCredentials}, ok(), []authz.Field{token}, 401, "bad_credentials", "", 1, 0},
		{"bad bearer of a browser", source{err: authz.ErrBadCredentials}, ok(), append([]authz.Field{token}, navigation...), 401, "bad_credentials", "", 1, 0},
		{"bearer without token", source{err: authz.ErrBadCredentials}, ok(), []authz.Field{field("authorization", "bearer")}, 401, "bad_credentials", "", 1, 0},
		{"bearer cannot tell", source{err: errors.New("no keys")}, ok(), []authz.Field{token}, 503, "unavailable", "", 1, 0},
		{"cookie alone", source{identity: robot()}, ok(), nil, 0, "allowed", "alice", 0, 1},
		{"other scheme", source{identity: robot()}, ok(), []authz.Field{basic}, 0, "allowed", "alice", 0, 1},
		{"neither", source{identity: robot()}, none(), nil, 401, "no_credentials", "", 0, 1},
		{"neither, browser", source{identity: robot()}, none(), navigation, 302, "no_credentials", "", 0, 1},
		{"S12 token elsewhere", source{identity: robot()}, none(), []authz.Field{field("x-access-token", "t")}, 401, "no_credentials", "", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.bearer.challenge.WWWAuthenticate = `Bearer realm="mesh"`
			rule := authz.Rule{Name: "app", Hosts: []string{"app.test"}, Require: authz.AnyUser(), Sources: []authz.Source{loginSource(&tt.login), bearerSource(&tt.bearer)}}
			d := decide(t, rule, tt.header...)
			user := ""
			if d.Identity != nil {
				user = d.Identity.User
			}
			if d.Response.Status != tt.status || d.Reason != tt.reason || user != tt.user {
				t.Errorf("Authorize = %d %s %q, want %d %s %q", d.Response.Status, d.Reason, user, tt.status, tt.reason, tt.user)
			}
			if tt.bearer.asked != tt.askedB || tt.login.asked != tt.askedL {
				t.Errorf("asked bearer %d, login %d times, want %d, %d", tt.bearer.asked, tt.login.asked, tt.askedB, tt.askedL)
			}
			if challenge := value(d.Response.Header, "www-authenticate"); tt.status == 401 && challenge != `Bearer realm="mesh"` {
				t.Errorf("www-authenticate = %q, want the bearer source's", challenge)
			}
		})
	}
}

// TestSeveralLogins: the first identity that may pass wins, and an outage of
// one provider is not a "no" of all.
func TestSeveralLogins(t *testing.T) {
	t.Parallel()
	bob := alice()
	bob.Provider, bob.User = "b", "bob"
	outage := errors.New("store is down")
	for _, tt := range []struct {
		name   string
		a, b   source
		status int
		reason string
	}{
		{"second known", source{err: authz.ErrNoCredentials}, source{identity: bob}, 0, "allowed"},
		{"first may not, second may", source{identity: alice()}, source{identity: bob}, 0, "allowed"},
		{"first down, second may", source{err: outage}, source{identity: bob}, 0, "allowed"},
		{"first down, second unknown", source{err: outage}, source{err: authz.ErrNoCredentials}, 503, "unavailable"},
		{"first may not, second down", source{identity: alice()}, source{err: outage}, 503, "unavailable"},
		{"first bad, second unknown", source{err: authz.ErrBadCredentials}, source{err: authz.ErrNoCredentials}, 401, "bad_credentials"},
	} {
		rule := authz.Rule{Name: "app", Hosts: []string{"app.test"}, Require: authz.FromProvider("b"), Sources: []authz.Source{
			{Provider: "corp", Login: true, Authenticator: &tt.a}, {Provider: "b", Login: true, Authenticator: &tt.b},
		}}
		if d := decide(t, rule); d.Response.Status != tt.status || d.Reason != tt.reason {
			t.Errorf("%s: %d %s, want %d %s", tt.name, d.Response.Status, d.Reason, tt.status, tt.reason)
		}
	}
}

// TestDenials goes through what is refused before anybody is asked.
func TestDenials(t *testing.T) {
	t.Parallel()
	src := &source{identity: alice()}
	rules := policy(t, open("public", "app.test", "/public/**"), with(closed("app", "app.test"), func(r *authz.Rule) { r.Sources = login(src) }))
	observedNil := false
	a, err := authz.New(authz.Config{Policy: rules, Observe: func(r *authz.Request, _ *authz.Decision, _ time.Duration) { observedNil = observedNil || r == nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host, path, reason string
		status             int
	}{
		{"other.test", "/", "no_rule", 403},
		{"app.test", "/public/%2e%2e/x", "ambiguous_path", 400},
	} {
		d := a.Authorize(t.Context(), request(t, "GET", tt.host, tt.path, navigation...))
		if d.Outcome != authz.Deny || d.Response.Status != tt.status || d.Reason != tt.reason || value(d.Response.Header, "location") != "" {
			t.Errorf("%s%s = %v %d %s, want %d %s", tt.host, tt.path, d.Outcome, d.Response.Status, d.Reason, tt.status, tt.reason)
		}
	}
	r, bad := authz.NewRequest(authz.Raw{Method: "GET", Authority: "a,b", Target: "/"})
	if d := a.Reject(r, bad); d.Outcome != authz.Deny || d.Response.Status != 400 || d.Reason != "malformed_request" || d.Detail == "" {
		t.Errorf("Reject = %v %d %s, want a 400", d.Outcome, d.Response.Status, d.Reason)
	}
	if d := a.Fail(nil, 503, authz.ReasonOverloaded); d.Outcome != authz.Deny || d.Response.Status != 503 || value(d.Response.Header, "retry-after") == "" {
		t.Errorf("Fail = %v %d, want a 503 with Retry-After", d.Outcome, d.Response.Status)
	}
	if d := a.Fail(nil, 200, authz.ReasonPanic); d.Outcome != authz.Deny || d.Response.Status != 500 {
		t.Errorf("Fail with a success = %v %d, want a 500", d.Outcome, d.Response.Status)
	}
	if d := a.Panicked(nil, "x"); d.Outcome != authz.Deny || d.Response.Status != 500 || observedNil {
		t.Errorf("Panicked = %v %d, observed without a request: %v, want a 500 with one", d.Outcome, d.Response.Status, observedNil)
	}
	if src.asked != 0 {
		t.Errorf("the authenticator was asked %d times, want never", src.asked)
	}
	if _, err := authz.New(authz.Config{}); err == nil {
		t.Error("an Authorizer without a policy is made")
	}
}

// TestIgnoredHeaders covers P12, S13, S14, S15 and S16: nothing a client writes
// opens a rule.
func TestIgnoredHeaders(t *testing.T) {
	t.Parallel()
	src := &source{err: authz.ErrNoCredentials}
	a, err := authz.New(authz.Config{Policy: policy(t, open("public", "app.test", "/public/**"), with(closed("app", "app.test"), func(r *authz.Rule) { r.Sources = login(src) }))})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []authz.Field{
		field("x-envoy-original-path", "/public/"), field("x-forwarded-uri", "/public/"), field("x-forwarded-prefix", "/public"), field("x-original-url", "/public/"), field("x-rewrite-url", "/public/"),
		field("x-forwarded-host", "other.test"), field("forwarded", "host=other.test"), field("x-http-method-override", "OPTIONS"),
		field("user-agent", "kube-probe/1.30"), field("user-agent", "GoogleHC/1.0"), field("x-forwarded-for", "127.0.0.1"), field("x-ext-authz-policy", "public"), field("x-auth-request-user", "root"),
		field("upgrade", "websocket"), field("content-type", "application/grpc"), field("range", "bytes=0-1"),
	} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "POST"} {
			if d := a.Authorize(t.Context(), request(t, method, "app.test", "/admin", f)); d.Outcome != authz.Deny || d.Response.Status != 401 {
				t.Errorf("%s with %s = %v %d, want 401", method, f.Name, d.Outcome, d.Response.Status)
			}
		}
	}
	d := a.Authorize(t.Context(), request(t, "OPTIONS", "app.test", "/admin", field("origin", "https://x.test"), field("access-control-request-method", "PUT")))
	if d.Response.Status != 401 || value(d.Response.Header, "access-control-allow-origin") != "" {
		t.Errorf("preflight = %d %v, want a bare 401 (W4)", d.Response.Status, d.Response.Header)
	}
}

// panics is an Authenticator that breaks, in one of its methods.
type panics struct{ in string }

func (p panics) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	if p.in == "authenticate" {
		panic("secret place")
	}
	return nil, authz.ErrNoCredentials
}

func (p panics) Challenge(*authz.Request, error) authz.Challenge {
	var none *authz.Challenge
	return *none
}

func TestPanics(t *testing.T) {
	t.Parallel()
	boom := func() { panic(fmt.Errorf("boom %s", strings.Repeat("x", 1<<16))) }
	rule := func(change func(*authz.Rule)) *authz.Policy { return policy(t, with(knows(alice()), change)) }
	fine := rule(func(*authz.Rule) {})
	for name, cfg := range map[string]authz.Config{
		"authenticate": {Policy: rule(func(r *authz.Rule) { r.Sources[0].Authenticator = panics{"authenticate"} })},
		"challenge":    {Policy: rule(func(r *authz.Rule) { r.Sources[0].Authenticator = panics{"challenge"} })},
		"condition": {Policy: rule(func(r *authz.Rule) {
			r.Require = authz.Condition{Check: func(*authz.Request, *authz.Identity) error { boom(); return nil }}
		})},
		"endpoints": {Policy: fine, Endpoints: func(string, string) authz.Endpoint { boom(); return nil }},
		"endpoint": {Policy: fine, Endpoints: func(string, string) authz.Endpoint {
			return func(context.Context, *authz.Request) authz.Response { boom(); return authz.Response{} }
		}},
		"render": {Policy: rule(func(r *authz.Rule) { r.Require = authz.Groups("x") }), Render: func(*authz.Request, authz.Problem) authz.Response { boom(); return authz.Response{} }},
	} {
		observed := 0
		cfg.Observe = func(_ *authz.Request, d *authz.Decision, _ time.Duration) {
			if observed++; d.Reason != authz.ReasonPanic {
				t.Errorf("%s: observed %s, want %s", name, d.Reason, authz.ReasonPanic)
			}
		}
		a, err := authz.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/"))
		if d.Outcome != authz.Deny || d.Response.Status != 500 || d.Reason != authz.ReasonPanic || d.Set != nil || observed != 1 {
			t.Errorf("%s: %v %d %s, observed %d times, want a 500 %s, once", name, d.Outcome, d.Response.Status, d.Reason, observed, authz.ReasonPanic)
		}
		if body := string(d.Response.Body); strings.Contains(body, "boom") || strings.Contains(body, "secret") || !strings.Contains(d.Detail, "_test.") || len(d.Detail) > 512 {
			t.Errorf("%s: body %q, detail %.80q; want the place in the detail alone (W7)", name, body, d.Detail)
		}
	}
	a, err := authz.New(authz.Config{Policy: fine, Observe: func(*authz.Request, *authz.Decision, time.Duration) { boom() }})
	if err != nil {
		t.Fatal(err)
	}
	if d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/")); d.Outcome != authz.Deny || d.Response.Status != 500 {
		t.Errorf("a panic in Observe: %v %d, want a 500", d.Outcome, d.Response.Status)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	src := &source{identity: alice()}
	for _, tt := range []struct {
		name    string
		resp    authz.Response
		outcome authz.Outcome
		status  int
	}{
		{"page", authz.Response{Status: 200, Body: []byte("hello")}, authz.Answer, 200},
		{"redirect", authz.Response{Status: 303, Header: []authz.Field{field("location", "/x")}}, authz.Answer, 303},
		{"two cookies", authz.Response{Status: 302, Header: []authz.Field{field("set-cookie", "a=1"), field("set-cookie", "b=2")}}, authz.Answer, 302},
		{"refusal", authz.Response{Status: 405}, authz.Answer, 405},
		{"no status", authz.Response{}, authz.Deny, 500},
		{"hangs clients", authz.Response{Status: 100}, authz.Deny, 500},
		{"no content", authz.Response{Status: 204}, authz.Deny, 500},
		{"O5 line break", authz.Response{Status: 302, Header: []authz.Field{field("location", "/x\r\nset-cookie: a=b")}}, authz.Deny, 500},
		{"length", authz.Response{Status: 200, Header: []authz.Field{field("content-length", "1")}}, authz.Deny, 500},
		{"upper case", authz.Response{Status: 200, Header: []authz.Field{field("Location", "/")}}, authz.Deny, 500},
	} {
		a, err := authz.New(authz.Config{
			Policy: policy(t, with(closed("app", "app.test"), func(r *authz.Rule) { r.Sources = login(src) })),
			Endpoints: func(host, path string) authz.Endpoint {
				if host != "app.test" || path != "/oauth2/x" {
					return nil
				}
				return func(context.Context, *authz.Request) authz.Response { return tt.resp }
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/oauth2/x?y"))
		if d.Outcome != tt.outcome || d.Response.Status != tt.status || d.Reason != authz.ReasonEndpoint || value(d.Response.Header, "cache-control") != "no-store" {
			t.Errorf("%s: %v %d %s %v, want %v %d", tt.name, d.Outcome, d.Response.Status, d.Reason, d.Response.Header, tt.outcome, tt.status)
		}
		if d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/oauth2/xy")); d.Outcome != authz.Allow {
			t.Errorf("%s: beside the endpoint: %v %s, want the rule to judge", tt.name, d.Outcome, d.Reason)
		}
	}
}

// TestSharedHeader covers Q2: adding to a response does not write into a list
// that others may be reading.
func TestSharedHeader(t *testing.T) {
	t.Parallel()
	shared := append(make([]authz.Field, 0, 8), field("content-type", "text/html"))
	a, err := authz.New(authz.Config{
		Policy: policy(t, knows(alice())),
		Endpoints: func(string, string) authz.Endpoint {
			return func(context.Context, *authz.Request) authz.Response {
				return authz.Response{Status: 200, Header: shared}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/"))
	if len(d.Response.Header) != 2 || shared[:2][1] != (authz.Field{}) {
		t.Errorf("header %v, shared %v, want a copy", d.Response.Header, shared[:2])
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	page := func(status int, h ...authz.Field) func(*authz.Request, authz.Problem) authz.Response {
		return func(*authz.Request, authz.Problem) authz.Response {
			return authz.Response{Status: status, Header: h, Body: []byte("page")}
		}
	}
	signIn := source{err: authz.ErrNoCredentials, challenge: authz.Challenge{Location: "/oauth2/start"}}
	for _, tt := range []struct {
		name   string
		render func(*authz.Request, authz.Problem) authz.Response
		status int
		page   bool
	}{
		{"as asked", page(302, field("location", "/oauth2/start")), 302, true},
		{"rather not send away", page(401), 401, true},
		{"turned into a success", page(200), 302, false},
		{"line break", page(302, field("location", "/\r\n")), 302, false},
	} {
		a, err := authz.New(authz.Config{Policy: policy(t, with(closed("app", "app.test"), func(r *authz.Rule) { r.Sources = login(&signIn) })), Render: tt.render})
		if err != nil {
			t.Fatal(err)
		}
		d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/", navigation...))
		if d.Outcome != authz.Deny || d.Response.Status != tt.status || (string(d.Response.Body) == "page") != tt.page || value(d.Response.Header, "cache-control") != "no-store" {
			t.Errorf("%s: %v %d %q, want %d", tt.name, d.Outcome, d.Response.Status, d.Response.Body, tt.status)
		}
	}
}

// TestRenderText: every kind of caller gets an answer that suits it, and none
// says more than it should.
func TestRenderText(t *testing.T) {
	t.Parallel()
	c := authz.Challenge{Location: "/oauth2/start", WWWAuthenticate: "Bearer", Clear: []authz.Field{field("set-cookie", "__Host-gh_corp=; Max-Age=0")}}
	for _, caller := range []authz.Caller{authz.Fetch, authz.Navigation, authz.GRPC, authz.Upgrade, authz.Preflight} {
		r := &authz.Request{Caller: caller, ID: "id-1"}
		for _, status := range []int{302, 400, 401, 403, 404, 405, 429, 500, 503} {
			resp := authz.RenderText(r, authz.Problem{Status: status, Reason: "no_credentials", Challenge: c, RetryAfter: 1500 * time.Millisecond})
			if resp.Status != status || len(resp.Body) == 0 || value(resp.Header, "cache-control") != "no-store" || strings.Contains(string(resp.Body), "no_credentials") {
				t.Errorf("%v %d: %d %q %v", caller, status, resp.Status, resp.Body, resp.Header)
			}
			if value(resp.Header, "retry-after") != "2" {
				t.Errorf("%v %d: retry-after %q, want seconds rounded up", caller, status, value(resp.Header, "retry-after"))
			}
			wantCookie := caller != authz.GRPC && (status == 302 || status == 401)
			if (value(resp.Header, "set-cookie") != "") != wantCookie {
				t.Errorf("%v %d: cookies cleared: %v, want %v", caller, status, !wantCookie, wantCookie)
			}
			if (value(resp.Header, "location") != "") != (status == 302) || (value(resp.Header, "www-authenticate") != "") != (status == 401 || status == 403) {
				t.Errorf("%v %d: header %v", caller, status, resp.Header)
			}
			if caller == authz.GRPC && strings.Contains(string(resp.Body), "\n") {
				t.Errorf("gRPC %d: body %q has a line break", status, resp.Body)
			}
		}
	}
}

// namesake recognises everybody as the user that a header names.
type namesake struct{}

func (namesake) Authenticate(_ context.Context, r *authz.Request) (*authz.Identity, error) {
	user, _ := r.Header.Get("x-test-user")
	return &authz.Identity{Subject: user, User: user, Groups: []string{user}}, nil
}
func (namesake) Challenge(*authz.Request, error) authz.Challenge { return authz.Challenge{} }

// TestIdentityCanary covers Q1 as far as this package goes.
func TestIdentityCanary(t *testing.T) {
	t.Parallel()
	a, err := authz.New(authz.Config{Policy: policy(t, authz.Rule{
		Name: "app", Hosts: []string{"app.test"}, Require: authz.AnyUser(), Sources: []authz.Source{{Provider: "corp", Login: true, Authenticator: namesake{}}},
	})})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 500 {
				user := fmt.Sprintf("user-%d-%d", w, i)
				d := a.Authorize(t.Context(), &authz.Request{Method: "GET", Host: "app.test", Path: "/", Header: authz.Header{field("x-test-user", user), field("cookie", "a=1; __Host-gh_x="+user)}})
				if value(d.Set, "x-auth-request-user") != user || value(d.Set, "x-auth-request-groups") != user || value(d.Set, "cookie") != "a=1" {
					t.Errorf("%s is %q", user, d.Set)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAuthorize(b *testing.B) {
	a, err := authz.New(authz.Config{Policy: policy(b, knows(alice()))})
	if err != nil {
		b.Fatal(err)
	}
	raw := authz.Raw{Method: "GET", Authority: "app.test", Target: "/some/page?q=1", ID: "0e9d7a3c-3f4b-4c57-8e1e-a4ab6f3c1f9e", Header: authz.Header{
		field("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"), field("accept", "text/html,application/xhtml+xml"), field("accept-language", "en"), field("accept-encoding", "gzip"),
		field("sec-fetch-mode", "navigate"), field("sec-fetch-dest", "document"), field("sec-fetch-site", "none"), field("x-forwarded-proto", "https"), field("x-forwarded-for", "10.0.0.1"),
		field("x-request-id", "0e9d7a3c-3f4b-4c57-8e1e-a4ab6f3c1f9e"), field("cookie", "theme=dark; __Host-gh_corp="+strings.Repeat("x", 120)),
	}}
	b.ReportAllocs()
	for b.Loop() {
		r, err := authz.NewRequest(raw)
		if err != nil {
			b.Fatal(err)
		}
		if d := a.Authorize(b.Context(), r); d.Outcome != authz.Allow {
			b.Fatal(d.Reason)
		}
	}
}
