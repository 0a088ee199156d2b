package forwardauth_test

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/forwardauth"
)

func eachProfile(t *testing.T, test func(*testing.T, forwardauth.Profile)) {
	for _, p := range forwardauth.Profiles() {
		t.Run(string(p), func(t *testing.T) { t.Parallel(); test(t, p) })
	}
}

// S1: both identity headers once, whatever the client sends; our cookie goes nowhere.
func TestAllow_S1(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		w := newWorld(t, p, nil)
		resp := w.about(p, "GET", "app.test", "/deep?q=1", "cookie: x=1; "+good+"; y=2",
			"x-auth-request-user: root", "x-auth-request-email: root@evil.test", "x-auth-request-preferred-username: root", "x-forwarded-user: root")
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("answer %d, want 200", resp.StatusCode)
		}
		want := http.Header{
			"X-Auth-Request-User": {"alice"}, "X-Auth-Request-Email": {"alice@good.test"}, "X-Auth-Request-Groups": {"staff"},
			"Cookie": {"x=1; y=2"}, "Cache-Control": {"no-store"}, "Content-Length": {"0"},
		}
		removed := resp.Header.Get("X-Envoy-Auth-Headers-To-Remove")
		resp.Header.Del("X-Envoy-Auth-Headers-To-Remove")
		if diff := cmp.Diff(want, resp.Header); diff != "" {
			t.Error(diff)
		}
		for _, name := range []string{"x-auth-request-preferred-username", "x-auth-request-access-token", "x-forwarded-user"} {
			if got := slices.Contains(strings.Split(removed, ","), name); got != (p == forwardauth.Envoy) {
				t.Errorf("%s is to be removed: %v; the list: %q", name, got, removed)
			}
		}
		r, _ := w.last()
		if r.Method != "GET" || r.Host != "app.test" || r.Path != "/deep" || r.RawQuery != "q=1" || r.Peer.Address != proxy {
			t.Errorf("judged %s %s %s %s of %+v", r.Method, r.Host, r.Path, r.RawQuery, r.Peer)
		}
		if kinds := w.faultKinds(); kinds != nil {
			t.Errorf("faults %q", kinds)
		}
	})
}

// A client without cookies of others: what is empty is not there at all.
func TestAllow_Empty(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		for _, c := range []struct{ path, cookie string }{{"/app", "cookie: " + good}, {"/public/x", "accept: */*"}} {
			resp := newWorld(t, p, nil).about(p, "GET", "app.test", c.path, c.cookie)
			if resp.StatusCode != 200 || resp.Header["Cookie"] != nil || resp.Header["X-Auth-Request-Preferred-Username"] != nil {
				t.Errorf("%s: %d %v, want 200 without cookie and name", c.path, resp.StatusCode, resp.Header)
			}
		}
	})
}

// Identity is read from credentials, never from what the proxy passes on; trusting every
// address lets nobody in (A1, S14).
func TestA1_S14_TrustIsNoLogin(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		w := newWorld(t, p, func(c *forwardauth.Config) {
			c.Trusted = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		})
		for _, from := range []string{"127.0.0.1:1", "10.0.0.7:1", "[::1]:1"} {
			resp := w.about(p, "GET", "app.test", "/app", "from: "+from, "x-forwarded-for: 127.0.0.1", "x-auth-request-user: root", "x-auth-request-email: root@good.test", "x-forwarded-user: root")
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("x-auth-request-user") != "" {
				t.Errorf("from %s: %d %v, want 401", from, resp.StatusCode, resp.Header)
			}
		}
	})
}

// Each proxy is refused in words that it understands.
func TestRefusals(t *testing.T) {
	t.Parallel()
	status := map[forwardauth.Profile][]int{ // login, script, no rule, malformed, store down
		forwardauth.Nginx:        {401, 401, 403, 403, 503},
		forwardauth.IngressNginx: {401, 401, 403, 403, 503},
		forwardauth.Traefik:      {302, 401, 403, 400, 503},
		forwardauth.Caddy:        {302, 401, 403, 400, 503},
		forwardauth.Envoy:        {302, 401, 403, 400, 429},
	}
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		w := newWorld(t, p, nil)
		login := w.about(p, "GET", "app.test", "/deep", browser)
		got := []int{
			login.StatusCode,
			w.about(p, "GET", "app.test", "/deep").StatusCode,
			w.about(p, "GET", "other.test", "/").StatusCode,
			w.about(p, "GET", "app.test", "/%zz").StatusCode,
			w.about(p, "GET", "app.test", "/x", "cookie: "+authz.CookiePrefix+"corp=down").StatusCode,
		}
		if !slices.Equal(got, status[p]) {
			t.Errorf("answers %d, want %d", got, status[p])
		}
		if at := login.Header.Get("location"); at != "https://app.test/oauth2/start?rd=%2Fdeep" {
			t.Errorf("location %q, want one that no proxy completes", at)
		}
		if login.Header.Get("cache-control") != "no-store" {
			t.Errorf("header %v, want no-store", login.Header)
		}
	})
}

// A POST is judged as a POST, and a method cannot be left out or said twice.
func TestMethod(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		w := newWorld(t, p, nil)
		if got := w.about(p, "POST", "app.test", "/post").StatusCode; got != 200 {
			t.Errorf("POST /post: %d, want 200", got)
		}
		if got := w.about(p, "GET", "app.test", "/post").StatusCode; got != 401 {
			t.Errorf("GET /post: %d, want 401", got)
		}
		if got := w.about(p, "POST", "app.test", "/public/x", browser).StatusCode; got != 401 {
			t.Errorf("POST /public: %d, want 401 and no redirect", got)
		}
	})
}

// Our own pages: where a proxy passes answers on they are answered, never with a success.
func TestOwnPages(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		w := newWorld(t, p, nil)
		page, redirect := w.about(p, "GET", "app.test", "/oauth2/page"), w.about(p, "GET", "app.test", "/oauth2/callback")
		if p == forwardauth.Nginx || p == forwardauth.IngressNginx {
			if page.StatusCode != 403 || redirect.StatusCode != 403 || redirect.Header["Set-Cookie"] != nil {
				t.Errorf("answers %d and %d, want 403 and nothing done", page.StatusCode, redirect.StatusCode)
			}
			if want := []forwardauth.Kind{forwardauth.UnroutedPages, forwardauth.UnroutedPages}; !slices.Equal(w.faultKinds(), want) {
				t.Errorf("faults %q", w.faultKinds())
			}
			if got := w.about(p, "GET", "nowhere.test", "/oauth2/x").StatusCode; got != 403 || len(w.faultKinds()) != 2 {
				t.Errorf("a path of an application's own: %d %q", got, w.faultKinds())
			}
			return
		}
		if page.StatusCode != 403 || redirect.StatusCode != 303 || len(redirect.Header["Set-Cookie"]) != 2 || redirect.Header.Get("Location") != "https://app.test/deep" {
			t.Errorf("answers %d and %d %v", page.StatusCode, redirect.StatusCode, redirect.Header)
		}
		// On the login host a proxy that checks everything lets our pages have our cookies.
		resp := w.about(p, "GET", "auth.test", "/oauth2/start", "cookie: "+good, "cookie: z=1")
		if want := good + "; z=1"; resp.StatusCode != 200 || p != forwardauth.Envoy && resp.Header.Get("Cookie") != want {
			t.Errorf("login host: %d %v, want 200 and all cookies", resp.StatusCode, resp.Header)
		}
	})
}

// A proxy that is set up wrongly is refused, and said what is wrong.
func TestWiring(t *testing.T) {
	t.Parallel()
	ask := func(lines ...string) []string { return append(slices.Clip(lines), "host: gatehouse") }
	whole := []string{"x-forwarded-method: GET", "x-forwarded-host: app.test", "x-forwarded-uri: /public/x"}
	for _, c := range []struct {
		name    string
		profile forwardauth.Profile
		target  string
		lines   []string
		want    forwardauth.Kind
	}{
		{"N10 stranger", forwardauth.Nginx, "/oauth2/auth", ask("from: 192.0.2.9:1", whole[0], whole[1], whole[2]), forwardauth.UntrustedPeer},
		{"N10 stranger at Envoy's", forwardauth.Envoy, "/oauth2/auth/public/x", []string{"from: 192.0.2.9:1", "host: app.test"}, forwardauth.UntrustedPeer},
		{"no method", forwardauth.Nginx, "/oauth2/auth", ask(whole[1:]...), forwardauth.MissingOriginal},
		{"no host", forwardauth.Traefik, "/oauth2/auth", ask(whole[0], whole[2]), forwardauth.MissingOriginal},
		{"no path", forwardauth.Caddy, "/oauth2/auth", ask(whole[:2]...), forwardauth.MissingOriginal},
		{"empty path", forwardauth.Nginx, "/oauth2/auth", ask(whole[0], whole[1], "x-forwarded-uri: "), forwardauth.MissingOriginal},
		{"two paths", forwardauth.Nginx, "/oauth2/auth", ask(append(whole, "x-forwarded-uri: /admin")...), forwardauth.SeveralValues},
		{"two hosts", forwardauth.Traefik, "/oauth2/auth", ask(append(whole, "x-forwarded-host: b.test")...), forwardauth.SeveralValues},
		{"no URL", forwardauth.IngressNginx, "/oauth2/auth", ask("x-original-method: GET"), forwardauth.MissingOriginal},
		{"P12 another profile's headers", forwardauth.IngressNginx, "/oauth2/auth", ask(whole[0], whole[2]), forwardauth.MissingOriginal},
		{"P12 the other way round", forwardauth.Nginx, "/oauth2/auth", ask("x-original-method: GET", "x-original-url: https://app.test/public/x"), forwardauth.MissingOriginal},
		{"P12 no second host", forwardauth.IngressNginx, "/oauth2/auth", ask("x-original-method: GET", "x-original-url: https://app.test/public/x"), forwardauth.MissingOriginal},
		{"two second hosts", forwardauth.IngressNginx, "/oauth2/auth", ask("x-original-method: GET", "x-original-url: https://app.test/public/x", "x-forwarded-host: app.test", "x-forwarded-host: b.test"), forwardauth.SeveralValues},
		{"another path", forwardauth.Nginx, "/oauth2/check", ask(whole...), forwardauth.WrongPath},
		{"path of the request", forwardauth.Traefik, "/public/x", ask(whole...), forwardauth.WrongPath},
		{"no path_prefix", forwardauth.Envoy, "/public/x", []string{"host: app.test"}, forwardauth.WrongPath},
		{"path_prefix too short", forwardauth.Envoy, "/oauth2/authx", []string{"host: app.test"}, forwardauth.WrongPath},
		{"own endpoint", forwardauth.Nginx, "/oauth2/auth", ask(whole[0], whole[1], "x-forwarded-uri: /oauth2/auth"), forwardauth.OwnEndpoint},
		{"own name", forwardauth.Nginx, "/oauth2/auth", ask(whole[0], "x-forwarded-host: Gatehouse:4180", whole[2]), forwardauth.OwnName},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.profile, nil)
			resp := w.ask("GET", c.target, c.lines...)
			if resp.StatusCode != http.StatusForbidden || !slices.Equal(w.faultKinds(), []forwardauth.Kind{c.want}) {
				t.Errorf("answer %d, faults %q, want 403 and %q", resp.StatusCode, w.faultKinds(), c.want)
			}
			_, d := w.last()
			if want := authz.ReasonWiring; d.Reason != want && c.want != forwardauth.OwnName || d.Detail == "" && c.want != forwardauth.OwnName {
				t.Errorf("reason %q, detail %q, want %q and what is wrong", d.Reason, d.Detail, want)
			}
		})
	}
}

// What is said of the original request is as strict as the request itself.
func TestMalformedOriginal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		p     forwardauth.Profile
		lines []string
	}{
		{"comma in host", forwardauth.Traefik, []string{"x-forwarded-method: GET", "x-forwarded-host: app.test, b.test", "x-forwarded-uri: /public/x"}},
		{"path without slash", forwardauth.Traefik, []string{"x-forwarded-method: GET", "x-forwarded-host: app.test", "x-forwarded-uri: public/x"}},
		{"whole URL for a path", forwardauth.Traefik, []string{"x-forwarded-method: GET", "x-forwarded-host: app.test", "x-forwarded-uri: https://app.test/public/x"}},
		{"lower-case method", forwardauth.Traefik, []string{"x-forwarded-method: get", "x-forwarded-host: app.test", "x-forwarded-uri: /public/x"}},
		{"URL without scheme", forwardauth.IngressNginx, []string{"x-original-method: GET", "x-original-url: app.test/public/x"}},
		{"URL without path", forwardauth.IngressNginx, []string{"x-original-method: GET", "x-original-url: https://app.test"}},
		{"URL without host", forwardauth.IngressNginx, []string{"x-original-method: GET", "x-original-url: https:///public/x"}},
		{"URL with user", forwardauth.IngressNginx, []string{"x-original-method: GET", "x-original-url: https://app.test@b.test/public/x", "x-forwarded-host: app.test@b.test"}},
		{"P12 hosts differ", forwardauth.IngressNginx, []string{"x-original-method: GET", "x-original-url: https://app.test/public/x", "x-forwarded-host: admin.test"}},
		{"S1 look-alike", forwardauth.Traefik, []string{"x-forwarded-method: GET", "x-forwarded-host: app.test", "x-forwarded-uri: /public/x", "x_auth_request_user: root"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.p, nil)
			resp := w.ask("GET", "/oauth2/auth", append(c.lines, "host: gatehouse")...)
			if _, d := w.last(); resp.StatusCode != 400 && resp.StatusCode != 403 || d.Reason != authz.ReasonMalformed {
				t.Errorf("answer %d for %q, want a refusal as malformed", resp.StatusCode, d.Reason)
			}
		})
	}
	// The same hosts in different spellings are the same.
	w := newWorld(t, forwardauth.IngressNginx, nil)
	resp := w.ask("GET", "/oauth2/auth", "host: gatehouse", "x-original-method: GET", "x-original-url: https://app.test:8443/public/x", "x-forwarded-host: APP.test")
	if resp.StatusCode != 200 {
		t.Errorf("equal hosts: %d, want 200", resp.StatusCode)
	}
}

// A token leaves only for who has proven to be the proxy; identities go all the same.
func TestTokens_N10(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	eachProfile(t, func(t *testing.T, p forwardauth.Profile) {
		ask := func(change func(*forwardauth.Config), lines ...string) (*http.Response, []forwardauth.Kind) {
			w := newWorld(t, p, change)
			return w.about(p, "GET", "tokens.test", "/", append(lines, "cookie: "+good)...), w.faultKinds()
		}
		withSecret := func(c *forwardauth.Config) { c.Secret = func() (string, error) { return secret, nil } }
		resp, faults := ask(nil)
		if resp.StatusCode != 200 || resp.Header.Get("x-auth-request-user") != "alice" || resp.Header["X-Auth-Request-Access-Token"] != nil || resp.Header["Authorization"] != nil {
			t.Errorf("unproven: %d %v, want an identity and no token", resp.StatusCode, resp.Header)
		}
		if !slices.Equal(faults, []forwardauth.Kind{forwardauth.UnprovenCaller}) {
			t.Errorf("unproven: faults %q", faults)
		}
		if removed := resp.Header.Get("X-Envoy-Auth-Headers-To-Remove"); p == forwardauth.Envoy && (!strings.Contains(removed, "authorization") || !strings.Contains(removed, "access-token")) {
			t.Errorf("unproven: the client's own tokens stay, removed are %q", removed)
		}
		for name, allowed := range map[string]struct {
			change func(*forwardauth.Config)
			lines  []string
		}{
			"certificate": {func(c *forwardauth.Config) { c.Proven = true }, nil},
			"secret":      {withSecret, []string{"x-gatehouse-secret: " + secret}},
		} {
			resp, faults := ask(allowed.change, allowed.lines...)
			if resp.Header.Get("x-auth-request-access-token") != "at-1" || resp.Header.Get("authorization") != "Bearer idt-1" || faults != nil {
				t.Errorf("%s: %v %q, want both tokens", name, resp.Header, faults)
			}
		}
		for _, lines := range [][]string{nil, {"x-gatehouse-secret: guess"}, {"x-gatehouse-secret: "}, {"x-gatehouse-secret: " + secret, "x-gatehouse-secret: " + secret}} {
			resp, faults := ask(withSecret, lines...)
			if resp.StatusCode != 403 || resp.Header["X-Auth-Request-User"] != nil || !slices.Equal(faults, []forwardauth.Kind{forwardauth.WrongSecret}) {
				t.Errorf("secret %q: %d %q, want 403", lines, resp.StatusCode, faults)
			}
		}
		for _, unreadable := range []func() (string, error){
			func() (string, error) { return "", errors.New("gone") },
			func() (string, error) { return "", nil },
		} {
			resp, _ := ask(func(c *forwardauth.Config) { c.Secret = unreadable }, "x-gatehouse-secret: ")
			if resp.StatusCode == 200 || resp.StatusCode == 401 {
				t.Errorf("secret that cannot be read: %d, want cannot tell", resp.StatusCode)
			}
		}
	})
}

// A3: the client is the right-most address that is no trusted proxy.
func TestA3_ClientAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ forwarded, want string }{
		{"", proxy},
		{"192.0.2.1", "192.0.2.1"},
		{"1.1.1.1, 192.0.2.1, 10.1.1.1", "192.0.2.1"},
		{"10.1.1.1", "10.1.1.1"},
		{"192.0.2.1:443, 10.1.1.1", "192.0.2.1"},
		{"junk, 10.1.1.1", "10.1.1.1"},
		{"192.0.2.1, junk", proxy},
		{"192.0.2.1, " + strings.Repeat("10.1.1.1, ", 40) + "10.1.1.1", "10.1.1.1"},
	} {
		w := newWorld(t, forwardauth.Traefik, nil)
		lines := []string{"host: gatehouse", "x-forwarded-method: GET", "x-forwarded-host: app.test", "x-forwarded-uri: /public/x"}
		if c.forwarded != "" {
			lines = append(lines, "x-forwarded-for: "+c.forwarded)
		}
		w.ask("GET", "/oauth2/auth", lines...)
		if r, _ := w.last(); r.Peer.Client != c.want || r.Peer.Address != proxy {
			t.Errorf("%q: client %q by way of %q, want %q", c.forwarded, r.Peer.Client, r.Peer.Address, c.want)
		}
	}
	w := newWorld(t, forwardauth.Traefik, nil)
	w.ask("GET", "/oauth2/auth", "from: 192.0.2.9:1", "x-forwarded-for: 127.0.0.1")
	if r, _ := w.last(); r.Peer.Client != "192.0.2.9" {
		t.Errorf("a stranger says that he is %q", r.Peer.Client)
	}
}

// G3: no way to fail is an allow.
func TestFailures_G3(t *testing.T) {
	t.Parallel()
	for _, p := range forwardauth.Profiles() {
		none := newWorld(t, p, func(c *forwardauth.Config) { c.Current = func() forwardauth.Current { return forwardauth.Current{} } })
		if got := none.about(p, "GET", "app.test", "/public/x").StatusCode; got < 401 {
			t.Errorf("%s without a configuration: %d", p, got)
		}
		entered, leave := make(chan bool), make(chan bool)
		busy := newWorld(t, p, func(c *forwardauth.Config) {
			c.MaxInFlight = 1
			c.Miswired = func(*forwardauth.Fault) { close(entered); <-leave }
		})
		done := make(chan bool)
		go func() {
			defer close(done)
			busy.about(p, "GET", "app.test", "/x", "from: 192.0.2.9:1")
		}()
		<-entered
		got := busy.about(p, "GET", "app.test", "/public/x").StatusCode
		if _, d := busy.last(); got < 401 || d.Reason != authz.ReasonOverloaded {
			t.Errorf("%s, one too many: %d for %q", p, got, d.Reason)
		}
		close(leave)
		<-done
		panics := newWorld(t, p, func(c *forwardauth.Config) { c.Miswired = func(*forwardauth.Fault) { panic("bug") } })
		if got := panics.about(p, "GET", "app.test", "/x", "from: 192.0.2.9:1").StatusCode; got < 401 {
			t.Errorf("%s with a panic: %d", p, got)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	current := func() forwardauth.Current { return forwardauth.Current{} }
	for name, cfg := range map[string]forwardauth.Config{
		"no Current": {Profile: forwardauth.Nginx},
		"no profile": {Current: current},
		"unknown":    {Current: current, Profile: "haproxy"},
		"negative":   {Current: current, Profile: forwardauth.Nginx, MaxInFlight: -1},
	} {
		if _, err := forwardauth.New(cfg); err == nil {
			t.Errorf("New with %s succeeds", name)
		}
	}
	w := newWorld(t, forwardauth.Nginx, func(c *forwardauth.Config) { c.Trusted = nil })
	if got := w.about(forwardauth.Nginx, "GET", "app.test", "/public/x").StatusCode; got != 403 {
		t.Errorf("nobody is trusted: %d, want 403", got)
	}
}
