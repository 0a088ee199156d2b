package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// The provider may be down at start: everything else works, a login gets a page
// that says so, and logins work as soon as it is back.
func TestProviderDownAtStart(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{late: true})
	get(t, s.port, openHost, "/up").seen(t)
	get(t, s.port, apiHost, "/up", bearer(s.idp.Bearer(nil))...).seen(t)
	p := newProfile(t)
	if got := p.open(s.url(appHost, "/refused")); got != http.StatusServiceUnavailable {
		t.Errorf("login without a provider: %d at %s, want 503", got, p.where())
	}
	p.fit()
	p.picture("provider-down")
	s.certified.up(t)
	eventually(t, 30*time.Second, func() error {
		p.open(s.url(appHost, "/later?x=1"))
		if at := p.location(); !strings.HasPrefix(at, s.certified.issuer) {
			return fmt.Errorf("still at %s", at)
		}
		return nil
	})
	p.pick("alice")
	if got := p.seen().Target; got != "/later?x=1" {
		t.Errorf("after login: %q", got)
	}
	neverArrived(t, s.app, "/refused")
}

// A provider that takes longer than a Check may last costs the user a moment on a
// page that says so, and no second try.
func TestSlowProvider(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{})
	s.idp.Next(oidctest.Token, oidctest.Slow(6*time.Second))
	p := newProfile(t)
	p.open(s.url(appHost, "/slow?x=1"))
	p.pick("alice")
	if got := p.text(); !strings.Contains(p.location(), "/oauth2/callback") {
		t.Errorf("while the provider thinks: %q at %s, want a page of ours", got, p.location())
	}
	p.fit()
	p.picture("still-working")
	eventually(t, 15*time.Second, func() error {
		if at := p.location(); at != s.url(appHost, "/slow?x=1") {
			return fmt.Errorf("at %s", p.where())
		}
		return nil
	})
	if got := p.seen().values("x-auth-request-user"); len(got) != 1 || got[0] != "alice" {
		t.Errorf("user %q", got)
	}
	if hits := s.idp.Hits(oidctest.Token); hits != 1 {
		t.Errorf("%d requests to the token endpoint, want 1", hits)
	}
}

// Redis down is 503 with the cookie kept, never a sign-out and never an allow;
// the same cookie works again afterwards.
func TestRedisDown(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, listeners: []listener{{rawHeaders: true}}, sessions: []string{"store_grace: 0s"}})
	cookie := "cookie: " + s.session(t, appHost, "alice")
	get(t, s.port, appHost, "/up", cookie).seen(t)
	p := newProfile(t)
	p.open(s.url(appHost, "/up"))
	p.pick("alice")

	s.redis.down()
	for range 3 {
		a := get(t, s.port, appHost, "/refused", cookie)
		if a.Status != http.StatusServiceUnavailable || a.Header.Get("retry-after") == "" || a.Header["Set-Cookie"] != nil {
			t.Errorf("store down: %v, want 503 with retry-after and no cookie", a)
		}
	}
	if got := p.open(s.url(appHost, "/refused")); got != http.StatusServiceUnavailable {
		t.Errorf("store down, browser: %d at %s, want 503", got, p.where())
	}
	p.fit()
	p.picture("store-down")
	get(t, s.port, openHost, "/still").seen(t)
	get(t, s.port, apiHost, "/still", bearer(s.idp.Bearer(nil))...).seen(t)
	if a := get(t, s.port, appHost, "/refused", "cookie: __Host-gh_corp=garbage"); a.Status != http.StatusUnauthorized {
		t.Errorf("garbage cookie while the store is down: %v, want 401 (it causes no I/O)", a)
	}
	if err := answers200("http://" + addr(s.gatehouse.ops) + "/readyz")(); err != nil {
		t.Errorf("degraded, yet ready: %v", err)
	}

	s.redis.up(t)
	eventually(t, 10*time.Second, func() error {
		if a := get(t, s.port, appHost, "/back", cookie); a.Status != http.StatusOK {
			return fmt.Errorf("still %v", a)
		}
		return nil
	})
	if got := p.open(s.url(appHost, "/back")); got != http.StatusOK || p.seen().values("x-auth-request-user")[0] != "alice" {
		t.Errorf("browser afterwards: %d at %s", got, p.where())
	}
	neverArrived(t, s.app, "/refused")
}

// Promises 4 and 5: strangers write nothing, and cookies that we did not mint ask nothing.
func TestStrangersCostNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true})
	before := s.redis.commands(t)
	a := newAgent(t)
	for i := range 5 {
		a.open(s.url(appHost, fmt.Sprintf("/refused/%d", i))) // as far as the provider
	}
	for _, cookie := range []string{"x", strings.Repeat("A", 90), strings.Repeat("_", 3000), ""} {
		get(t, s.port, appHost, "/refused", "cookie: __Host-gh_corp="+cookie)
		get(t, s.port, appHost, "/oauth2/callback?code=x&state="+cookie, append(navigation, "cookie: __Host-gh_p_x="+cookie)...)
	}
	get(t, s.port, appHost, "/oauth2/userinfo")
	if keys := s.redis.keys(t); len(keys) != 0 {
		t.Errorf("strangers left keys %q", keys)
	}
	if after := s.redis.commands(t); after != before {
		t.Errorf("strangers caused %d commands", after-before)
	}
	s.session(t, appHost, "alice")
	if after := s.redis.commands(t); after == before || len(s.redis.keys(t)) == 0 {
		t.Error("not even a login caused a command: this test sees nothing")
	}
	neverArrived(t, s.app, "/refused")
}

// ourKey is the name of a record, an index or a note. The feed of endings beats on other
// names, whether or not anybody asks for anything.
var ourKey = regexp.MustCompile(`"gh:[a-z]:`)

// commands counts what Redis was asked about our keys.
func (r *redis) commands(t testing.TB) int {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // the monitor is a stream
	files, _ := filepath.Glob(filepath.Join(run.dir, fmt.Sprintf("redis-%d-*.log", r.port)))
	n := 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		n += len(ourKey.FindAll(text, -1))
	}
	return n
}
