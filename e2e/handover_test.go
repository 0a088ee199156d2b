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
	c := &handOvers{stack: s, alice: newSignedIn(t, s, "alice"), mallory: newSignedIn(t, s, "mallory")}
	t.Run("twice", c.twice)
	t.Run("no cookie", c.noCookie)
	t.Run("another host", c.anotherHost)
	t.Run("another browser", c.anotherBrowser)
	t.Run("malformed", c.malformed)
	t.Run("late", c.late)
	neverArrived(t, s.app, "/oauth2/")
}

type handOvers struct {
	*stack
	alice, mallory *agent
}

// nobody fails when an answer gave anybody a session, or alice lost hers.
func (c *handOvers) nobody(t *testing.T, what string, got answer) {
	t.Helper()
	if got.cookie("__Host-gh_corp") != "" || got.Status >= 500 || got.Status == http.StatusOK {
		t.Errorf("%s: %v, want no session and no 500", what, got)
	}
	if p := c.alice.open(c.url(appHost, "/alice")); p.user(t) != "alice" {
		t.Errorf("%s: alice is %v", what, p)
	}
}

func (c *handOvers) twice(t *testing.T) {
	p := c.parcel(t, c.alice, otherHost)
	first := c.fetch(t, p, p.line)
	session := first.cookie("__Host-gh_corp")
	if first.Status != http.StatusSeeOther || session == "" || first.Header.Get("location") != "/target?of="+otherHost {
		t.Fatalf("first: %v, want 303 to the address of the cookie", first)
	}
	c.nobody(t, "again", c.fetch(t, p, p.line))
	c.logged(t, "login_refused", `"reason":"code_used_or_late"`)
	with := c.fetch(t, p, p.line+"; __Host-gh_corp="+session)
	if with.Status != http.StatusSeeOther || with.Header.Get("location") != "/target?of="+otherHost {
		t.Errorf("again, with a live session: %v, want 303 to the address", with)
	}
}

func (c *handOvers) noCookie(t *testing.T) {
	p := c.parcel(t, c.alice, goodHost)
	c.nobody(t, "without a cookie", c.fetch(t, p, ""))
	c.nobody(t, "with junk", c.fetch(t, p, "cookie: __Host-gh_p_"+p.query.Get("a")+"=junk"))
	if a := c.fetch(t, p, p.line); a.cookie("__Host-gh_corp") == "" {
		t.Errorf("the right browser after strangers: %v; junk must not spend the code", a)
	}
}

func (c *handOvers) anotherHost(t *testing.T) {
	here, there := c.parcel(t, c.alice, tokensHost), c.parcel(t, c.alice, bothHost)
	here.query.Set("code", there.query.Get("code"))
	c.nobody(t, "a code of another host", c.fetch(t, here, here.line))
	c.logged(t, "login_refused", `"reason":"code_of_another_host"`)
}

func (c *handOvers) anotherBrowser(t *testing.T) {
	mine, hers := c.parcel(t, c.mallory, otherHost), c.parcel(t, c.alice, bothHost)
	stolen := c.parcel(t, c.mallory, bothHost)
	stolen.query.Set("code", hers.query.Get("code"))
	c.nobody(t, "alice's code in mallory's browser", c.fetch(t, stolen, stolen.line))
	c.logged(t, "login_refused", `"reason":"code_of_another_browser"`)
	victim := c.parcel(t, newSignedIn(t, c.stack, "root"), otherHost)
	victim.query.Set("code", mine.query.Get("code"))
	c.nobody(t, "mallory's code in root's browser", c.fetch(t, victim, victim.line))
}

func (c *handOvers) malformed(t *testing.T) {
	for name, query := range map[string]string{"no code": "?a=x", "no name": "?code=" + random(), "twice the code": "?a=x&code=1&code=2", "empty": ""} {
		c.nobody(t, name, get(t, c.port, otherHost, "/oauth2/handoff"+query, navigation...))
	}
	for name, req := range map[string]string{"junk": "x", "long": strings.Repeat("A", 3000), "empty": ""} {
		got := get(t, c.port, loginHost+":"+portOf(c.origin(loginHost)), "/oauth2/start?req="+req, navigation...)
		if got.Status < 400 || got.Status >= 500 {
			t.Errorf("req %s at the login host: %v, want 4xx", name, got)
		}
	}
}

func (c *handOvers) late(t *testing.T) {
	p := c.parcel(t, newSignedIn(t, c.stack, "root"), otherHost)
	time.Sleep(61 * time.Second)
	got := c.fetch(t, p, p.line)
	c.nobody(t, "after a minute", got)
	if at := got.Header.Get("location"); got.Status/100 != 3 || !strings.Contains(at, "/oauth2/start") {
		t.Errorf("after a minute: %v, want one restart", got)
	}
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
