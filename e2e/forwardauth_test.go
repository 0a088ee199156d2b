package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// asking are the proxies that ask over HTTP.
var asking = []string{"nginx", "ingress-nginx", "caddy", "envoy"}

// behind runs a test behind each proxy that asks over HTTP. nginx needs Gatehouse's pages
// routed, and ingress-nginx leads to the login host.
func behind(t *testing.T, test func(*testing.T, *stack)) {
	for _, proxy := range asking {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			test(t, newStack(t, fixture{proxy: proxy, http: proxy == "nginx", login: proxy == "ingress-nginx"}))
		})
	}
}

// C1, C2: a browser without a session is sent to sign in the way the proxy needs it, the
// deep link keeps its query, and both identity headers arrive, once each.
func TestForwardAuth_C1_C2(t *testing.T) {
	t.Parallel()
	behind(t, func(t *testing.T, s *stack) {
		if a := get(t, s.port, s.authority(appHost), "/deep?a=1&b=2", navigation...); a.Status != http.StatusFound || a.Header.Get("location") == "" {
			t.Fatalf("anonymous navigation: %v, want 302", a)
		}
		neverArrived(t, s.app, "/deep")
		agent := newAgent(t)
		p := agent.signIn(s.url(appHost, "/deep?a=1&b=2"), "alice")
		if p.url != s.url(appHost, "/deep?a=1&b=2") || p.user(t) != "alice" || p.app(t).Target != "/deep?a=1&b=2" {
			t.Fatalf("the login ended at %s: %v", p.url, p)
		}
		got := get(t, s.port, s.authority(appHost), "/once", "cookie: theirs=1; "+agent.cookie(s.url(appHost, "/"))+"; more=2",
			"x-auth-request-user: root", "X-Auth-Request-Email: root@evil.test", "x-auth-request-user: root", "x-auth-request-groups: admins",
			"x-auth-request-preferred-username: root", "x-auth-request-access-token: stolen", "x-forwarded-user: root", "x-forwarded-email: root@evil.test").seen(t)
		for name, want := range map[string][]string{
			"x-auth-request-user": {"alice"}, "x-auth-request-email": {people["alice"].Email}, "cookie": {"theirs=1; more=2"},
			"x-auth-request-access-token": nil, "x-forwarded-user": nil, "x-forwarded-email": nil,
		} {
			if !slices.Equal(got.values(name), want) {
				t.Errorf("%s = %q, want %q", name, got.values(name), want)
			}
		}
		if slices.Contains(got.values("x-auth-request-groups"), "admins") || slices.Contains(got.values("x-auth-request-preferred-username"), "root") {
			t.Errorf("the client's own headers arrived: %q", got.Lines)
		}
		open := get(t, s.port, s.authority(openHost), "/open", "x-auth-request-user: root", "x-forwarded-user: root", "cookie: theirs=1").seen(t)
		if open.values("x-auth-request-user") != nil || open.values("x-forwarded-user") != nil || !slices.Equal(open.values("cookie"), []string{"theirs=1"}) {
			t.Errorf("anonymous rule: %q", open.Lines)
		}
	})
}

// A POST is judged as a POST, with and without its length, and its body arrives.
func TestForwardAuth_Method(t *testing.T) {
	t.Parallel()
	behind(t, func(t *testing.T, s *stack) {
		host := s.authority(appHost)
		if a := get(t, s.port, host, "/static/x"); a.seen(t).Method != "GET" {
			t.Errorf("GET of an anonymous rule: %v", a)
		}
		for _, head := range [][]string{{"content-length: 3"}, {"transfer-encoding: chunked"}} {
			body := "abc"
			if strings.HasPrefix(head[0], "transfer") {
				body = "3\r\nabc\r\n0\r\n\r\n"
			}
			text := strings.Join(append([]string{"POST /static/refused HTTP/1.1", "host: " + host}, head...), "\r\n") + "\r\n\r\n" + body
			a, err := rawTry(s.port, text)
			if want := http.StatusUnauthorized; err != nil || a.Status != want && !(s.proxy == "ingress-nginx" && a.Status == http.StatusFound) {
				t.Errorf("POST with %q under a rule for GET: %v %v, want %d", head, a, err, want)
			}
			cookie := s.session(t, appHost, "alice")
			text = strings.Join(append([]string{"POST /form HTTP/1.1", "host: " + host, "cookie: " + cookie}, head...), "\r\n") + "\r\n\r\n" + body
			if a, err = rawTry(s.port, text); err != nil || a.seen(t).Method != "POST" {
				t.Errorf("POST with %q and a session: %v %v", head, a, err)
			}
		}
		neverArrived(t, s.app, "/static/refused")
	})
}

// A1, A3, S14: every address is trusted, and nobody is let in for his.
func TestForwardAuth_A1_A3(t *testing.T) {
	t.Parallel()
	for _, proxy := range asking {
		if proxy == "ingress-nginx" { // sends everybody to log in
			continue
		}
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, fixture{proxy: proxy, http: proxy == "nginx", trusted: `0.0.0.0/0, "::/0"`})
			host := s.authority(appHost)
			for _, lines := range [][]string{nil, {"x-forwarded-for: 127.0.0.1"}, {"x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1"}, {"x-auth-request-user: root", "x-auth-request-email: root@good.test"}} {
				if a := get(t, s.port, host, "/refused", lines...); a.Status != http.StatusUnauthorized {
					t.Errorf("with %q: %v, want 401", lines, a)
				}
			}
			neverArrived(t, s.app, "/refused")
		})
	}
}

// P12: what a client says of method, host and path in headers is not what is judged.
func TestForwardAuth_P12(t *testing.T) {
	t.Parallel()
	behind(t, func(t *testing.T, s *stack) {
		host := s.authority(appHost)
		for _, line := range []string{
			"x-forwarded-uri: /static/x", "x-original-url: " + s.url(appHost, "/static/x"), "x-original-uri: /static/x", "x-rewrite-url: /static/x",
			"x-forwarded-host: " + openHost, "x-forwarded-prefix: /static", "x-envoy-original-path: /static/x", "x-original-method: GET", "x-forwarded-method: GET",
		} {
			if a := get(t, s.port, host, "/refused", line); a.Status == http.StatusOK || a.Status >= 500 {
				t.Errorf("with %q: %v, want a refusal", line, a)
			}
		}
		for _, path := range []string{"/static/..%2frefused", "/static/%2e%2e/refused", "/static/../refused", "//refused", `/static\..\refused`, "/oauth2/../refused", "/oauth2/auth"} {
			if a := get(t, s.port, host, path); a.Status == http.StatusOK {
				t.Errorf("%s: %v, want a refusal", path, a)
			}
		}
		neverArrived(t, s.app, "/refused")
		// The request line names one host and the Host line another (RFC 9112, section 3.2.2).
		a := raw(t, s.port, "GET http://"+host+"/refused HTTP/1.1", "host: "+openHost)
		if a.Status == http.StatusOK {
			t.Errorf("two hosts: %v, want a refusal", a)
		}
		neverArrived(t, s.app, "/refused")
		neverArrived(t, s.app, "http")
	})
}

// D8, E4: a machine with a bad token is told so, and never sent to a login; a good one passes.
func TestForwardAuth_D8_E4(t *testing.T) {
	t.Parallel()
	for _, proxy := range asking {
		if proxy == "ingress-nginx" { // sends everybody to log in
			continue
		}
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, fixture{proxy: proxy, http: proxy == "nginx"})
			past := time.Now().Add(-2 * time.Hour).Unix()
			for name, token := range map[string]string{
				"expired": s.idp.Bearer(map[string]any{"iat": past - 300, "exp": past}),
				"E4 none": s.idp.Bearer(nil, func(j *oidctest.JWT) { j.Alg = "none" }),
				"E4 aud":  s.idp.Bearer(map[string]any{"aud": "other"}),
				"garbage": "a.b.c",
			} {
				a := get(t, s.port, apiHost, "/refused", bearer(token)...)
				if a.Status != http.StatusUnauthorized || a.Header.Get("location") != "" || !strings.HasPrefix(a.Header.Get("www-authenticate"), "Bearer") {
					t.Errorf("%s: %v, want 401 with a challenge", name, a)
				}
			}
			if a := get(t, s.port, apiHost, "/refused", bearer(s.idp.Bearer(map[string]any{"sub": "other"}))...); a.Status != http.StatusForbidden {
				t.Errorf("another subject: %v, want 403", a)
			}
			if got := get(t, s.port, apiHost, "/x", bearer(s.idp.Bearer(nil))...).seen(t).values("x-auth-request-user"); !slices.Equal(got, []string{"machine"}) {
				t.Errorf("good token: user %q", got)
			}
			neverArrived(t, s.app, "/refused")
		})
	}
}

// S1 on every Envoy: what is not set is removed.
func TestForwardAuth_S1(t *testing.T) {
	t.Parallel()
	for _, version := range envoyVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, fixture{proxy: "envoy", envoy: version})
			own := []string{"x-auth-request-user: root", "x-auth-request-user: root", "x-auth-request-email: root@evil.test", "x-auth-request-groups: admins", "x-forwarded-user: root", "x-auth-request-access-token: stolen"}
			got := get(t, s.port, apiHost, "/x", append(own, bearer(s.idp.Bearer(nil))...)...).seen(t)
			if !slices.Equal(got.values("x-auth-request-user"), []string{"machine"}) || got.values("x-auth-request-email") != nil || got.values("x-auth-request-groups") != nil {
				t.Errorf("a machine: %q", got.Lines)
			}
			got = get(t, s.port, openHost, "/x", own...).seen(t)
			for _, line := range got.Lines {
				if managed(fold(line[0])) {
					t.Errorf("anonymous: %q arrived", line)
				}
			}
			if a := get(t, s.port, apiHost, "/refused", own...); a.Status != http.StatusUnauthorized {
				t.Errorf("nobody: %v, want 401", a)
			}
		})
	}
}

// G3: Gatehouse is gone, and nobody passes.
func TestForwardAuth_G3(t *testing.T) {
	t.Parallel()
	behind(t, func(t *testing.T, s *stack) {
		s.gatehouse.kill()
		for _, path := range []string{"/static/refused", "/refused"} {
			if a := get(t, s.port, s.authority(appHost), path, navigation...); a.Status < 500 {
				t.Errorf("%s without Gatehouse: %v, want 5xx", path, a)
			}
		}
		neverArrived(t, s.app, "")
	})
}

// authority is a host as browsers write it.
func (s *stack) authority(host string) string {
	if !strings.HasSuffix(host, ".localhost") {
		return host
	}
	return fmt.Sprintf("%s:%d", host, s.port)
}
