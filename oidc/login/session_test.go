package login_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

const sessionCookie = "__Host-gh_corp"

func TestC4Tossing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.browser(), w.browser()
	one.signIn("/x")
	two.signIn("/x")
	a, b := sessionCookie+"="+one.jar[sessionCookie], sessionCookie+"="+two.jar[sessionCookie]
	for _, c := range []struct {
		cookie  string
		allowed bool
		cleared bool
	}{
		{a, true, false},
		{sessionCookie + "=JUNK; " + a, true, false},
		{a + "; " + sessionCookie + "=JUNK", true, false},
		{a + "; " + a, true, false},
		{"bad[=1; x=a b; =; " + a, true, false}, // C6
		{a + "; " + b, false, true},
		{b + "; " + a, false, true},
		{sessionCookie + "=JUNK", false, false},
		{strings.ToUpper(sessionCookie) + a[len(sessionCookie):], false, false}, // C5
		{"\u2000" + a, false, false},
		{"\u0085" + a, false, false},
		{sessionCookie + `="` + one.jar[sessionCookie] + `"`, false, false},
		{sessionCookie + "=" + strings.Repeat("A", 60000), false, false},
	} {
		d := w.browser().send("GET", "/x", append([]authz.Field{{Name: "cookie", Value: c.cookie}}, navigate...))
		cleared := strings.HasPrefix(field(d.Response, "set-cookie"), sessionCookie+"=;")
		if (d.Outcome == authz.Allow) != c.allowed || cleared != c.cleared {
			t.Errorf("cookie %.60q: %v %s, cleared %v; want allowed %v, cleared %v", c.cookie, d.Outcome, d.Reason, cleared, c.allowed, c.cleared)
		}
	}
}

func TestC9FlippedBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	good := b.jar[sessionCookie]
	before := w.store.loads.Load()
	for i := range good {
		for _, c := range []byte{'A', 'z', '='} {
			if good[i] == c {
				continue
			}
			other := w.browser()
			other.jar[sessionCookie] = good[:i] + string(c) + good[i+1:]
			if d := other.get("/x"); d.Response.Status != 302 || other.jar[sessionCookie] == "" {
				t.Fatalf("byte %d changed to %q: %v %d", i, c, d.Outcome, d.Response.Status)
			}
		}
		cut := w.browser()
		cut.jar[sessionCookie] = good[:i]
		if d := cut.get("/x"); d.Outcome == authz.Allow {
			t.Fatalf("the first %d bytes open the door", i)
		}
	}
	if n := w.store.loads.Load() - before; n != 0 {
		t.Errorf("cookies that do not open caused %d store requests", n)
	}
	pending := w.browser()
	pending.begin("/x")
	for _, value := range pending.jar { // moved between names
		other := w.browser()
		other.jar[sessionCookie] = value
		if d := other.get("/x"); d.Response.Status != 302 {
			t.Errorf("a pending cookie as a session: %v", d.Outcome)
		}
	}
}

// C16: a cookie made under another registration, host or provider does not open.
func TestC16CookieIsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	cfg := login.Config{Prefix: "/oauth2", Sessions: w.sessions, Ring: w.ring}
	provider := func(name, issuer, client string) *oidc.Provider {
		return check(oidc.NewProvider(oidc.ProviderConfig{Name: name, Issuer: issuer, Client: &oidc.ClientConfig{ID: client, AuthMethod: "none"}}))(t)
	}
	for name, c := range map[string]struct {
		host, provider, issuer, client string
		want                           bool
	}{
		"same":     {host, "corp", w.idp.Issuer(), "mesh", true},
		"client":   {host, "corp", w.idp.Issuer(), "other", false},
		"host":     {"two.localhost", "corp", w.idp.Issuer(), "mesh", false},
		"provider": {host, "corp2", w.idp.Issuer(), "mesh", false},
		"issuer":   {host, "corp", "https://other.example.com", "mesh", false},
	} {
		cfg.Providers = []*oidc.Provider{provider(c.provider, c.issuer, c.client)}
		cfg.Hosts = []login.Host{{Name: c.host, Origin: "https://" + c.host, Providers: []string{c.provider}}}
		l := check(login.New(cfg))(t)
		r := check(authz.NewRequest(authz.Raw{Method: "GET", Authority: c.host, Target: "/x", Header: authz.Header{
			{Name: "cookie", Value: "__Host-gh_" + c.provider + "=" + b.jar[sessionCookie]},
		}}))(t)
		before := w.store.loads.Load()
		id, err := l.Authenticator(c.provider, false).Authenticate(t.Context(), r)
		if (err == nil) != c.want {
			t.Errorf("%s: identity %v, %v; want recognised %v", name, id, err, c.want)
		}
		if asked := w.store.loads.Load() != before; asked != c.want {
			t.Errorf("%s: store asked %v, want %v: what is not ours causes no I/O", name, asked, c.want)
		}
	}
}

func TestC7DeadSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	w.forget(b)
	dead := b.copy()
	if d := b.get("/x"); d.Response.Status != 302 || b.jar[sessionCookie] != "" {
		t.Errorf("a dead session: %d, cookie kept: %v", d.Response.Status, b.jar[sessionCookie] != "")
	}
	loads := w.store.loads.Load()
	for range 10 {
		dead.copy().get("/x")
	}
	if n := w.store.loads.Load() - loads; n != 0 {
		t.Errorf("a cookie known to be dead caused %d store requests", n)
	}
}

func TestC10AbsoluteEndNeedsNoStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	loads := w.store.loads.Load()
	w.skew.Store(int64(13 * time.Hour))
	if d := b.get("/x"); d.Response.Status != 302 || b.jar[sessionCookie] != "" || w.store.loads.Load() != loads {
		t.Errorf("after the absolute end: %v %d", d.Outcome, d.Response.Status)
	}
}

func TestOutageKeepsTheCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	w.store.down.Store(true)
	for _, target := range []string{"/y", "/oauth2/userinfo", "/oauth2/sign_out"} {
		d := b.get(target, authz.Field{Name: "sec-fetch-site", Value: "same-origin"})
		if target == "/y" && d.Outcome == authz.Allow {
			continue // a cache may serve for a moment
		}
		if d.Response.Status != 503 || b.jar[sessionCookie] == "" {
			t.Errorf("%s while the store is down: %v %d, cookie %q", target, d.Outcome, d.Response.Status, b.jar[sessionCookie])
		}
	}
	w.store.down.Store(false)
	if d := b.get("/x"); d.Outcome != authz.Allow {
		t.Errorf("after the outage: %v %s", d.Outcome, d.Reason)
	}
}

func TestUserinfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	script := []authz.Field{{Name: "sec-fetch-mode", Value: "cors"}, {Name: "accept", Value: "*/*"}}
	if d := b.send("GET", "/oauth2/userinfo", script); d.Response.Status != 401 || field(d.Response, "www-authenticate") == "" {
		t.Errorf("userinfo of nobody = %d %v", d.Response.Status, d.Response.Header)
	}
	b.signIn("/x")
	d := b.send("GET", "/oauth2/userinfo", script)
	var got map[string]any
	if err := json.Unmarshal(d.Response.Body, &got); err != nil || got["sub"] != "alice" || got["provider"] != "corp" {
		t.Errorf("userinfo = %d %s", d.Response.Status, d.Response.Body)
	}
	for _, secret := range w.idp.Secrets() {
		if strings.Contains(string(d.Response.Body), secret) {
			t.Errorf("userinfo holds a token")
		}
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	old := b.copy()
	d := b.get("/oauth2/sign_out", authz.Field{Name: "sec-fetch-site", Value: "same-origin"})
	to := field(d.Response, "location")
	if d.Response.Status != 303 || !strings.HasPrefix(to, w.idp.Issuer()) || !strings.Contains(to, "id_token_hint=") || b.jar[sessionCookie] != "" {
		t.Fatalf("sign out = %d %q, cookies %q", d.Response.Status, to, b.names(""))
	}
	if d := old.get("/x"); d.Response.Status != 302 {
		t.Errorf("the old cookie after a sign-out: %v", d.Outcome)
	}
	back := b.atProvider(to)
	if path, _, _ := strings.Cut(back, "?"); path != "/oauth2/signed_out" {
		t.Errorf("the provider returns to %q", back)
	}
	if d := b.get(back); d.Response.Status != 200 || !strings.Contains(string(d.Response.Body), "You are signed out") {
		t.Errorf("signed_out = %d\n%s", d.Response.Status, d.Response.Body)
	}
}

// C12: who did not ask keeps the session.
func TestC12SignOutNeedsTheOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const origin = "http://app.localhost:8000"
	for _, c := range []struct {
		method, site, origin string
		out                  bool
	}{
		{"GET", "same-origin", "", true},
		{"POST", "same-origin", origin, true},
		{"POST", "", origin, true},
		{"POST", "same-origin", "null", true},
		{"GET", "", "", false},
		{"POST", "", "", false},
		{"GET", "cross-site", "", false},
		{"GET", "same-site", "", false},
		{"GET", "none", "", false},
		{"POST", "cross-site", origin, false},
		{"POST", "same-origin", "https://evil.test", false},
		{"POST", "", "null", false},
		{"POST", "", "http://app.localhost", false},
		{"POST", "", "https://evil.test", false},
	} {
		b := w.browser()
		b.signIn("/x")
		header := append([]authz.Field{}, navigate...)
		if c.site != "" {
			header = append(header, authz.Field{Name: "sec-fetch-site", Value: c.site})
		}
		if c.origin != "" {
			header = append(header, authz.Field{Name: "origin", Value: c.origin})
		}
		old := b.copy()
		b.send(c.method, "/oauth2/sign_out?rd=https://evil.test", header)
		if out := old.get("/x").Outcome != authz.Allow; out != c.out || (b.jar[sessionCookie] == "") != c.out {
			t.Errorf("%s with Sec-Fetch-Site %q, Origin %q: signed out %v, want %v", c.method, c.site, c.origin, out, c.out)
		}
	}
}

func TestSignOutAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	d := b.get("/oauth2/sign_out", authz.Field{Name: "sec-fetch-site", Value: "cross-site"})
	body, policy := string(d.Response.Body), field(d.Response, "content-security-policy")
	if d.Response.Status != 200 || !strings.Contains(body, `<form method="post" action="/oauth2/sign_out">`) || !strings.Contains(policy, "form-action 'self' "+w.idp.Issuer()) {
		t.Errorf("confirmation = %d %q\n%s", d.Response.Status, policy, body)
	}
	image := []authz.Field{{Name: "sec-fetch-mode", Value: "no-cors"}, {Name: "sec-fetch-dest", Value: "image"}, {Name: "sec-fetch-site", Value: "cross-site"}}
	if d := b.send("GET", "/oauth2/sign_out", image); d.Response.Status != 403 {
		t.Errorf("an image that signs out = %d, want 403", d.Response.Status)
	}
	if d := b.get("/oauth2/signed_out"); !strings.Contains(string(d.Response.Body), "still signed in") {
		t.Errorf("signed_out with a live session:\n%s", d.Response.Body)
	}
}

// G1: the session dies first, whatever the provider does.
func TestG1SignOutWithProviderDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	w.idp.AlwaysAll(oidctest.Down)
	old := b.copy()
	if d := b.get("/oauth2/sign_out", authz.Field{Name: "sec-fetch-site", Value: "same-origin"}); d.Response.Status != 303 {
		t.Errorf("sign out = %d", d.Response.Status)
	}
	if d := old.get("/x"); d.Outcome == authz.Allow {
		t.Errorf("the session lives on")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := login.Host{Name: host, Origin: "https://" + host, Providers: []string{"corp"}}
	for name, change := range map[string]func(*login.Config){
		"prefix":       func(c *login.Config) { c.Prefix = "oauth2" },
		"root prefix":  func(c *login.Config) { c.Prefix = "/" },
		"slash behind": func(c *login.Config) { c.Prefix = "/oauth2/" },
		"no ring":      func(c *login.Config) { c.Ring = nil },
		"no sessions":  func(c *login.Config) { c.Sessions = nil },
		"twice":        func(c *login.Config) { c.Hosts = []login.Host{good, good} },
		"no provider":  func(c *login.Config) { c.Hosts[0].Providers = nil },
		"unknown":      func(c *login.Config) { c.Hosts[0].Providers = []string{"x"} },
		"http": func(c *login.Config) {
			c.Hosts = []login.Host{{Name: "a.test", Origin: "http://a.test", Providers: []string{"corp"}}}
		},
		"other origin":                 func(c *login.Config) { c.Hosts[0].Origin = "https://evil.test" },
		"origin path":                  func(c *login.Config) { c.Hosts[0].Origin = "https://" + host + "/x" },
		"origin suffix":                func(c *login.Config) { c.Hosts[0].Origin = "https://" + host + ".evil.test" },
		"named p":                      func(c *login.Config) { c.Providers = []*oidc.Provider{w.newProvider("p", w.idp.Issuer())} },
		"login host is an application": func(c *login.Config) { c.LoginHost = &good },
		"login host lacks a provider": func(c *login.Config) {
			c.Providers = append(c.Providers, w.newProvider("partner", "https://partner.example.net"))
			c.LoginHost = &login.Host{Name: "auth.test", Origin: "https://auth.test", Providers: []string{"partner"}}
		},
		"login host without provider": func(c *login.Config) { c.LoginHost = &login.Host{Name: "auth.test", Origin: "https://auth.test"} },
		"login host with http": func(c *login.Config) {
			c.LoginHost = &login.Host{Name: "auth.test", Origin: "http://auth.test", Providers: []string{"corp"}}
		},
		"upper case": func(c *login.Config) { c.Providers = []*oidc.Provider{w.newProvider("Corp", w.idp.Issuer())} },
	} {
		cfg := login.Config{Prefix: "/oauth2", Hosts: []login.Host{good}, Providers: []*oidc.Provider{w.provider}, Sessions: w.sessions, Ring: w.ring}
		change(&cfg)
		if _, err := login.New(cfg); err == nil {
			t.Errorf("%s: New did not refuse", name)
		}
	}
}
