package login_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

func TestL11ParallelTabsFinishInReverse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	var callbacks []string
	for i := range 5 {
		callbacks = append(callbacks, b.begin(fmt.Sprintf("/tab/%d", i)))
	}
	for i, callback := range slices.Backward(callbacks) {
		target := fmt.Sprintf("/tab/%d", i)
		b.lands(callback, target)
		if d := b.get(target); d.Outcome != authz.Allow {
			t.Errorf("tab %d after its login: %v %s", i, d.Outcome, d.Reason)
		}
	}
}

func TestL12AttemptsPerBrowserAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	first := b.begin("/first")
	w.skew.Store(int64(2 * time.Second))
	for range 9 {
		w.skew.Add(int64(2 * time.Second))
		b.begin("/x")
	}
	if n := len(b.names("__Host-gh_p_")); n != 5 {
		t.Errorf("%d pending cookies, want 5", n)
	}
	if n := len(b.cookies()); n > 4096 {
		t.Errorf("pending cookies are %d bytes", n)
	}
	d := b.get(first) // the oldest was dropped: start again, redeem nothing
	if d.Response.Status != 303 || !strings.HasPrefix(field(d.Response, "location"), "/oauth2/start?rd=/first&again=") || w.idp.Hits(oidctest.Token) != 0 {
		t.Errorf("dropped attempt: %d %q, %d token requests", d.Response.Status, field(d.Response, "location"), w.idp.Hits(oidctest.Token))
	}
	if n := w.store.creates.Load(); n != 0 { // X1
		t.Errorf("logins that did not finish wrote %d records", n)
	}
}

func TestL2Replay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	before := b.copy()
	b.lands(callback, "/x")
	repeat := before.copy()
	repeat.lands(callback, "/x")
	one, two := b.get("/x"), repeat.get("/x")
	if one.Identity == nil || two.Identity == nil || one.Identity.Session != two.Identity.Session || w.store.creates.Load() != 1 || w.idp.Hits(oidctest.Token) != 1 {
		t.Errorf("a repeat made another session: %+v, %+v, %d records, %d token requests", one.Identity, two.Identity, w.store.creates.Load(), w.idp.Hits(oidctest.Token))
	}
	if d := b.get(callback); d.Response.Status != 303 || field(d.Response, "location") != "/x" { // the cookie is gone, the session lives
		t.Errorf("reload after the login = %d %q", d.Response.Status, field(d.Response, "location"))
	}
	w.skew.Store(int64(61 * time.Second))
	late := before.copy()
	if d := late.get(callback); d.Response.Status != 400 || len(late.names("__Host-gh_corp")) != 0 || w.idp.Hits(oidctest.Token) != 1 {
		t.Errorf("repeat after a minute = %d, %d token requests", d.Response.Status, w.idp.Hits(oidctest.Token))
	}
}

func TestL2RepeatAtAnotherReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	before := b.copy()
	b.lands(callback, "/x")
	w.assemble(login.Config{
		Prefix: "/oauth2", Hosts: []login.Host{{Name: host, Origin: "http://app.localhost:8000", Providers: []string{"corp"}}},
		Providers: []*oidc.Provider{w.provider}, Sessions: w.sessions, Ring: w.ring,
	})
	before.lands(callback, "/x")
	if one, two := b.get("/x"), before.get("/x"); one.Identity == nil || two.Identity == nil || one.Identity.Session != two.Identity.Session || w.idp.Hits(oidctest.Token) != 1 {
		t.Errorf("another replica made another session")
	}
}

func TestL1L3StateOfAnotherBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	attacker := w.browser()
	callback := attacker.begin("/x")
	for name, target := range map[string]string{
		"no state":      param(callback, "state", ""),
		"empty state":   callback[:strings.Index(callback, "?")] + "?code=x&state=",
		"invented":      param(callback, "state", "AAAA"),
		"very long":     param(callback, "state", strings.Repeat("A", 9000)),
		"no parameters": "/oauth2/callback",
	} {
		victim := w.browser()
		victim.begin("/y")
		if d := victim.get(target); d.Response.Status != 400 || len(victim.names("__Host-gh_corp")) != 0 {
			t.Errorf("%s: %d, want 400", name, d.Response.Status)
		}
	}
	victim := w.browser()
	victim.begin("/y")
	d := victim.get(callback)
	if d.Response.Status != 303 || !strings.HasPrefix(field(d.Response, "location"), "/oauth2/start?") || len(victim.names("__Host-gh_corp")) != 0 {
		t.Errorf("L3: the attacker's callback in the victim's browser = %d %q", d.Response.Status, field(d.Response, "location"))
	}
	if n := w.idp.Hits(oidctest.Token); n != 0 {
		t.Errorf("%d token requests for foreign states, want 0", n)
	}
}

// A state belongs to its own cookie, not to any that the browser has.
func TestL3CookieOfAnotherAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	attacker, victim := w.browser(), w.browser()
	callback := attacker.begin("/x")
	victim.begin("/y")
	victim.jar[attacker.names("__Host-gh_p_")[0]] = victim.jar[victim.names("__Host-gh_p_")[0]] // moved to the attempt's name
	if d := victim.get(callback); d.Response.Status != 303 || !strings.HasPrefix(field(d.Response, "location"), "/oauth2/start?") || w.idp.Hits(oidctest.Token) != 0 {
		t.Errorf("cookie of another attempt: %d, %d token requests", d.Response.Status, w.idp.Hits(oidctest.Token))
	}
}

func TestL7Issuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, iss := range []string{"https://c.test", ""} {
		b := w.browser()
		if d := b.get(param(b.begin("/x"), "iss", iss)); d.Response.Status != 400 || len(b.names("__Host-gh_")) != 0 {
			t.Errorf("iss %q = %d with cookies %q, want 400 and none", iss, d.Response.Status, b.names(""))
		}
	}
	if n := w.idp.Hits(oidctest.Token); n != 0 {
		t.Errorf("%d token requests, want 0", n)
	}
}

func TestL8ErrorResponse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	q, _ := url.ParseQuery(b.begin("/x")[len("/oauth2/callback?"):])
	q.Del("code")
	q.Set("error", "access_denied")
	q.Set("error_description", `<svg/onload=1>"'&`)
	d := b.get("/oauth2/callback?" + q.Encode())
	if body := string(d.Response.Body); d.Response.Status != 403 || strings.Contains(body, "<svg") || !strings.Contains(body, "&lt;svg/onload=1&gt;") {
		t.Errorf("error response = %d\n%s", d.Response.Status, body)
	}
	if len(b.names("__Host-gh_")) != 0 || w.idp.Hits(oidctest.Token) != 0 {
		t.Errorf("the state was not used up: %q", b.names(""))
	}
}

func TestL9DuplicatedParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	for _, more := range []string{"&code=b", "&state=b", "&iss=b", "&%63ode=b", "&x=1&x=2", "&%zz=1"} {
		if d := b.get(callback + more); d.Response.Status != 400 || w.idp.Hits(oidctest.Token) != 0 {
			t.Errorf("callback%s = %d, want 400", more, d.Response.Status)
		}
	}
	b.lands(callback, "/x") // none of them cost the attempt
}

func TestL10Fixation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/x")
	old := b.copy()
	first := b.get("/x").Identity.Session
	b.lands(b.start("/oauth2/start?rd=/x&prompt=login"), "/x")
	if second := b.get("/x").Identity.Session; second == first {
		t.Errorf("the session kept its id at a new login")
	}
	// A script of another tab, sent before the new cookie arrived.
	if d := old.get("/x"); d.Outcome != authz.Allow {
		t.Errorf("a request under way lost its session: %v %s", d.Outcome, d.Reason)
	}
	w.login.Wait(5 * time.Second) // ends what was replaced
	if d := old.get("/x"); d.Response.Status != 302 {
		t.Errorf("the old session still opens the door: %v", d.Outcome)
	}
}

// L1, H7: state and attempt belong to the host that made them.
func TestL1CallbackOfAnotherHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *login.Config) {
		c.Hosts = append(c.Hosts, login.Host{Name: "two.localhost", Origin: "http://two.localhost:8000", Providers: []string{"corp"}})
	})
	b := w.browser()
	callback := b.begin("/x")
	r := check(authz.NewRequest(authz.Raw{
		Method: "GET", Authority: "two.localhost:8000", Target: callback,
		Header: append(authz.Header{{Name: "cookie", Value: b.cookies()}}, navigate...),
	}))(t)
	if d := w.gate.Authorize(t.Context(), r); d.Response.Status != 400 || w.idp.Hits(oidctest.Token) != 0 {
		t.Errorf("callback at another host = %d, %d token requests", d.Response.Status, w.idp.Hits(oidctest.Token))
	}
	b.lands(callback, "/x")
}

// L2: two loads of one callback at the same moment are one redemption.
func TestL2CallbacksAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.Next(oidctest.Token, oidctest.Slow(200*time.Millisecond))
	b := w.browser()
	callback := b.begin("/x")
	var tabs sync.WaitGroup
	for range 5 {
		tab := b.copy()
		tabs.Go(func() {
			if d := tab.get(callback); d.Response.Status != 303 {
				t.Errorf("callback = %d, want 303", d.Response.Status)
			}
		})
	}
	tabs.Wait()
	if n := w.idp.Hits(oidctest.Token); n != 1 || w.store.creates.Load() != 1 {
		t.Errorf("%d token requests and %d records, want one of each", n, w.store.creates.Load())
	}
}

func TestL13CallbackAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	if d := b.get(strings.Replace(callback, "/callback", "/callback/", 1)); d.Response.Status != 404 {
		t.Errorf("/callback/ = %d, want 404", d.Response.Status)
	}
	if d := b.send("POST", callback, navigate); d.Response.Status != 405 {
		t.Errorf("POST = %d, want 405", d.Response.Status)
	}
	if e := w.login.Endpoint("other.localhost", "/oauth2/callback"); e != nil {
		t.Errorf("another host has a callback")
	}
	if e := w.login.Endpoint(host, "/oauth2x/callback"); e != nil {
		t.Errorf("a path beside the prefix is ours")
	}
}

func TestL19StateExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	w.skew.Store(int64(11 * time.Minute))
	if d := b.get(callback); d.Response.Status != 400 || !strings.Contains(string(d.Response.Body), "Start again") || w.idp.Hits(oidctest.Token) != 0 {
		t.Errorf("after 11 minutes = %d", d.Response.Status)
	}
	if d := w.browser().get(callback); d.Response.Status != 400 {
		t.Errorf("after 11 minutes, without the cookie = %d", d.Response.Status)
	}
}

func TestL5RejectedIDToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	w.idp.Next(oidctest.Token, oidctest.Claim("nonce", "other"))
	callback := b.begin("/x")
	if d := b.get(callback); d.Response.Status != 400 || len(b.names("__Host-gh_")) != 0 || w.store.creates.Load() != 0 {
		t.Errorf("foreign nonce = %d, cookies %q", d.Response.Status, b.names(""))
	}
}

func TestX2OnlyNavigationsStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nav := func(name, value string) []authz.Field {
		h := slices.Clone(navigate)
		for i := range h {
			if h[i].Name == name {
				h[i].Value = value
			}
		}
		return h
	}
	for name, send := range map[string]struct {
		method string
		header []authz.Field
	}{
		"fetch":     {"GET", nav("sec-fetch-mode", "cors")},
		"image":     {"GET", nav("sec-fetch-dest", "image")},
		"iframe":    {"GET", nav("sec-fetch-dest", "iframe")},
		"prefetch":  {"GET", append(nav("", ""), authz.Field{Name: "sec-purpose", Value: "prefetch"})},
		"json":      {"GET", []authz.Field{{Name: "accept", Value: "application/json"}}},
		"post":      {"POST", navigate},
		"nothing":   {"GET", nil},
		"websocket": {"GET", []authz.Field{{Name: "upgrade", Value: "websocket"}, {Name: "connection", Value: "upgrade"}}},
		"grpc":      {"POST", []authz.Field{{Name: "content-type", Value: "application/grpc"}}},
	} {
		for _, target := range []string{"/x", "/oauth2/start?rd=/x"} {
			b := w.browser()
			d := b.send(send.method, target, send.header)
			if d.Outcome == authz.Allow || d.Response.Status != 401 || field(d.Response, "location") != "" || len(b.jar) != 0 {
				t.Errorf("%s of %s = %v %d %v, want a bare 401", name, target, d.Outcome, d.Response.Status, d.Response.Header)
			}
		}
	}
}

func TestReturnAddressFromOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, rd := range []string{"//evil.test", `/\evil.test`, "https://evil.test", "/oauth2/sign_out", "/x\r\nset-cookie: a=b", "javascript:alert(1)"} {
		b := w.browser()
		b.lands(b.start("/oauth2/start?rd="+url.QueryEscape(rd)), "/")
	}
	b := w.browser()
	b.lands(b.start("/oauth2/start"), "/")
	long := "/long?" + strings.Repeat("a", 600)
	c := w.browser()
	c.lands(c.begin(long), "/long") // the query is too long to travel
}

func TestLoopIsBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("cookies off", func(t *testing.T) {
		b := w.browser()
		target := "/x"
		for i := range 12 {
			b.jar = map[string]string{}
			d := b.get(target)
			switch {
			case d.Response.Status == 400 && strings.Contains(string(d.Response.Body), "does not keep cookies"):
				if i < 4 {
					t.Errorf("gave up after %d steps", i)
				}
				return
			case strings.HasPrefix(field(d.Response, "location"), "/"):
				target = field(d.Response, "location")
			default:
				target = b.atProvider(field(d.Response, "location"))
			}
		}
		t.Errorf("a browser without cookies goes round for ever")
	})
	t.Run("sessions get lost", func(t *testing.T) {
		b := w.browser()
		target := "/x"
		for range 20 {
			d := b.get(target)
			switch {
			case d.Outcome == authz.Allow: // the store loses the session, as a replica's memory does
				t.Fatalf("signed in without a session")
			case d.Response.Status == 400 && strings.Contains(string(d.Response.Body), "several replicas"):
				return
			case d.Response.Status == 303:
				w.forget(b)
				target = "/x"
			case strings.HasPrefix(field(d.Response, "location"), "/"):
				target = field(d.Response, "location")
			default:
				target = b.atProvider(field(d.Response, "location"))
			}
		}
		t.Errorf("lost sessions go round for ever")
	})
}

// forget ends the browser's session behind its back.
func (w *world) forget(b *browser) {
	w.t.Helper()
	w.forgetAt(host, b)
}

func (w *world) forgetAt(host string, b *browser) {
	w.t.Helper()
	r := check(authz.NewRequest(authz.Raw{Method: "GET", Authority: host, Target: "/", Header: authz.Header{{Name: "cookie", Value: b.cookies()}}}))(w.t)
	for _, c := range w.login.Carried(r) {
		if err := w.sessions.End(w.t.Context(), c.ID); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestSlowProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *login.Config) { c.CheckTimeout = 50 * time.Millisecond })
	b := w.browser()
	w.idp.Next(oidctest.Token, oidctest.Slow(600*time.Millisecond))
	callback := b.begin("/x")
	d := b.get(callback)
	if d.Response.Status != 200 || !strings.HasPrefix(field(d.Response, "refresh"), "1; url=/oauth2/callback?") || d.Outcome == authz.Allow {
		t.Fatalf("slow exchange = %v %d %v", d.Outcome, d.Response.Status, d.Response.Header)
	}
	w.login.Wait(5 * time.Second)
	b.lands(callback, "/x")
	if n := w.idp.Hits(oidctest.Token); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestProviderDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	w.idp.Always(oidctest.Token, oidctest.Down)
	d := b.get(callback)
	if d.Response.Status != 503 || field(d.Response, "retry-after") == "" || len(b.names("__Host-gh_p_")) != 1 {
		t.Errorf("token endpoint down = %d, cookies %q", d.Response.Status, b.names(""))
	}
	w.idp.Always(oidctest.Token, nil)
	w.skew.Store(int64(5 * time.Second))
	b.lands(callback, "/x") // the same page, loaded again
}

func TestProviderDownAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.Always(oidctest.Discovery, oidctest.Down)
	b := w.browser()
	d := b.get("/oauth2/start?rd=/x")
	if d.Response.Status != 503 || len(b.jar) != 0 {
		t.Errorf("start without a provider = %d, cookies %q", d.Response.Status, b.names(""))
	}
	if !strings.Contains(string(d.Response.Body), `href="/oauth2/start?rd=/x"`) {
		t.Errorf("the page does not lead back to where the user wanted to go:\n%s", d.Response.Body)
	}
}

func TestD8StoreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, signedIn := w.browser(), w.browser()
	signedIn.signIn("/x")
	callback := b.begin("/x")
	hits := w.idp.Hits(oidctest.Token)
	w.store.down.Store(true)
	if d := b.get(callback); d.Response.Status != 503 || w.idp.Hits(oidctest.Token) != hits {
		t.Errorf("callback while the store is down = %d, code spent: %v", d.Response.Status, w.idp.Hits(oidctest.Token) != hits)
	}
	w.store.down.Store(false)
	w.skew.Store(int64(5 * time.Second))
	b.lands(callback, "/x")
}

func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	callback := b.begin("/x")
	pending := b.cookies()
	b.lands(callback, "/x")
	b.get("/x")
	_, secret, _ := strings.Cut(b.cookies(), "=")
	q, _ := url.ParseQuery(callback[len("/oauth2/callback?"):])
	for _, s := range append(w.idp.Secrets(), secret, q.Get("state"), q.Get("code"), pending) {
		if s != "" && strings.Contains(w.log.String(), s) {
			t.Errorf("the log holds a secret: %s", w.log.String())
		}
	}
	if !strings.Contains(w.log.String(), "signed_in") {
		t.Errorf("no signed_in event: %s", w.log.String())
	}
}
