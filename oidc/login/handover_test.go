package login_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// The second application needs no provider round trip, on whatever domain it is.
func TestHandOver(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	first := v.signIn(one + "/deep/link?with=query&and=%2Fmore")
	var path []string
	for _, hop := range v.hops {
		address, _, _ := strings.Cut(hop, "?")
		path = append(path, address)
	}
	want := []string{one + "/deep/link", one + "/oauth2/start", auth + "/oauth2/start", m.idp.Issuer() + "/authorize", auth + "/oauth2/callback", one + "/oauth2/handoff", one + "/deep/link"}
	if !slices.Equal(path, want) {
		t.Errorf("the first login went by\n%q, want\n%q", path, want)
	}
	for _, app := range []string{two, wild, choice + "/oauth2/start?provider=corp&rd="} {
		end, d := v.follow(app + "/x")
		if d.Outcome != authz.Allow || d.Identity.Session != first.Session {
			t.Errorf("%s: %v at %s, identity %+v; want the same session", app, d.Outcome, end, d.Identity)
		}
	}
	if n := m.idp.Hits(oidctest.Authorize); n != 1 || m.store.creates.Load() != 1 {
		t.Errorf("four applications asked the provider %d times and made %d records, want one of each", n, m.store.creates.Load())
	}
	for origin, b := range v.jars {
		if names := b.names("__Host-gh_p_"); len(names) != 0 {
			t.Errorf("pending cookies are left at %s: %q", origin, names)
		}
	}
}

// C16, C17: the cookie of one host opens no other, the login host's included.
func TestC17CookiesAreOfOneHost(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	v.signIn(one + "/x")
	v.signIn(two + "/x")
	origins := []string{auth, one, two}
	for _, from := range origins {
		for _, to := range origins {
			thief := m.visitor()
			thief.at(to).jar[sessionCookie] = v.at(from).jar[sessionCookie]
			d := thief.load(to + "/oauth2/userinfo")
			if ok := d.Response.Status == 200; ok != (from == to) {
				t.Errorf("cookie of %s at %s = %d", from, to, d.Response.Status)
			}
		}
	}
}

// L20: the provider knows one address, whatever host the login is for.
func TestL20OneRedirectURI(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, app := range []string{one, two, wild} {
		to, _ := m.visitor().follow(app+"/x", m.idp.Issuer())
		if !strings.Contains(to, "redirect_uri=https%3A%2F%2Fauth.example.com%2Foauth2%2Fcallback&") {
			t.Errorf("%s: authorization request %s", app, to)
		}
	}
	for _, address := range []string{one + "/oauth2/callback?code=x&state=y", auth + "/oauth2/handoff?code=x&a=y"} {
		if d := m.visitor().load(address); d.Response.Status != 404 {
			t.Errorf("GET %s = %d, want 404", address, d.Response.Status)
		}
	}
}

// fetched brings a visitor to the hand-over of address and stops before it.
func (v *visitor) fetched(address string) string {
	v.m.t.Helper()
	to, _ := v.follow(address, "/oauth2/handoff?")
	return to
}

// Every hand-over that is not this browser's, here, once and in time is refused with
// its reason; nobody gets a session by it, and nobody loses one.
func TestHandOverRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason string
		takes  int64 // how often the store was asked for a code
		try    func(m *mesh, v *visitor) (victim *visitor, address string)
	}{
		"another browser without an errand": {"no_cookie", 0, func(m *mesh, v *visitor) (*visitor, string) {
			return m.visitor(), v.fetched(one + "/x")
		}},
		"another browser with its own errand": {"code_of_another_browser", 1, func(m *mesh, v *visitor) (*visitor, string) {
			theirs := v.fetched(one + "/x")
			victim := m.visitor()
			mine := victim.fetched(one + "/y")
			return victim, param(mine, "code", value(theirs, "code"))
		}},
		"another host": {"code_of_another_host", 1, func(_ *mesh, v *visitor) (*visitor, string) {
			theirs := v.fetched(one + "/x")
			mine := v.fetched(two + "/y")
			return v, param(mine, "code", value(theirs, "code"))
		}},
		"another host's address": {"no_cookie", 0, func(_ *mesh, v *visitor) (*visitor, string) {
			return v, strings.Replace(v.fetched(one+"/x"), one, two, 1)
		}},
		"used before": {"code_used_or_late", 1, func(_ *mesh, v *visitor) (*visitor, string) {
			address := v.fetched(one + "/x")
			thief := v.copy()
			v.load(address)
			delete(thief.at(one).jar, sessionCookie)
			return thief, address
		}},
		"made up": {"code_used_or_late", 1, func(_ *mesh, v *visitor) (*visitor, string) {
			return v, param(v.fetched(one+"/x"), "code", strings.Repeat("A", 26))
		}},
		"no code":   {"bad_code", 0, func(_ *mesh, v *visitor) (*visitor, string) { return v, param(v.fetched(one+"/x"), "code", "") }},
		"odd code":  {"bad_code", 0, func(_ *mesh, v *visitor) (*visitor, string) { return v, param(v.fetched(one+"/x"), "code", "*") }},
		"no errand": {"no_cookie", 0, func(_ *mesh, v *visitor) (*visitor, string) { return v, param(v.fetched(one+"/x"), "a", "") }},
		"errand of another name": {"no_cookie", 0, func(_ *mesh, v *visitor) (*visitor, string) {
			address := v.fetched(one + "/x")
			jar := v.at(one).jar
			jar["__Host-gh_p_"+strings.Repeat("A", 26)] = jar["__Host-gh_p_"+value(address, "a")]
			return v, param(address, "a", strings.Repeat("A", 26))
		}},
		"cut errand": {"no_cookie", 0, func(_ *mesh, v *visitor) (*visitor, string) {
			address := v.fetched(one + "/x")
			name := "__Host-gh_p_" + value(address, "a")
			v.at(one).jar[name] = v.at(one).jar[name][:40]
			return v, address
		}},
		"errand of another host": {"no_cookie", 0, func(_ *mesh, v *visitor) (*visitor, string) {
			address := strings.Replace(v.fetched(one+"/x"), one, two, 1)
			v.at(two).jar = v.at(one).jar
			return v, address
		}},
		"attempt as errand": {"no_cookie", 0, func(m *mesh, v *visitor) (*visitor, string) {
			v.follow(one+"/x", m.idp.Issuer())
			address := v.fetched(one + "/x")
			for _, text := range v.at(auth).jar {
				v.at(one).jar["__Host-gh_p_"+value(address, "a")] = text
			}
			return v, address
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			victim, address := c.try(m, m.visitor())
			had, before := victim.session(address), m.store.takes.Load()
			d := victim.load(address)
			to := field(d.Response, "location")
			if d.Response.Status != 303 || !strings.HasPrefix(to, "/oauth2/start?rd=/") || victim.session(address) != had || m.reasons(c.reason) != 1 {
				t.Errorf("%d to %q, %d times %s; want one restart\n%s", d.Response.Status, to, m.reasons(c.reason), c.reason, m.log)
			}
			if n := m.store.takes.Load() - before; n != c.takes {
				t.Errorf("the store was asked for a code %d times, want %d", n, c.takes)
			}
			host := address[:strings.Index(address, "/oauth2/")]
			if end, d := victim.follow(host + to); d.Outcome != authz.Allow {
				t.Errorf("the restart ended at %s: %v %d", end, d.Outcome, d.Response.Status)
			}
		})
	}
}

// session returns the session cookie that v has where address is.
func (v *visitor) session(address string) string {
	return v.at(address[:strings.Index(address, "/oauth2/")]).jar[sessionCookie]
}

func (v *visitor) copy() *visitor {
	c := v.m.visitor()
	for origin, b := range v.jars {
		c.jars[origin] = b.copy()
	}
	return c
}

// value returns a parameter of an address.
func value(address, name string) string {
	_, rest, _ := strings.Cut(address, name+"=")
	v, _, _ := strings.Cut(rest, "&")
	return v
}

// The third restart within half a minute is a page that names the likely causes,
// also for a browser that does not keep the application's cookies.
func TestHandOverLoopIsBroken(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for name, lose := range map[string]func(v *visitor){
		"no cookies at the application": func(v *visitor) { clear(v.at(one).jar) },
		"no cookies at the login host":  func(v *visitor) { clear(v.at(auth).jar) },
		"no cookies anywhere":           func(v *visitor) { clear(v.at(one).jar); clear(v.at(auth).jar) },
		"sessions that do not last": func(v *visitor) {
			for origin, b := range v.jars {
				_, host, _ := strings.Cut(origin, "://")
				m.forgetAt(host, b)
			}
		},
	} {
		v, address := m.visitor(), one+"/x"
		var end authz.Decision
		for range 40 {
			if address, end = v.follow(address, "/oauth2/handoff?", "/oauth2/callback?", "/oauth2/start?", "/x"); address == "" || end.Response.Status != 0 {
				break
			}
			lose(v)
			end = authz.Decision{}
		}
		if end.Response.Status != 400 || !strings.Contains(string(end.Response.Body), "goes round in circles") {
			t.Errorf("%s: %v %d at %s", name, end.Outcome, end.Response.Status, address)
		}
	}
}

// Step (b) asks only what the login host itself has been asked for.
func TestRequestRefusals(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	good, _ := v.follow(one+"/x", auth+"/oauth2/start?")
	state, _ := m.visitor().follow(one+"/x", m.idp.Issuer())
	for name, c := range map[string]struct{ reason, address string }{
		"empty":    {"bad_req", param(good, "req", " ")},
		"junk":     {"bad_req", param(good, "req", "AAAA")},
		"cut":      {"bad_req", good[:len(good)-3]},
		"a state":  {"bad_req", param(good, "req", value(state, "state"))},
		"very big": {"bad_req", param(good, "req", strings.Repeat("A", 9000))},
		"twice":    {"malformed_query", good + "&req=x"},
	} {
		before := m.reasons(c.reason)
		b := m.visitor()
		if d := b.load(c.address); d.Response.Status != 400 || m.reasons(c.reason) != before+1 || len(b.at(auth).jar) != 0 {
			t.Errorf("%s = %d, cookies %q", name, d.Response.Status, b.at(auth).jar)
		}
	}
	if d := v.load(one + good[len(auth):]); !strings.HasPrefix(field(d.Response, "location"), auth+"/oauth2/start?req=") {
		t.Errorf("a req at an application host = %d %q, want an ordinary start", d.Response.Status, field(d.Response, "location"))
	}
	for _, mode := range []string{"cors", "no-cors", "navigate"} {
		header := authz.Header{{Name: "sec-fetch-mode", Value: mode}, {Name: "sec-fetch-dest", Value: "iframe"}}
		if r := m.serve(good, header); r.Status != 401 || field(r, "set-cookie") != "" {
			t.Errorf("X2: %s in an iframe = %d", mode, r.Status)
		}
	}
	m.skew.Store(int64(10 * time.Minute))
	if d := v.load(good); d.Response.Status != 400 || m.reasons("expired") != 1 || !strings.Contains(string(d.Response.Body), one+"/") {
		t.Errorf("after ten minutes = %d", d.Response.Status)
	}
	m.skew.Store(0)
	m.build([]func(*login.Config){func(cfg *login.Config) { m.hosts(cfg); cfg.Hosts = cfg.Hosts[1:] }})
	if d := v.load(good); d.Response.Status != 400 || m.reasons("unknown_host") != 1 {
		t.Errorf("a host that is gone = %d", d.Response.Status)
	}
}

// A store that cannot be asked is no "no": pages say so, nothing is cleared, and once
// it is back everything goes on where it was.
func TestHandOverDuringOutage(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]struct{ at, from string }{
		"start at the login host":    {auth + "/oauth2/start?", two},
		"callback":                   {auth + "/oauth2/callback?", one},
		"hand-over":                  {"/oauth2/handoff?", one},
		"hand-over of a second host": {"/oauth2/handoff?", two},
	} {
		m := newMesh(t)
		v := m.visitor()
		if stop.from == two {
			v.signIn(one + "/x")
		}
		address, _ := v.follow(stop.from+"/y", stop.at)
		m.store.down.Store(true)
		for range 2 {
			d := v.load(address)
			if d.Response.Status != 503 || field(d.Response, "retry-after") == "" || field(d.Response, "set-cookie") != "" || m.reasons("store_unavailable") == 0 {
				t.Errorf("%s while the store is down = %d %v", name, d.Response.Status, d.Response.Header)
			}
		}
		m.store.down.Store(false)
		m.skew.Store(int64(5 * time.Second)) // longer than an outage is remembered
		if end, d := v.follow(address); end != stop.from+"/y" || d.Outcome != authz.Allow {
			t.Errorf("%s: after the outage at %s: %v %d\n%s", name, end, d.Outcome, d.Response.Status, m.log)
		}
	}
}

// D8: a late tab during an outage is neither sent round nor told that it is signed out.
func TestD8LateHandOverDuringOutage(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	address := v.fetched(one + "/x")
	v.follow(address)
	m.store.down.Store(true)
	if d := v.load(address); d.Response.Status != 503 || v.session(address) == "" {
		t.Errorf("reload of a hand-over while the store is down = %d", d.Response.Status)
	}
	m.store.down.Store(false)
	if d := v.load(address); d.Response.Status != 303 || field(d.Response, "location") != "/" {
		t.Errorf("reload of a hand-over = %d %q", d.Response.Status, field(d.Response, "location"))
	}
}

// L2: a repeated callback hands the same session over again, and never makes another.
func TestL2RepeatedCallbackOfTheLoginHost(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	callback, _ := v.follow(one+"/x", auth+"/oauth2/callback?")
	before := v.copy()
	v.follow(callback)
	if end, d := before.follow(callback); d.Outcome != authz.Allow || end != one+"/x" {
		t.Errorf("a repeat ended at %s: %v", end, d.Outcome)
	}
	v.at(one).jar = map[string]string{}
	if to, _ := v.follow(callback, "/oauth2/handoff?"); !strings.HasPrefix(to, one+"/oauth2/handoff?") { // the attempt is gone, the session lives
		t.Errorf("a reload of the callback goes to %s", to)
	}
	if m.store.creates.Load() != 1 || m.idp.Hits(oidctest.Token) != 1 {
		t.Errorf("%d records, %d token requests; want one of each", m.store.creates.Load(), m.idp.Hits(oidctest.Token))
	}
}

// L11: tabs that finish in any order land on their own addresses.
func TestL11TabsThroughTheLoginHost(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	var callbacks []string
	for i := range 5 {
		callback, _ := v.follow(fmt.Sprintf("%s/tab/%d", one, i), auth+"/oauth2/callback?")
		callbacks = append(callbacks, callback)
	}
	var handoffs []string
	for _, callback := range slices.Backward(callbacks) {
		handoff, _ := v.follow(callback, "/oauth2/handoff?")
		handoffs = append(handoffs, handoff)
	}
	for i, handoff := range slices.Backward(handoffs) {
		want := fmt.Sprintf("%s/tab/%d", one, 4-i)
		if end, d := v.follow(handoff); end != want || d.Outcome != authz.Allow {
			t.Errorf("tab %d ended at %s: %v", i, end, d.Outcome)
		}
	}
	m.login.Wait(5 * time.Second) // what was replaced is over
	if end, d := v.follow(one + "/after"); end != one+"/after" || d.Outcome != authz.Allow {
		t.Errorf("afterwards: %v at %s", d.Outcome, end)
	}
}

// L12, X1: neither host keeps more than five pending logins, and a flood writes nothing.
func TestL12PendingLoginsOnBothHosts(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	for range 8 {
		v.follow(one+"/x?"+strings.Repeat("a", 200), m.idp.Issuer())
		m.skew.Add(int64(2 * time.Second))
	}
	for _, origin := range []string{one, auth} {
		b := v.at(origin)
		if n := len(b.names("__Host-gh_p_")); n != 5 || len(b.cookies()) > 4096 {
			t.Errorf("%s: %d pending cookies of %d bytes", origin, n, len(b.cookies()))
		}
	}
	for range 200 {
		m.visitor().follow(two+"/y", m.idp.Issuer())
	}
	if n := m.store.creates.Load() + m.store.loads.Load() + m.store.puts.Load() + m.store.takes.Load(); n != 0 {
		t.Errorf("logins that did not finish asked the store %d times", n)
	}
}

// Whoever is refused can sign in as somebody else: the password is asked for, although
// the login host has a session, and that one ends.
func TestSignInAsSomebodyElse(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	v := m.visitor()
	first := v.signIn(one + "/x")
	v.signIn(two + "/x")
	d := v.load(one + "/admin/")
	link := string(d.Response.Body)
	link = link[strings.Index(link, `<a href="`)+len(`<a href="`):]
	link = strings.ReplaceAll(link[:strings.IndexByte(link, '"')], "&amp;", "&")
	to, _ := v.follow(one+link, m.idp.Issuer())
	if !strings.Contains(to, "prompt=login") {
		t.Fatalf("%q leads to %s", link, to)
	}
	v.follow(to)
	second := v.signIn(one + "/x")
	if second.Session == first.Session {
		t.Error("the session is the same")
	}
	m.login.Wait(5 * time.Second)
	if other := v.signIn(two + "/x"); other.Session != second.Session {
		t.Errorf("the other application goes on with session %s, want %s", other.Session, second.Session)
	}
	if n := m.idp.Hits(oidctest.Authorize); n != 2 {
		t.Errorf("%d authorization requests, want 2", n)
	}
}

// A host below a wildcard that is not listed is never redirected.
func TestUnlistedHostIsNotRedirected(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, address := range []string{"https://y.wild.example.com/x", "https://y.wild.example.com/oauth2/start?rd=/x", "https://y.wild.example.com/oauth2/handoff?code=a&a=b"} {
		if d := m.visitor().load(address); d.Response.Status != 401 || field(d.Response, "location") != "" {
			t.Errorf("GET %s = %d %q, want 401", address, d.Response.Status, field(d.Response, "location"))
		}
	}
}

// A changed client or issuer refuses logins that began before, at every step.
func TestPendingLoginsAreBoundToTheClient(t *testing.T) {
	t.Parallel()
	for _, stop := range []string{auth + "/oauth2/start?", auth + "/oauth2/callback?", "/oauth2/handoff?"} {
		m := newMesh(t)
		v := m.visitor()
		address, _ := v.follow(one+"/x", stop)
		m.build([]func(*login.Config){m.hosts, func(cfg *login.Config) {
			cfg.Providers[0] = check(oidc.NewProvider(oidc.ProviderConfig{Name: "corp", Issuer: m.idp.Issuer(), Client: &oidc.ClientConfig{ID: "other", AuthMethod: "none"}}))(t)
		}})
		tokens := m.idp.Hits(oidctest.Token)
		if d := v.load(address); d.Response.Status != 400 || len(v.at(one).names(sessionCookie)) != 0 || m.idp.Hits(oidctest.Token) != tokens || m.reasons("unknown_host")+m.reasons("unknown_provider") != 1 {
			t.Errorf("%s after the client has changed = %d", stop, d.Response.Status)
		}
	}
}
