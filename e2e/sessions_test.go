package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// L2, L10: a callback works once. The same browser gets the same session again,
// never a second one; anybody else gets nothing, and no code is sent twice.
func TestCallbackReplay(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true})
	a := newAgent(t)
	var callback, pending string
	a.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth2/callback" {
			callback = r.URL.RequestURI()
			pending = a.cookie(s.url(appHost, "/"))
		}
		return nil
	}
	a.signIn(s.url(appHost, "/once"), "alice")
	session := a.cookie(s.url(appHost, "/"))
	if callback == "" || !strings.HasPrefix(pending, "__Host-gh_p_") || session == pending {
		t.Fatalf("callback %.20q, %d bytes of pending cookie", callback, len(pending))
	}
	hits, keys := s.idp.Hits(oidctest.Token), len(s.redis.keys(t))
	again := get(t, s.port, appHost, callback, append(navigation, "cookie: "+pending)...)
	if again.Status != http.StatusSeeOther || again.Header.Get("location") != "/once" {
		t.Errorf("repeat within a minute: %v, want 303 to where the first went", again)
	}
	for name, lines := range map[string][]string{"no cookie": nil, "another cookie": {"cookie: __Host-gh_p_x=y"}, "pending as session": {"cookie: __Host-gh_corp=" + strings.SplitN(pending, "=", 2)[1]}} {
		if b := get(t, s.port, appHost, callback, append(lines, navigation...)...); b.cookie("__Host-gh_corp") != "" {
			t.Errorf("replay with %s made a session: %v", name, b)
		}
	}
	for _, query := range []string{"", "?code=x", "?state=x", callback[strings.Index(callback, "?"):] + "&code=x", callback[strings.Index(callback, "?"):] + "&state=x"} { // L1 L9
		b := get(t, s.port, appHost, "/oauth2/callback"+query, append(navigation, "cookie: "+pending)...)
		if b.Status != http.StatusBadRequest || b.cookie("__Host-gh_corp") != "" {
			t.Errorf("callback%.12s…: %v, want 400", query, b)
		}
	}
	if got := s.idp.Hits(oidctest.Token); got != hits {
		t.Errorf("replays sent the code %d times more", got-hits)
	}
	if got := len(s.redis.keys(t)); got != keys {
		t.Errorf("replays changed the number of keys from %d to %d", keys, got)
	}
	neverArrived(t, s.app, "/oauth2/")
}

// O1 to O6: whatever return address is asked for, the browser stays on the host.
func TestReturnAddress(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{})
	for _, rd := range []string{
		"//evil.test", `/\evil.test`, "/%09/evil.test", "/%5cevil.test", "///evil.test", "/.//evil.test", "/..//evil.test", `\/evil.test`, "/\t/evil.test",
		"https://evil.test", "javascript:alert(1)", "data:text/html,x", "https:evil.test", "/x%0d%0aset-cookie:%20a=b", "/x\r\nset-cookie: a=b",
		"/oauth2/sign_out", "/oauth2/start?rd=/", "http://" + appHost + "@evil.test/", "",
	} {
		a := newAgent(t)
		p := a.signIn(s.url(appHost, "/oauth2/start?rd="+url.QueryEscape(rd)), "alice")
		u, err := url.Parse(p.url)
		if err != nil || u.Host != fmt.Sprintf("%s:%d", appHost, s.port) || p.Status != http.StatusOK || strings.HasPrefix(u.Path, "/oauth2/") || strings.HasPrefix(u.Path, "//") {
			t.Errorf("rd=%q led to %s: %v", rd, p.url, p)
		}
		if p.Header.Get("set-cookie") == "a=b" {
			t.Errorf("rd=%q set a cookie", rd)
		}
	}
}

// Sessions live in the store: every replica knows them, a sign-out at one is
// true at the other, and keys in Redis are no cookies (C2).
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	s, _ := newPair(t)
	cookie := s.session(t, appHost, "alice")
	line := "cookie: " + cookie
	for range 6 { // Envoy takes turns
		get(t, s.port, appHost, "/both", line).seen(t)
	}
	name, _, _ := strings.Cut(cookie, "=")
	for _, key := range s.redis.keys(t) {
		for _, text := range []string{key, key[strings.LastIndex(key, ":")+1:]} {
			if a := get(t, s.port, appHost, "/refused", "cookie: "+name+"="+text); a.Status != http.StatusUnauthorized {
				t.Errorf("key %q as cookie: %v, want 401", text, a)
			}
		}
	}
	out := raw(t, s.port, "POST /oauth2/sign_out HTTP/1.1", "host: "+strings.TrimPrefix(s.origin(appHost), "http://"), "origin: "+s.origin(appHost),
		"sec-fetch-site: same-origin", "sec-fetch-mode: navigate", "sec-fetch-dest: document", "accept: text/html", "content-length: 0", line)
	if out.Status != http.StatusSeeOther || !slices.ContainsFunc(out.Header["Set-Cookie"], func(c string) bool { return strings.HasPrefix(c, name+"=;") }) {
		t.Errorf("sign out: %v, want 303 and the cookie deleted", out)
	}
	for range 6 {
		if a := get(t, s.port, appHost, "/refused", line); a.Status != http.StatusUnauthorized {
			t.Errorf("old cookie: %v, want 401", a)
		}
	}
	neverArrived(t, s.app, "/refused")
}

// C12: nobody else can sign a user out.
func TestForeignSignOut(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{})
	line := "cookie: " + s.session(t, appHost, "alice")
	host := "host: " + strings.TrimPrefix(s.origin(appHost), "http://")
	for _, c := range [][]string{
		{"POST /oauth2/sign_out HTTP/1.1", host, "origin: https://evil.test", "sec-fetch-site: cross-site"},
		{"POST /oauth2/sign_out HTTP/1.1", host, "origin: null"},
		{"POST /oauth2/sign_out HTTP/1.1", host},
		{"GET /oauth2/sign_out HTTP/1.1", host, "sec-fetch-site: cross-site", "sec-fetch-mode: no-cors", "sec-fetch-dest: image"},
		{"GET /oauth2/sign_out HTTP/1.1", host, "sec-fetch-site: none", "sec-fetch-mode: navigate", "sec-fetch-dest: document"},
		{"GET /oauth2/sign_out HTTP/1.1", host},
	} {
		a := raw(t, s.port, append(c, line, "content-length: 0")...)
		if a.Header["Set-Cookie"] != nil {
			t.Errorf("%q cleared cookies: %v", c, a)
		}
		get(t, s.port, appHost, "/alive", line).seen(t)
	}
}
