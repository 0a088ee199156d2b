package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// A code waits for a minute, an errand for ten.
func TestL19HandOverExpires(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	address := v.fetched(one + "/deep")
	if life := time.Duration(m.store.life.Load()); life != time.Minute {
		t.Errorf("a code waits for %v, want a minute", life)
	}
	m.skew.Store(int64(10 * time.Minute))
	d := v.load(address)
	if d.Response.Status != 400 || m.reasons("expired") != 1 || len(v.at(one).jar) != 0 || m.store.takes.Load() != 0 || links(d)[0] != "/deep" {
		t.Errorf("after ten minutes = %d, links %q, cookies %q", d.Response.Status, links(d), v.at(one).jar)
	}
}

// X2, L13: a hand-over is a navigation, and nothing else uses it up.
func TestHandOverIsANavigation(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	address := v.fetched(one + "/x")
	for name, c := range map[string]struct {
		method string
		header authz.Header
		status int
	}{
		"POST":     {"POST", navigate, 405},
		"HEAD":     {"HEAD", navigate, 405},
		"script":   {"GET", authz.Header{{Name: "sec-fetch-mode", Value: "cors"}}, 400},
		"iframe":   {"GET", authz.Header{{Name: "sec-fetch-mode", Value: "navigate"}, {Name: "sec-fetch-dest", Value: "iframe"}}, 400},
		"prefetch": {"GET", append(authz.Header{{Name: "sec-purpose", Value: "prefetch"}}, navigate...), 400},
	} {
		header := append(authz.Header{{Name: "cookie", Value: v.at(one).cookies()}}, c.header...)
		r := check(authz.NewRequest(authz.Raw{Method: c.method, Authority: "one.localhost:8000", Target: address[len(one):], Header: header}))(t)
		if d := m.gate.Authorize(t.Context(), r); d.Response.Status != c.status || field(d.Response, "set-cookie") != "" {
			t.Errorf("%s = %d %v, want %d", name, d.Response.Status, d.Response.Header, c.status)
		}
	}
	for _, more := range []string{"&code=b", "&a=b", "&%61=b", "&%zz=1"} {
		if d := v.load(address + more); d.Response.Status != 400 {
			t.Errorf("L9: hand-over%s = %d", more, d.Response.Status)
		}
	}
	if end, d := v.follow(address); end != one+"/x" || d.Outcome != authz.Allow || m.store.takes.Load() != 1 {
		t.Errorf("afterwards the hand-over ended at %s: %v", end, d.Outcome)
	}
}

// C7: when the record has ended, every host's cookie is dead, the login host's too.
func TestC7EndedSessionIsHandedToNobody(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	first := v.signIn(one + "/x")
	waiting := v.fetched(two + "/y")
	m.forgetAt("one.localhost", v.at(one))
	if d := v.copy().load(one + "/x"); d.Response.Status != 302 {
		t.Errorf("the application lets an ended session in: %v", d.Outcome)
	}
	if d := v.copy().load(auth + "/oauth2/userinfo"); d.Response.Status != 401 {
		t.Errorf("the login host knows an ended session: %d", d.Response.Status)
	}
	v.load(waiting) // a hand-over that was under way gives a cookie for nothing
	if d := v.copy().load(two + "/y"); d.Response.Status != 302 {
		t.Errorf("the other application lets an ended session in: %v", d.Outcome)
	}
	if again := v.signIn(two + "/y"); again.Session == first.Session || m.idp.Hits(oidctest.Authorize) != 2 {
		t.Errorf("signed in again as session %s with %d authorization requests", again.Session, m.idp.Hits(oidctest.Authorize))
	}
}

// A session that the login host did not know of is ended when another takes its place.
func TestHandOverEndsWhatItReplaces(t *testing.T) {
	t.Parallel()
	m := withClock(t)
	v := m.visitor()
	v.signIn(one + "/x")
	old := v.copy()
	clear(v.at(auth).jar)
	m.skew.Store(int64(2 * time.Second)) // the ends of sessions are told apart by the second
	v.follow(one + "/oauth2/start?rd=/x")
	m.login.Wait(5 * time.Second)
	if d := old.load(one + "/x"); d.Outcome == authz.Allow {
		t.Error("the session that was replaced lives on")
	}
	if d := v.load(one + "/x"); d.Outcome != authz.Allow {
		t.Errorf("the new session: %v", d.Outcome)
	}
}

// A tab that was slower than another brings an older session. It does not end the
// younger one, which the login host and other tabs go on with.
func TestL11LateHandOverEndsNoYoungerSession(t *testing.T) {
	t.Parallel()
	m := withClock(t)
	v := m.visitor()
	slow := v.fetched(one + "/slow")
	m.skew.Store(int64(2 * time.Second))
	v.follow(one + "/oauth2/start?rd=/fast&prompt=login")
	younger := v.load(one + "/fast").Identity
	v.load(slow)
	m.login.Wait(5 * time.Second)
	if again := v.signIn(one + "/x"); younger == nil || again.Session != younger.Session || m.idp.Hits(oidctest.Authorize) != 2 {
		t.Errorf("the younger session %+v went: now %s, %d authorization requests", younger, again.Session, m.idp.Hits(oidctest.Authorize))
	}
}

// L11: two applications that are opened at once share the session of the first that comes
// back; the second login does not sign the first application out. Who asks to sign in
// again gets what he asks for.
func TestL11ApplicationsOpenedAtOnceShareASession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second string
		logins int64
	}{
		"opened at once": {two + "/y", 1},
		"signs in again": {two + "/oauth2/start?rd=/y&prompt=login", 2},
	} {
		m := newMesh(t)
		v := m.visitor()
		first, _ := v.follow(one+"/x", auth+"/oauth2/callback?")
		second, _ := v.follow(c.second, auth+"/oauth2/callback?")
		v.follow(first)
		if end, d := v.follow(second); end != two+"/y" || d.Outcome != authz.Allow {
			t.Errorf("%s: the second login ended at %s: %v", name, end, d.Outcome)
		}
		m.login.Wait(5 * time.Second)
		shared := c.logins == 1
		if d := v.load(one + "/x"); (d.Outcome == authz.Allow) != shared {
			t.Errorf("%s: the first application: %v %s", name, d.Outcome, d.Reason)
		}
		if n := m.store.creates.Load(); n != c.logins || (m.reasons("overtaken") == 1) != shared {
			t.Errorf("%s: %d sessions\n%s", name, n, m.log)
		}
		if names := v.at(auth).names("__Host-gh_p_"); len(names) != 0 {
			t.Errorf("%s: pending cookies are left: %q", name, names)
		}
	}
}

// An application that is gone when the browser comes back from the provider gets no
// session, and none is made for it.
func TestCallbackForAnApplicationThatIsGone(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	callback, _ := v.follow(one+"/x", auth+"/oauth2/callback?")
	live := m.visitor()
	live.signIn(two + "/y")
	m.build([]func(*login.Config){func(cfg *login.Config) { m.hosts(cfg); cfg.Hosts = cfg.Hosts[1:] }})
	before := m.store.creates.Load()
	for i, b := range []*visitor{v, m.visitor(), live} { // with its attempt, without, and signed in
		if d := b.load(callback); d.Response.Status != 400 || m.reasons("unknown_host") != i+1 {
			t.Errorf("browser %d: callback = %d\n%s", i, d.Response.Status, m.log)
		}
	}
	m.login.Wait(5 * time.Second)
	m.build([]func(*login.Config){func(cfg *login.Config) { // no host signs in for others any more
		m.hosts(cfg)
		cfg.Hosts, cfg.LoginHost = []login.Host{*cfg.LoginHost}, nil
	}})
	if d := m.visitor().load(callback); d.Response.Status != 400 || m.reasons("unknown_host") != 4 {
		t.Errorf("without a login host: callback = %d", d.Response.Status)
	}
	if m.store.creates.Load() != before || m.idp.Hits(oidctest.Token) != 1 {
		t.Errorf("%d sessions were made, %d codes redeemed", m.store.creates.Load()-before, m.idp.Hits(oidctest.Token)-1)
	}
}

// withClock is a mesh whose sessions go by its clock, too.
func withClock(t *testing.T) *mesh {
	t.Helper()
	m := newMesh(t)
	m.sessions = check(session.New(session.Config{Store: m.store, Ring: m.ring, IdleTimeout: time.Hour, AbsoluteTimeout: 12 * time.Hour, Now: m.now}))(t)
	m.build([]func(*login.Config){m.hosts})
	return m
}

func TestFullStoreTakesNoHandOver(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	v.signIn(one + "/x")
	m.store.full.Store(true)
	_, d := v.follow(two + "/x")
	if d.Response.Status != 503 || field(d.Response, "retry-after") == "" || m.reasons("store_full") != 1 {
		t.Errorf("hand-over with a full store = %d", d.Response.Status)
	}
	if d := v.load(one + "/x"); d.Outcome != authz.Allow {
		t.Errorf("the session that was there: %v", d.Outcome)
	}
}

// A provider that takes its time shows the "still working" page on the login host, which
// goes on to the application by itself.
func TestSlowProviderThroughTheLoginHost(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.build([]func(*login.Config){m.hosts, func(cfg *login.Config) { cfg.CheckTimeout = 20 * time.Millisecond }})
	m.idp.Next(oidctest.Token, oidctest.Slow(300*time.Millisecond))
	v := m.visitor()
	address, d := v.follow(one + "/x")
	for range 40 {
		refresh := field(d.Response, "refresh")
		if refresh == "" {
			break
		}
		time.Sleep(20 * time.Millisecond)
		address, d = v.follow(auth + strings.TrimPrefix(refresh, "1; url="))
	}
	if address != one+"/x" || d.Outcome != authz.Allow || m.idp.Hits(oidctest.Token) != 1 {
		t.Errorf("ended at %s: %v, %d token requests", address, d.Outcome, m.idp.Hits(oidctest.Token))
	}
}

// without_refresh_token: reauthenticate. The session ends with its access token, and not
// where a refresh token can renew it.
func TestReauthenticate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wish, refresh bool
		want          time.Duration
	}{{true, false, 5 * time.Minute}, {true, true, 12 * time.Hour}, {false, false, 12 * time.Hour}} {
		w := newWorld(t)
		w.idp = oidctest.Start(t, oidctest.Config{AutoLogin: "alice", AlwaysRefresh: c.refresh, AccessTTL: 5 * time.Minute})
		w.provider = w.newProvider("corp", w.idp.Issuer())
		cfg := w.config()
		cfg.Reauthenticate = c.wish
		w.assemble(cfg)
		b := w.browser()
		b.signIn("/x")
		w.skew.Store(int64(c.want - time.Minute))
		if d := b.get("/x"); d.Outcome != authz.Allow {
			t.Errorf("%+v: a minute before the end = %v %s", c, d.Outcome, d.Reason)
		}
		w.skew.Store(int64(c.want + time.Minute))
		if d := b.get("/x"); d.Response.Status != 302 {
			t.Errorf("%+v: a minute after the end = %v", c, d.Outcome)
		}
	}
}

// The login host signs in for itself, too, for the page of one's sessions; at an
// application that address is no place to return to (O6).
func TestO6LoginHostSignsInForItself(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for address, want := range map[string]string{
		auth + "/oauth2/start?provider=corp&rd=/oauth2/sessions":   "/oauth2/sessions",
		auth + "/oauth2/start?provider=corp&rd=/oauth2/sessions/x": "/",
		auth + "/oauth2/start?provider=corp&rd=/oauth2/sign_out":   "/",
		one + "/oauth2/start?rd=/oauth2/sessions":                  "/",
	} {
		v := m.visitor()
		end, _ := v.follow(address)
		if !strings.HasSuffix(end, want) || len(v.at(end[:len(end)-len(want)]).jar) == 0 {
			t.Errorf("%s ended at %s, want %s", address, end, want)
		}
	}
}

// A second click on a hand-over that was taken is only late: it lands where the first did.
func TestHandOverTakenTwiceByItsOwnBrowser(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	address := v.fetched(one + "/deep")
	twice := v.copy()
	v.load(address)
	twice.at(one).jar[sessionCookie] = v.session(address)
	d := twice.load(address)
	if d.Response.Status != 303 || field(d.Response, "location") != "/deep" || twice.session(address) != v.session(address) || m.reasons("code_used_or_late") != 1 {
		t.Errorf("the second click = %d to %q", d.Response.Status, field(d.Response, "location"))
	}
	if names := twice.at(one).names("__Host-gh_p_"); len(names) != 0 {
		t.Errorf("pending cookies are left: %q", names)
	}
}
