package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// parcel is a hand-over that waits at an application host: the address of the code, and
// the browser's cookie that fetches it.
type parcel struct {
	host  string
	query url.Values
	line  string // cookie
}

// parcel begins a sign-in of a at host and stops where the session is handed over. The
// agent has a session at the login host already.
func (s *stack) parcel(t testing.TB, a *agent, host string) parcel {
	t.Helper()
	a.stopAt("/oauth2/handoff")
	defer a.stopAt("")
	p := a.open(s.url(host, "/target?of="+host))
	u, err := url.Parse(p.Header.Get("location"))
	if err != nil || u.Path != "/oauth2/handoff" || u.Query().Get("code") == "" {
		t.Fatalf("no hand-over to %s: %s %v", host, p.url, p)
	}
	if p.Header.Get("referrer-policy") != "no-referrer" {
		t.Errorf("the redirect with the code has referrer-policy %q", p.Header.Get("referrer-policy"))
	}
	return parcel{host: host, query: u.Query(), line: "cookie: " + a.cookie(s.url(host, "/"))}
}

// fetch presents a parcel's code at its host, with this cookie line or none.
func (s *stack) fetch(t testing.TB, p parcel, line string) answer {
	t.Helper()
	lines := navigation
	if line != "" {
		lines = append([]string{line}, navigation...)
	}
	return get(t, s.port, p.host, "/oauth2/handoff?"+p.query.Encode(), lines...)
}

// logged waits until a replica's log has a line with this message and these fields.
func (s *stack) logged(t testing.TB, message string, fields ...string) {
	t.Helper()
	want := append([]string{fmt.Sprintf(`"msg":%q`, message)}, fields...)
	eventually(t, 5*time.Second, func() error {
		for _, g := range s.replicas {
			for line := range strings.Lines(g.output()) {
				if !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(line, part) }) {
					return nil
				}
			}
		}
		return fmt.Errorf("no log has a line with %q", want)
	})
}

func newHandOvers(t testing.TB) *stack {
	t.Helper()
	return newStack(t, fixture{redis: true, login: true, replicas: 3})
}

// One sign-in at the provider opens every host; the second asks the provider nothing.
func TestHandOver(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	a := newAgent(t)
	if p := a.signIn(s.url(appHost, "/one?x=1"), "alice"); p.url != s.url(appHost, "/one?x=1") || p.user(t) != "alice" {
		t.Fatalf("first application: %s %v", p.url, p)
	}
	before := [2]int{s.idp.Hits(oidctest.Authorize), s.idp.Hits(oidctest.Token)}
	for _, host := range []string{otherHost, tokensHost} {
		if p := a.open(s.url(host, "/two?y=2")); p.url != s.url(host, "/two?y=2") || p.user(t) != "alice" {
			t.Errorf("%s: %s %v", host, p.url, p)
		}
	}
	if after := [2]int{s.idp.Hits(oidctest.Authorize), s.idp.Hits(oidctest.Token)}; after != before {
		t.Errorf("the provider was asked again: %v, then %v", before, after)
	}
	if n := len(s.redis.sessions(t)); n != 1 {
		t.Errorf("%d records, want one for every host", n)
	}
	cookies := map[string]string{}
	for _, host := range []string{appHost, otherHost, loginHost} {
		cookies[host] = a.cookie(s.url(host, "/"))
	}
	if cookies[appHost] == cookies[otherHost] || cookies[appHost] == cookies[loginHost] {
		t.Error("two hosts have the same cookie")
	}
	if v := s.signOut(t, s.gatehouse.checks, otherHost, cookies[otherHost]); !wentOut(v) {
		t.Fatalf("sign-out at the second: %v", v)
	}
	time.Sleep(100 * time.Millisecond)
	s.isOut(t, "signed out at another host", cookies[appHost])
	p := a.open(s.url(appHost, "/refused"))
	if !strings.HasPrefix(p.url, s.issuer()) {
		t.Errorf("after the sign-out the login host still hands over: %s", p.url)
	}
	neverArrived(t, s.app, "/oauth2/")
	neverArrived(t, s.app, "/refused")
}

// A code works once, on its host, in its browser, for a minute; everybody else gets
// nothing, and nobody's session is touched.
func TestHandOverRefusals(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	alice := newAgent(t)
	alice.signIn(s.url(appHost, "/alice"), "alice")
	mallory := newAgent(t)
	mallory.signIn(s.url(appHost, "/mallory"), "mallory")
	nobody := func(t *testing.T, what string, got answer) {
		t.Helper()
		if got.cookie("__Host-gh_corp") != "" || got.Status >= 500 || got.Status == http.StatusOK {
			t.Errorf("%s: %v, want no session and no 500", what, got)
		}
		if p := alice.open(s.url(appHost, "/alice")); p.user(t) != "alice" {
			t.Errorf("%s: alice is %v", what, p)
		}
	}
	t.Run("twice", func(t *testing.T) {
		p := s.parcel(t, alice, otherHost)
		first := s.fetch(t, p, p.line)
		session := first.cookie("__Host-gh_corp")
		if first.Status != http.StatusSeeOther || session == "" || first.Header.Get("location") != "/target?of="+otherHost {
			t.Fatalf("first: %v, want 303 to the address of the cookie", first)
		}
		nobody(t, "again", s.fetch(t, p, p.line))
		s.logged(t, "login_refused", `"reason":"code_used_or_late"`)
		with := s.fetch(t, p, p.line+"; __Host-gh_corp="+session)
		if with.Status != http.StatusSeeOther || with.Header.Get("location") != "/target?of="+otherHost {
			t.Errorf("again, with a live session: %v, want 303 to the address", with)
		}
	})
	t.Run("no cookie", func(t *testing.T) {
		p := s.parcel(t, alice, goodHost)
		nobody(t, "without a cookie", s.fetch(t, p, ""))
		nobody(t, "with junk", s.fetch(t, p, "cookie: __Host-gh_p_"+p.query.Get("a")+"=junk"))
		if a := s.fetch(t, p, p.line); a.cookie("__Host-gh_corp") == "" {
			t.Errorf("the right browser after strangers: %v; junk must not spend the code", a)
		}
	})
	t.Run("another host", func(t *testing.T) {
		here, there := s.parcel(t, alice, tokensHost), s.parcel(t, alice, bothHost)
		here.query.Set("code", there.query.Get("code"))
		nobody(t, "a code of another host", s.fetch(t, here, here.line))
		s.logged(t, "login_refused", `"reason":"code_of_another_host"`)
	})
	t.Run("another browser", func(t *testing.T) {
		mine, hers := s.parcel(t, mallory, otherHost), s.parcel(t, alice, bothHost)
		stolen := s.parcel(t, mallory, bothHost)
		stolen.query.Set("code", hers.query.Get("code"))
		nobody(t, "alice's code in mallory's browser", s.fetch(t, stolen, stolen.line))
		s.logged(t, "login_refused", `"reason":"code_of_another_browser"`)
		victim := s.parcel(t, newSignedIn(t, s, "root"), otherHost)
		victim.query.Set("code", mine.query.Get("code"))
		nobody(t, "mallory's code in root's browser", s.fetch(t, victim, victim.line))
	})
	t.Run("late", func(t *testing.T) {
		p := s.parcel(t, newSignedIn(t, s, "root"), otherHost)
		time.Sleep(61 * time.Second)
		got := s.fetch(t, p, p.line)
		nobody(t, "after a minute", got)
		if at := got.Header.Get("location"); got.Status/100 != 3 || !strings.Contains(at, "/oauth2/start") {
			t.Errorf("after a minute: %v, want one restart", got)
		}
	})
	for name, query := range map[string]string{"no code": "?a=x", "no name": "?code=" + random(), "twice the code": "?a=x&code=1&code=2", "empty": ""} {
		nobody(t, name, get(t, s.port, otherHost, "/oauth2/handoff"+query, navigation...))
	}
	for name, req := range map[string]string{"junk": "x", "long": strings.Repeat("A", 3000), "empty": ""} {
		got := get(t, s.port, loginHost+":"+portOf(s.origin(loginHost)), "/oauth2/start?req="+req, navigation...)
		if got.Status < 400 || got.Status >= 500 {
			t.Errorf("req %s at the login host: %v, want 4xx", name, got)
		}
	}
	neverArrived(t, s.app, "/oauth2/")
}

func newSignedIn(t testing.TB, s *stack, user string) *agent {
	t.Helper()
	a := newAgent(t)
	a.signIn(s.url(appHost, "/hello"), user)
	return a
}

// The login host has its prefix and nothing else, and application hosts no callback.
func TestLoginHostIsClosed(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	host := loginHost + ":" + portOf(s.origin(loginHost))
	for _, path := range []string{"/", "/x", "/oauth2", "/oauth2x", "/oauth2/..%2fx", "/oauth2/../x", "/oauth2;/start"} {
		if a := get(t, s.port, host, path, navigation...); a.Status < 400 || a.Status >= 500 {
			t.Errorf("login host %s: %v, want 4xx", path, a)
		}
	}
	for i, g := range s.replicas { // what Check itself lets through
		if v := g.checks.get(t.Context(), host, "/oauth2/start", "cookie: __Host-gh_corp=x", "x-auth-request-user: root"); v.Status != 0 || v.user() != "" {
			t.Errorf("replica %d, prefix of the login host: %v, want it through and no identity", i, v)
		}
		for _, path := range []string{"/", "/oauth2x", "/oauth2/..%2f", "/oauth2/%2e%2e/x", "//oauth2/start"} {
			if v := g.checks.get(t.Context(), host, path); v.Status == 0 {
				t.Errorf("replica %d lets %s of the login host through", i, path)
			}
		}
	}
	if a := get(t, s.port, appHost, "/oauth2/callback?code=x&state=y", navigation...); a.Status < 400 || a.cookie("__Host-gh_corp") != "" {
		t.Errorf("callback at an application host: %v", a)
	}
}
