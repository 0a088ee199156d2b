package logout_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/logout"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

var click = authz.Field{Name: "sec-fetch-site", Value: "same-origin"}

// signOut clicks on "Sign out" of an application and returns where it leads.
func (b *browser) signOut(address string) string {
	b.w.t.Helper()
	out := b.send("GET", address, append(append([]authz.Field{}, navigate...), click))
	if out == nil || out.Status != http.StatusSeeOther {
		b.w.t.Fatalf("GET %s = %+v, want 303", address, out)
	}
	return field(*out, "location")
}

// OpenID Connect RP-Initiated Logout 1.0 section 2: parameters and the way back.
func TestG1RoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		own           bool
		rd, back, way string
	}{
		{false, "", appHost, "/"},
		{false, "/a?b=c", appHost, "/a?b=c"},
		{true, "", ownHost, appHost + "/"},
		{true, "/a?b=c", ownHost, appHost + "/a?b=c"},
	} {
		w := newWorld(t, c.own)
		b := w.signedIn(appHost + "/x")
		old := b.copy()
		to := b.signOut(appHost + "/oauth2/sign_out?rd=" + url.QueryEscape(c.rd))
		q := check(url.Parse(to))(t).Query()
		if !strings.HasPrefix(to, w.idp.Issuer()+"/end_session?") || q.Get("client_id") != "mesh" || q.Get("id_token_hint") == "" ||
			q.Get("post_logout_redirect_uri") != c.back+"/oauth2/signed_out" || q.Get("state") == "" {
			t.Errorf("rd %q: leads to %s", c.rd, to)
		}
		if old.alive(appHost+"/x") || b.session("app.localhost") != "" {
			t.Errorf("rd %q: the session or its cookie lives on", c.rd)
		}
		if c.own && old.alive(mine) {
			t.Errorf("rd %q: signed in at the login host still", c.rd)
		}
		last, page := b.open(to)
		if !strings.HasPrefix(last, c.back+"/oauth2/signed_out?state=") || page == nil || !strings.Contains(string(page.Body), "You are signed out") ||
			!strings.Contains(string(page.Body), `href="`+c.way+`"`) {
			t.Errorf("rd %q: ends at %s without the way to %s\n%s", c.rd, last, c.way, page.Body)
		}
		w.clean(string(page.Body))
	}
}

// G1: the session dies first, whatever the provider does, and nobody waits for it.
func TestG1ProviderDown(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]oidctest.Script{
		"down": oidctest.Down, "500": oidctest.Status(500), "slow": oidctest.Slow(3 * time.Second),
	} {
		w := newWorld(t, false)
		b := w.signedIn(appHost + "/x")
		old := b.copy()
		w.idp.AlwaysAll(fault)
		began := time.Now()
		b.signOut(appHost + "/oauth2/sign_out")
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if old.alive(appHost + "/x") {
			t.Errorf("%s: the session lives on", name)
		}
	}
}

func TestG1HintIsLeftOutWhenLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	w.idp.Always(oidctest.Token, oidctest.Claim("note", strings.Repeat("x", 4<<10)))
	b := w.signedIn(appHost + "/x")
	q := check(url.Parse(b.signOut(appHost + "/oauth2/sign_out")))(t).Query()
	if q.Has("id_token_hint") || q.Get("client_id") != "mesh" || q.Get("state") == "" {
		t.Errorf("parameters %v, want client_id and state without a hint", q)
	}
}

// G1: a state that is not ours changes nothing and is never shown.
func TestG1JunkState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	good := check(url.Parse(b.signOut(appHost + "/oauth2/sign_out?rd=/deep")))(t).Query().Get("state")
	for _, c := range []struct{ host, query string }{
		{ownHost, "state=%22%3E%3Cscript%3Ejunk"},
		{ownHost, "state=junk&state=junk"},
		{ownHost, "state=" + good + "&state=" + good},
		{ownHost, "state=" + good[:len(good)-2] + "zz"},
		{ownHost, "state=" + strings.Repeat("junk", 1000)},
		{ownHost, "state=%zz" + good},
		{appHost, "state=" + good}, // sealed for the login host
	} {
		out := w.browser().send("GET", c.host+"/oauth2/signed_out?"+c.query, navigate)
		body := string(out.Body)
		if out.Status != 200 || strings.Contains(body, "junk") || strings.Contains(body, "deep") || strings.Contains(body, good[:20]) {
			t.Errorf("%s?%.60s = %d\n%s", c.host, c.query, out.Status, body)
		}
	}
	if out := w.browser().send("GET", ownHost+"/oauth2/signed_out?state="+good, navigate); !strings.Contains(string(out.Body), appHost+"/deep") {
		t.Errorf("the good state leads nowhere:\n%s", out.Body)
	}
}

func TestO7RedirectAfterSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	for _, rd := range []string{
		"https://evil.test", "//evil.test", `/\evil.test`, "/%09/evil.test", "javascript:alert(1)", "/oauth2/sign_out", "/x\r\nset-cookie: a=b", "/" + strings.Repeat("x", 600),
	} {
		b := w.signedIn(appHost + "/x")
		to := b.signOut(appHost + "/oauth2/sign_out?rd=" + url.QueryEscape(rd))
		_, page := b.open(to)
		if page == nil || !strings.Contains(string(page.Body), `href="/"`) || strings.Contains(string(page.Body), "evil") {
			t.Errorf("rd %q leads elsewhere:\n%s", rd, page.Body)
		}
		_, page = w.browser().open(appHost+"/oauth2/sign_out?rd="+url.QueryEscape(rd), click) // nobody is signed in
		if page == nil || !strings.Contains(string(page.Body), `href="/"`) {
			t.Errorf("rd %q leads elsewhere without a session:\n%s", rd, page.Body)
		}
	}
}

// The button of the page that asks keeps the way back.
func TestAskKeepsTheWayBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	out := b.send("GET", appHost+"/oauth2/sign_out?rd=/deep", navigate)
	policy := field(*out, "content-security-policy")
	if !strings.Contains(string(out.Body), `action="/oauth2/sign_out?rd=%2Fdeep"`) || !strings.HasSuffix(policy, "form-action 'self' "+w.idp.Issuer()+" "+ownHost) {
		t.Errorf("policy %s\n%s", policy, out.Body)
	}
	if !b.alive(appHost + "/x") {
		t.Error("asking signed out")
	}
}

// RFC 7009: the refresh token is given back, once, when the session is over.
func TestRevocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	b := w.signedIn(appHost + "/x")
	b.signOut(appHost + "/oauth2/sign_out")
	w.logout.Wait(5 * time.Second)
	sent := w.idp.Requests(oidctest.Revocation)
	if len(sent) != 1 || sent[0].PostForm.Get("token_type_hint") != "refresh_token" || sent[0].PostForm.Get("token") == "" {
		t.Fatalf("%d revocations", len(sent))
	}
	w.clean()
	if !w.logged("signed_out", `"client":"192.0.2.7"`, `"provider":"corp"`) {
		t.Errorf("the sign-out is not in the log:\n%s", w.log)
	}
}

// A reload waits for the revocations of a Logout that still answers: with a
// sync.WaitGroup that is a data race, and at worst a panic.
func TestWaitWhileAnswering(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	var all []*browser
	for range 20 {
		all = append(all, w.signedIn(appHost+"/x"))
	}
	done := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				w.logout.Wait(5 * time.Second)
			}
		}
	})
	for _, b := range all {
		b.signOut(appHost + "/oauth2/sign_out")
	}
	close(done)
	waiting.Wait()
	w.logout.Wait(5 * time.Second)
	if n := len(w.idp.Requests(oidctest.Revocation)); n != len(all) {
		t.Errorf("%d revocations for %d sign-outs", n, len(all))
	}
}

func TestRevocationIsBestEffort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	b := w.signedIn(appHost + "/x")
	w.idp.Always(oidctest.Revocation, oidctest.Status(503))
	b.signOut(appHost + "/oauth2/sign_out")
	w.logout.Wait(5 * time.Second)
	if !w.logged("token_not_revoked", "req-1") {
		t.Errorf("a revocation that failed is not in the log:\n%s", w.log)
	}
}

// A session that could not be ended keeps its tokens, its cookie and its life.
func TestStoreDownSignsNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	b := w.signedIn(appHost + "/x")
	w.store.endsFail.Store(true)
	out := b.send("POST", appHost+"/oauth2/sign_out?rd=/deep", submit(appHost))
	if out.Status != 503 || field(*out, "retry-after") == "" || field(*out, "set-cookie") != "" || !strings.Contains(string(out.Body), `action="/oauth2/sign_out?rd=%2Fdeep"`) {
		t.Errorf("sign out = %d %v\n%s", out.Status, out.Header, out.Body)
	}
	w.logout.Wait(5 * time.Second)
	if n := w.idp.Hits(oidctest.Revocation); n != 0 {
		t.Errorf("%d tokens of a live session were revoked", n)
	}
	w.store.endsFail.Store(false)
	if !b.alive(appHost + "/x") {
		t.Error("the session is gone")
	}
}

func TestSignedOutAtLoginHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(mine)
	old := b.copy()
	_, page := b.open(b.signOut(ownHost + "/oauth2/sign_out"))
	if page == nil || !strings.Contains(string(page.Body), `href="/oauth2/sessions"`) || old.alive(mine) {
		t.Errorf("sign-out on the login host: alive %v\n%s", old.alive(mine), page.Body)
	}
}

// What the provider is told is worth waiting for a while; the ending gets its time.
func TestG1TokensCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	b := w.signedIn(appHost + "/x")
	old := b.copy()
	w.store.hang.Store(1)
	to := b.signOut(appHost + "/oauth2/sign_out")
	if old.alive(appHost+"/x") || strings.Contains(to, "id_token_hint") {
		t.Errorf("alive %v, leads to %s", old.alive(appHost+"/x"), to)
	}
}

// A host that is no longer configured is not led to.
func TestSignInAgainAtAHostThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	to := check(url.Parse(b.signOut(appHost + "/oauth2/sign_out?rd=/deep")))(t).Query().Get("state")
	next := newWorldAt(t, true, func(_ *world, lc *login.Config) {
		lc.Ring = w.ring
		lc.Hosts = []login.Host{{Name: "other.localhost", Origin: "http://other.localhost:8000", Providers: []string{"corp"}}}
	}, func(_ *world, cfg *logout.Config) { cfg.Ring = w.ring })
	out := next.browser().send("GET", ownHost+"/oauth2/signed_out?state="+url.QueryEscape(to), navigate)
	if strings.Contains(string(out.Body), "deep") || !strings.Contains(string(out.Body), `href="/oauth2/sessions"`) {
		t.Errorf("leads elsewhere:\n%s", out.Body)
	}
}

// Who signs out of an application is told about that, whatever else he is signed in as.
func TestSignedOutWithAnotherProviderAlive(t *testing.T) {
	t.Parallel()
	w := newWorldAt(t, true, func(w *world, lc *login.Config) {
		lc.Providers = append(lc.Providers, w.newProvider("other", "mesh", w.idp.Issuer()))
		lc.LoginHost.Providers = []string{"corp", "other"}
	})
	b := w.browser()
	b.open(ownHost + "/oauth2/start?provider=other&rd=/oauth2/sessions")
	b.open(appHost + "/x")
	if !b.alive(mine) || !b.alive(appHost+"/x") {
		t.Fatal("not signed in twice")
	}
	_, page := b.open(b.signOut(appHost + "/oauth2/sign_out"))
	if page == nil || !strings.Contains(string(page.Body), "You are signed out") || !b.alive(mine) {
		t.Errorf("at the login host alive: %v\n%s", b.alive(mine), page.Body)
	}
}

// G8: there is no front-channel logout, so nothing of ours may be framed.
func TestG8NoFrontChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	for _, host := range []string{appHost, ownHost} {
		q := url.Values{"iss": {w.idp.Issuer()}, "sid": {w.sidOf(b)}}
		if out := b.send("GET", host+"/oauth2/frontchannel-logout?"+q.Encode(), navigate); out.Status != http.StatusNotFound {
			t.Errorf("%s = %d, want 404", host, out.Status)
		}
	}
	if !b.alive(appHost + "/x") {
		t.Error("signed out")
	}
}

// Of two sessions one ended before the store failed: both cookies stay, since they may
// share a name.
func TestSignOutTornInTwo(t *testing.T) {
	t.Parallel()
	w := newWorldAt(t, true, func(w *world, lc *login.Config) {
		lc.Providers = append(lc.Providers, w.newProvider("other", "mesh", w.idp.Issuer()))
		lc.LoginHost.Providers = []string{"corp", "other"}
	})
	b := w.browser()
	for _, name := range []string{"corp", "other"} {
		b.open(ownHost + "/oauth2/start?provider=" + name + "&rd=/oauth2/sessions")
	}
	w.store.ends.Store(1)
	out := b.send("POST", ownHost+"/oauth2/sign_out", submit(ownHost))
	if out.Status != 503 || field(*out, "set-cookie") != "" || !strings.Contains(string(out.Body), "You are not signed out") {
		t.Errorf("%d %v\n%s", out.Status, out.Header, out.Body)
	}
}

// A script that names a provider that is not there is not told that it is signed out.
func TestSignOutOfAnUnknownProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	b := w.signedIn(appHost + "/x")
	script := []authz.Field{{Name: "accept", Value: "application/json"}, click}
	if out := b.send("POST", appHost+"/oauth2/sign_out?provider=junk", script); out.Status != 400 || !b.alive(appHost+"/x") {
		t.Errorf("%d %s", out.Status, out.Body)
	}
	if out := b.send("POST", appHost+"/oauth2/sign_out?provider=corp", script); out.Status != 200 || b.alive(appHost+"/x") {
		t.Errorf("one that is: %d %s", out.Status, out.Body)
	}
}

// While the store cannot be asked nobody is told that he is signed out (promise 7).
func TestSignedOutStoreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	b := w.signedIn(appHost + "/x")
	w.store.down.Store(true)
	out := b.send("GET", appHost+"/oauth2/signed_out", navigate)
	if !strings.Contains(string(out.Body), "You are still signed in") || b.session("app.localhost") == "" {
		t.Errorf("%d\n%s", out.Status, out.Body)
	}
}
