package login_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// C12: what a page of the application can be made to load without anybody's click (an
// image in a comment, a link that the browser fetches ahead) signs nobody out.
func TestC12SignOutNeedsAClick(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	fetch := func(mode, dest string, more ...authz.Field) []authz.Field {
		return append([]authz.Field{{Name: "accept", Value: "text/html,*/*"}, {Name: "sec-fetch-site", Value: "same-origin"}, {Name: "sec-fetch-mode", Value: mode}, {Name: "sec-fetch-dest", Value: dest}}, more...)
	}
	for name, header := range map[string][]authz.Field{
		"image":    fetch("no-cors", "image"),
		"style":    fetch("no-cors", "style"),
		"iframe":   fetch("navigate", "iframe"),
		"script":   fetch("cors", "empty"),
		"prefetch": fetch("no-cors", "empty", authz.Field{Name: "sec-purpose", Value: "prefetch"}),
		"prender":  fetch("navigate", "document", authz.Field{Name: "sec-purpose", Value: "prefetch;prerender"}),
	} {
		if d := b.send("GET", "/oauth2/sign_out", header); d.Response.Status != 403 || b.jar[sessionCookie] == "" {
			t.Errorf("%s = %d, cookie %q; want 403 and the cookie kept", name, d.Response.Status, b.jar[sessionCookie])
		}
	}
	if d := b.get("/x"); d.Outcome != authz.Allow {
		t.Fatalf("signed out without a click: %s", d.Reason)
	}
	if d := b.send("POST", "/oauth2/sign_out", fetch("cors", "empty")); d.Response.Status != 200 || b.jar[sessionCookie] != "" {
		t.Errorf("a script of the application signs out by POST = %d", d.Response.Status)
	}
}

// L11: while a second tab signs in, scripts of the first one still send the session
// that it replaces. Their refusal must not delete the cookie of the new one.
func TestL11LateScriptKeepsTheNewCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	one, two := b.begin("/one"), b.begin("/two")
	b.lands(one, "/one")
	late := b.copy()
	b.lands(two, "/two")
	w.login.Wait(5 * time.Second) // the replaced session is over
	d := late.send("GET", "/api", []authz.Field{{Name: "sec-fetch-mode", Value: "cors"}, {Name: "sec-fetch-dest", Value: "empty"}})
	if d.Response.Status != 401 || field(d.Response, "set-cookie") != "" {
		t.Errorf("script with the replaced session = %d, set-cookie %q", d.Response.Status, field(d.Response, "set-cookie"))
	}
	b.store(d.Response)
	if d := b.get("/two"); d.Outcome != authz.Allow {
		t.Errorf("the new session was lost: %s", d.Reason)
	}
}

// D8: a late callback during an outage cannot tell whether there is a session, so it
// neither starts another login nor says that there is none.
func TestD8LateCallbackDuringOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	b.lands(callback, "/x")
	w.store.down.Store(true)
	if d := b.get(callback); d.Response.Status != 503 || b.jar[sessionCookie] == "" {
		t.Errorf("reload of a callback while the store is down = %d %q", d.Response.Status, field(d.Response, "location"))
	}
	w.store.down.Store(false)
	b.lands(callback, "/x")
}

// A login that lost its cookie starts again at the same provider.
func TestLostAttemptKeepsItsProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	partners := oidctest.Start(t, oidctest.Config{AutoLogin: "bob"})
	w.assemble(login.Config{
		Prefix: "/oauth2", Hosts: []login.Host{{Name: host, Origin: "http://app.localhost:8000", Providers: []string{"corp", "partners"}}},
		Providers: []*oidc.Provider{w.provider, w.newProvider("partners", partners.Issuer())}, Sessions: w.sessions, Ring: w.ring,
	})
	b := w.browser()
	callback := b.start("/oauth2/start?provider=partners&rd=/x")
	b.jar = map[string]string{}
	to := field(b.get(callback).Response, "location")
	if !strings.HasPrefix(to, "/oauth2/start?provider=partners&rd=/x&again=") {
		t.Errorf("a lost login at partners goes on at %q", to)
	}
	b.lands(b.start(to), "/x")
}

// A query may hold a backslash as it stands: browsers do not encode it there.
func TestBackslashInTheQueryIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.lands(b.begin(`/search?q=a\b&dir=C:\`), `/search?q=a%5Cb&dir=C:%5C`)
	c := w.browser()
	c.lands(c.start("/oauth2/start?rd="+url.QueryEscape(`/x?\\evil.test`)), "/")
}

// L2: while one replica waits for a slow provider, the page's next load may reach
// another one. The code is sent once, and the login succeeds all the same.
func TestL2SlowLoginAtTwoReplicas(t *testing.T) {
	t.Parallel()
	var cfg login.Config
	w := newWorld(t, func(c *login.Config) { c.CheckTimeout = 50 * time.Millisecond; cfg = *c })
	w.idp.Next(oidctest.Token, oidctest.Slow(time.Second))
	b := w.browser()
	d := b.get(b.begin("/x"))
	first := w.login
	w.assemble(cfg) // the other replica
	for range 3 {
		next, ok := strings.CutPrefix(field(d.Response, "refresh"), "1; url=")
		if d.Response.Status != 200 || !ok {
			t.Fatalf("slow login = %d %v\n%s", d.Response.Status, d.Response.Header, d.Response.Body)
		}
		d = b.get(next)
	}
	first.Wait(5 * time.Second)
	w.skew.Add(int64(4 * time.Second))
	b.lands(strings.TrimPrefix(field(d.Response, "refresh"), "1; url="), "/x")
	if n := w.idp.Hits(oidctest.Token); n != 1 || w.store.creates.Load() != 1 {
		t.Errorf("%d token requests and %d records, want one of each", n, w.store.creates.Load())
	}
}

// The page does not wait for ever for a replica that has died meanwhile.
func TestSlowLoginOfADeadReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	target := b.begin("/x") + "&gh_repeat=1"
	for i := range 60 {
		d := b.get(target)
		if d.Response.Status == 400 && strings.Contains(string(d.Response.Body), "Start again") {
			if i < 20 || w.idp.Hits(oidctest.Token) != 0 || len(b.names("__Host-gh_p_")) != 0 {
				t.Errorf("gave up after %d loads, %d token requests, cookies %q", i, w.idp.Hits(oidctest.Token), b.names(""))
			}
			return
		}
		target = strings.TrimPrefix(field(d.Response, "refresh"), "1; url=")
		w.skew.Add(int64(time.Second))
	}
	t.Error("the page goes on for ever")
}
