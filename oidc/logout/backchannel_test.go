package logout_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/logout"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

type claims = map[string]any

// logoutToken is a good one for alice, changed: a nil value removes.
func (w *world) logoutToken(change claims, edit ...func(*oidctest.JWT)) string {
	now := time.Now()
	t := oidctest.JWT{Header: claims{"typ": "logout+jwt"}, Claims: claims{
		"iss": w.idp.Issuer(), "aud": "mesh", "sub": "alice", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text(),
		"events": claims{"http://schemas.openid.net/event/backchannel-logout": claims{}},
	}}
	for name, value := range change {
		if t.Claims[name] = value; value == nil {
			delete(t.Claims, name)
		}
	}
	for _, f := range edit {
		f(&t)
	}
	return w.idp.Sign(t)
}

// post sends a body as the provider does.
func (w *world) post(body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	in := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, ownHost+"/oauth2/backchannel-logout", strings.NewReader(body))
	in.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	in.Header.Set("X-Request-Id", "req-1")
	for _, f := range change {
		f(in)
	}
	out := httptest.NewRecorder()
	w.logout.BackChannel().ServeHTTP(out, in)
	if out.Header().Get("Cache-Control") != "no-store" || out.Header().Get("X-Content-Type-Options") != "nosniff" { // section 2.8, W6
		w.t.Errorf("answer %d may be cached or taken for something else", out.Code)
	}
	return out
}

func (w *world) end(token string) int {
	w.t.Helper()
	return w.post("logout_token=" + token).Code
}

// sidOf returns what the provider calls the sign-in of a browser: the ID token says it.
func (w *world) sidOf(b *browser) string {
	w.t.Helper()
	u := check(url.Parse(appHost))(w.t)
	r := check(authz.NewRequest(authz.Raw{Method: "GET", Authority: u.Host, Target: "/x", Header: authz.Header{{Name: "cookie", Value: b.cookies(u.Hostname())}}}))(w.t)
	id := check(w.login.Authenticator("corp", true).Authenticate(w.t.Context(), r))(w.t)
	payload := check(base64.RawURLEncoding.DecodeString(strings.Split(id.Tokens.ID, ".")[1]))(w.t)
	sid, _ := check(authz.ParseClaims(payload))(w.t)["sid"].(string)
	if sid == "" {
		w.t.Fatal("the ID token has no sid")
	}
	return sid
}

// OpenID Connect Back-Channel Logout 1.0 section 2.6, in its order.
func TestG3Rejections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	header := func(name string, value any) func(*oidctest.JWT) {
		return func(j *oidctest.JWT) { j.Header = claims{name: value} }
	}
	event := "http://schemas.openid.net/event/backchannel-logout"
	now := time.Now()
	for name, token := range map[string]string{
		"alg none":          w.logoutToken(nil, func(j *oidctest.JWT) { j.Alg = "none" }),
		"alg HS256":         w.logoutToken(nil, func(j *oidctest.JWT) { j.Alg, j.Secret = "HS256", []byte("mesh-secret") }),
		"alg not ours":      w.logoutToken(nil, func(j *oidctest.JWT) { j.Alg = "PS256" }),
		"bad signature":     w.logoutToken(nil, func(j *oidctest.JWT) { j.Mangle = func(s string) string { return s[:len(s)-8] + "AAAAAAAA" } }),
		"altered claims":    w.logoutToken(nil, func(j *oidctest.JWT) { j.Mangle = alter }),
		"iss unknown":       w.logoutToken(claims{"iss": "https://other.test"}),
		"iss missing":       w.logoutToken(claims{"iss": nil}),
		"aud of another":    w.logoutToken(claims{"aud": "machine"}),
		"aud missing":       w.logoutToken(claims{"aud": nil}),
		"iat missing":       w.logoutToken(claims{"iat": nil}),
		"iat old":           w.logoutToken(claims{"iat": now.Add(-time.Hour).Unix()}),
		"iat in the future": w.logoutToken(claims{"iat": now.Add(time.Hour).Unix()}),
		"exp missing":       w.logoutToken(claims{"exp": nil}),
		"exp past":          w.logoutToken(claims{"exp": now.Add(-5 * time.Minute).Unix()}),
		"jti missing":       w.logoutToken(claims{"jti": nil}),
		"sub and sid gone":  w.logoutToken(claims{"sub": nil}),
		"sub number":        w.logoutToken(claims{"sub": 7}),
		"events missing":    w.logoutToken(claims{"events": nil}),
		"events text":       w.logoutToken(claims{"events": event}),
		"events list":       w.logoutToken(claims{"events": []string{event}}),
		"events other":      w.logoutToken(claims{"events": claims{"http://schemas.openid.net/event/other": claims{}}}),
		"event null":        w.logoutToken(claims{"events": claims{event: nil}}),
		"event text":        w.logoutToken(claims{"events": claims{event: "x"}}),
		"nonce":             w.logoutToken(claims{"nonce": "n"}),
		"nonce null":        w.logoutToken(claims{}, func(j *oidctest.JWT) { j.Claims["nonce"] = nil }),
		"typ at+jwt":        w.logoutToken(nil, header("typ", "at+jwt")),
		"crit":              w.logoutToken(nil, header("crit", []string{"exp"})),
		"two segments":      "aa.bb",
		"empty":             "",
		"G4 ID token":       w.idp.IDToken("alice", "mesh", ""),
		"large":             strings.Repeat("a", 20<<10),
	} {
		out := w.post("logout_token=" + url.QueryEscape(token))
		if out.Code != 400 || out.Body.String() != `{"error":"invalid_request"}`+"\n" || out.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s, want 400", name, out.Code, out.Body)
		}
	}
	if !b.alive(appHost + "/x") {
		t.Fatal("a refused token ended a session")
	}
	if got := strings.Count(w.log.String(), `"msg":"backchannel_refused"`); got != 31 {
		t.Errorf("%d refusals in the log, want one for each token", got)
	}
	for _, part := range []string{`"reason":"malformed_token"`, `"reason":"unknown_issuer"`, `"reason":"rejected"`} {
		if !w.logged(part, "req-1", `"error":`) {
			t.Errorf("%s is not in the log", part)
		}
	}
	w.clean()
	if code := w.end(w.logoutToken(nil)); code != 200 || b.alive(appHost+"/x") {
		t.Errorf("a good token: %d, alive %v", code, b.alive(appHost+"/x"))
	}
	if !w.logged("backchannel_logout", `"by":"sub"`, `"subject":"alice"`, `"ended":1`, `"client":"192.0.2.1"`) {
		t.Errorf("the ending is not in the log:\n%s", w.log)
	}
}

func TestG3TypesThatAreAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	for _, typ := range []any{nil, "JWT", "logout+jwt", "application/logout+jwt"} {
		if code := w.end(w.logoutToken(nil, func(j *oidctest.JWT) { j.Header = claims{"typ": typ} })); code != 200 {
			t.Errorf("typ %v: %d, want 200", typ, code)
		}
	}
}

func TestG3Replay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	token := w.logoutToken(nil)
	w.signedIn(appHost + "/x")
	if code := w.end(token); code != 200 {
		t.Fatalf("first: %d", code)
	}
	b := w.signedIn(appHost + "/x")
	if code := w.end(token); code != 400 || !b.alive(appHost+"/x") {
		t.Errorf("replayed: %d, the new session alive %v", code, b.alive(appHost+"/x"))
	}
	if !w.logged("backchannel_refused", `"reason":"replayed"`) {
		t.Error("a replay is not in the log")
	}
	other := w.logoutToken(nil)
	if code := w.end(other); code != 200 || b.alive(appHost+"/x") {
		t.Errorf("another jti: %d", code)
	}
}

// A token whose sessions could not be ended works when it is sent again.
func TestG3RetryAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	token := w.logoutToken(nil)
	for name, outage := range map[string]func(bool){"all": w.store.down.Store, "endings": w.store.endsFail.Store} {
		outage(true)
		out := w.post("logout_token=" + token)
		outage(false)
		if out.Code != 503 || out.Header().Get("Retry-After") == "" || !b.alive(appHost+"/x") {
			t.Errorf("%s: %d, want 503 and a session", name, out.Code)
		}
	}
	if code := w.end(token); code != 200 || b.alive(appHost+"/x") {
		t.Errorf("sent again: %d, alive %v", code, b.alive(appHost+"/x"))
	}
	if !w.logged("backchannel_failed", `"reason":"store_unavailable"`) {
		t.Errorf("the outage is not in the log:\n%s", w.log)
	}
}

// A token whose jti could not be kept is not done with: the next one of its name would not be known.
func TestG3NameNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	token := w.logoutToken(nil)
	w.store.putsFail.Store(true)
	if code := w.end(token); code != 503 || b.alive(appHost+"/x") {
		t.Errorf("%d, alive %v", code, b.alive(appHost+"/x"))
	}
	w.store.putsFail.Store(false)
	if first, again := w.end(token), w.end(token); first != 200 || again != 400 {
		t.Errorf("sent again: %d, then %d", first, again)
	}
}

// Whether a token is good cannot be told while the keys cannot be read.
func TestG3ProviderDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.idp.AlwaysAll(oidctest.Down)
	if out := w.post("logout_token=" + w.logoutToken(nil)); out.Code != 503 || out.Header().Get("Retry-After") == "" {
		t.Errorf("keys unread: %d, want 503", out.Code)
	}
	if !w.logged("backchannel_failed", `"reason":"provider_unavailable"`) {
		t.Errorf("not in the log:\n%s", w.log)
	}
}

// G4: a logout token is no bearer token and no ID token.
func TestG4LogoutTokenAsBearer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	v := check(oidc.NewVerifier(oidc.VerifierConfig{
		Provider: "corp", Issuer: w.idp.Issuer(), Audiences: []string{"mesh"}, Keys: w.provider.Keys(),
	}))(t)
	r := check(authz.NewRequest(authz.Raw{
		Method: "GET", Authority: "app.localhost", Target: "/", Header: authz.Header{{Name: "authorization", Value: "Bearer " + w.logoutToken(nil)}},
	}))(t)
	if id, err := v.Authenticate(t.Context(), r); err == nil {
		t.Errorf("recognised as %s", id.Subject)
	}
}

func TestG5WhatIsEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		sid, sub          bool
		first, other, bob bool // alive afterwards
	}{
		{"sid", true, false, false, true, true},
		{"sid and sub", true, true, false, true, true},
		{"sub", false, true, false, false, true},
	} {
		w := newWorld(t, true)
		first, other := w.signedIn(appHost+"/x"), w.signedIn(appHost+"/x")
		w.as("bob")
		bob := w.signedIn(appHost + "/x")
		change := claims{}
		if c.sid {
			change["sid"] = w.sidOf(first)
		}
		if !c.sub {
			change["sub"] = nil
		}
		code := w.end(w.logoutToken(change))
		if code != 200 || first.alive(appHost+"/x") != c.first || other.alive(appHost+"/x") != c.other || bob.alive(appHost+"/x") != c.bob {
			t.Errorf("%s: %d; alive: named %v, other %v, bob %v", c.name, code, first.alive(appHost+"/x"), other.alive(appHost+"/x"), bob.alive(appHost+"/x"))
		}
	}
}

// A sid that nobody has: its session has ended already, which is a success (section
// 2.7), and the user stays signed in elsewhere. Unless it came without a sid.
func TestG5UnknownSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	if code := w.end(w.logoutToken(claims{"sid": "ended-long-ago"})); code != 200 || !b.alive(appHost+"/x") {
		t.Errorf("unknown sid: %d, a session of another sid alive %v", code, b.alive(appHost+"/x"))
	}
	if code := w.end(w.logoutToken(claims{"sid": "ended-long-ago", "sub": nil})); code != 200 {
		t.Errorf("unknown sid alone: %d", code)
	}
	w.idp.Always(oidctest.Token, oidctest.Claim("sid", nil))
	nameless := w.signedIn(appHost + "/x")
	if code := w.end(w.logoutToken(claims{"sid": "x", "sub": "bob"})); code != 200 || !nameless.alive(appHost+"/x") {
		t.Errorf("bob's: %d, alice alive %v", code, nameless.alive(appHost+"/x"))
	}
	w.idp.Always(oidctest.Token, func(*oidctest.Answer) {})
	named := w.signedIn(appHost + "/x")
	if code := w.end(w.logoutToken(claims{"sid": w.sidOf(named)})); code != 200 || named.alive(appHost+"/x") || !nameless.alive(appHost+"/x") {
		t.Errorf("a sid that is known: %d, alive %v, the one without %v", code, named.alive(appHost+"/x"), nameless.alive(appHost+"/x"))
	}
	if code := w.end(w.logoutToken(claims{"sid": "x"})); code != 200 || nameless.alive(appHost+"/x") || !b.alive(appHost+"/x") {
		t.Errorf("sid of a session without: %d; alive %v, the one with another sid %v", code, nameless.alive(appHost+"/x"), b.alive(appHost+"/x"))
	}
	w.idp.Always(oidctest.Token, oidctest.Claim("sid", nil))
	w.signedIn(appHost + "/x") // who has no sid may come back
	if !w.logged("backchannel_logout", `"by":"sub_without_sid"`, `"ended":1`) {
		t.Errorf("not in the log:\n%s", w.log)
	}
}

// G6: the same sub at another issuer is somebody else.
func TestG6OtherIssuer(t *testing.T) {
	t.Parallel()
	other := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	w := newWorld(t, true, func(w *world, cfg *logout.Config) {
		cfg.Providers = append(cfg.Providers, w.newProvider("other", "mesh", other.Issuer()))
	})
	b := w.signedIn(appHost + "/x")
	now := time.Now()
	token := other.Sign(oidctest.JWT{Claims: claims{
		"iss": other.Issuer(), "aud": "mesh", "sub": "alice", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "1",
		"events": claims{"http://schemas.openid.net/event/backchannel-logout": claims{}},
	}})
	if code := w.end(token); code != 200 || !b.alive(appHost+"/x") {
		t.Errorf("the other issuer's: %d, alive %v", code, b.alive(appHost+"/x"))
	}
	forged := other.Sign(oidctest.JWT{Claims: claims{
		"iss": w.idp.Issuer(), "aud": "mesh", "sub": "alice", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "2",
		"events": claims{"http://schemas.openid.net/event/backchannel-logout": claims{}},
	}})
	if code := w.end(forged); code == 200 || !b.alive(appHost+"/x") {
		t.Errorf("forged with the other issuer's key: %d, alive %v", code, b.alive(appHost+"/x"))
	}
}

// Two entries may share an issuer: aud says whose token it is.
func TestAudienceSelectsTheProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true, func(w *world, cfg *logout.Config) {
		cfg.Providers = []*oidc.Provider{w.newProvider("partner", "partner-client", w.idp.Issuer()), w.provider}
	})
	for aud, want := range map[string]string{"mesh": `"provider":"corp"`, "partner-client": `"provider":"partner"`} {
		if code := w.end(w.logoutToken(claims{"aud": []string{aud}})); code != 200 || !w.logged("backchannel_logout", want) {
			t.Errorf("aud %s: %d, want it taken by %s\n%s", aud, code, want, w.log)
		}
	}
}

// One entry that cannot tell outweighs another that says no, whichever comes first.
func TestOneThatCannotTell(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} {
		w := newWorld(t, true, func(w *world, cfg *logout.Config) {
			blind := w.newProvider("partner", "partner-client", w.idp.Issuer()) // it has read no keys yet
			if cfg.Providers = []*oidc.Provider{blind, w.provider}; last {
				cfg.Providers = []*oidc.Provider{w.provider, blind}
			}
		})
		w.signedIn(appHost + "/x")
		w.idp.AlwaysAll(oidctest.Down)
		if code := w.end(w.logoutToken(claims{"aud": "partner-client"})); code != 503 {
			t.Errorf("last %v: %d, want 503", last, code)
		}
	}
}

// A jti is unique for its issuer and its audience, not in the world.
func TestG3SameNameElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true, func(w *world, cfg *logout.Config) {
		cfg.Providers = append(cfg.Providers, w.newProvider("partner", "partner-client", w.idp.Issuer()))
	})
	for _, aud := range []string{"partner-client", "mesh"} {
		if code := w.end(w.logoutToken(claims{"aud": aud, "jti": "1"})); code != 200 {
			t.Errorf("aud %s: %d\n%s", aud, code, w.log)
		}
	}
}

// A provider that hangs up does not tear an ending in two.
func TestProviderHangsUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	out := w.post("logout_token="+w.logoutToken(nil), func(in *http.Request) { *in = *in.WithContext(gone) })
	if out.Code != 200 || b.alive(appHost+"/x") {
		t.Errorf("%d, alive %v\n%s", out.Code, b.alive(appHost+"/x"), w.log)
	}
}

// G7: what is no logout request costs nothing.
func TestG7Requests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	good := w.logoutToken(nil)
	for name, c := range map[string]struct {
		body   string
		change func(*http.Request)
		want   int
	}{
		"GET":             {"", func(r *http.Request) { r.Method = http.MethodGet }, 405},
		"PUT":             {"logout_token=" + good, func(r *http.Request) { r.Method = http.MethodPut }, 405},
		"1 MB":            {"logout_token=" + strings.Repeat("a", 1<<20), nil, 413},
		"JSON":            {`{"logout_token":"x"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400},
		"plain text":      {"logout_token=" + good, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 400},
		"no content type": {"logout_token=" + good, func(r *http.Request) { r.Header.Del("Content-Type") }, 400},
		"twice":           {"logout_token=" + good + "&logout_token=" + good, nil, 400},
		"none":            {"token=" + good, nil, 400},
		"in the query":    {"", func(r *http.Request) { r.URL.RawQuery = "logout_token=" + good }, 400},
		"broken escape":   {"logout_token=%zz", nil, 400},
		"many parameters": {strings.Repeat("a=b&", 100) + "logout_token=" + good, nil, 400},
		"others ignored":  {"a=b&a=c&logout_token=" + good, nil, 200},
	} {
		if c.change == nil {
			c.change = func(*http.Request) {}
		}
		out := w.post(c.body, c.change)
		if out.Code != c.want {
			t.Errorf("%s: %d, want %d", name, out.Code, c.want)
		}
		if c.want == 405 && out.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow %q", name, out.Header().Get("Allow"))
		}
	}
	if !w.logged("backchannel_refused", `"reason":"too_large"`) || !w.logged("backchannel_refused", `"reason":"content_type"`) || !w.logged("backchannel_refused", `"reason":"malformed_form"`) {
		t.Errorf("reasons are missing:\n%s", w.log)
	}
}

// G7 and K1: forged tokens with keys that are not there make the provider work little.
func TestG7Flood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	b := w.signedIn(appHost + "/x")
	before := w.idp.Hits(oidctest.JWKS)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 100 {
				kid := fmt.Sprintf("forged-%d-%d", n, i)
				token := w.logoutToken(nil, func(j *oidctest.JWT) { j.Header = claims{"kid": kid} })
				if code := w.end(token); code == 200 || code == 500 {
					t.Errorf("forged: %d", code)
				}
			}
		})
	}
	wg.Wait()
	if n := w.idp.Hits(oidctest.JWKS) - before; n > 10 {
		t.Errorf("800 forged tokens fetched keys %d times", n)
	}
	if !b.alive(appHost + "/x") {
		t.Error("a forged token ended a session")
	}
	if code := w.end(w.logoutToken(nil)); code != 200 || b.alive(appHost+"/x") {
		t.Errorf("a good one afterwards: %d, alive %v", code, b.alive(appHost+"/x"))
	}
}

// With a login host the address is there only; without, on every host.
func TestTakesBackChannel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		own    bool
		target string
		want   bool
	}{
		{true, ownHost + "/oauth2/backchannel-logout", true},
		{true, "http://AUTH.localhost./oauth2/backchannel-logout", true},
		{true, appHost + "/oauth2/backchannel-logout", false},
		{true, ownHost + "/oauth2/backchannel-logout/", false},
		{true, ownHost + "/oauth2/backchannel%2dlogout", false},
		{true, ownHost + "/oauth2/sessions", false},
		{false, appHost + "/oauth2/backchannel-logout", true},
		{false, "http://10.0.0.1/oauth2/backchannel-logout", true},
	} {
		w := newWorld(t, c.own)
		if got := w.logout.TakesBackChannel(httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.target, http.NoBody)); got != c.want {
			t.Errorf("TakesBackChannel(%s) = %v with a login host %v", c.target, got, c.own)
		}
		if out := w.browser().send("POST", ownHost+"/oauth2/backchannel-logout", nil); out == nil || out.Status != 404 && out.Status != 403 {
			t.Errorf("as an endpoint: %+v", out)
		}
	}
}

// alter changes the subject under the signature.
func alter(token string) string {
	part := strings.Split(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		panic(err)
	}
	part[1] = base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(text, []byte("alice"), []byte("mallo")))
	return strings.Join(part, ".")
}

// The mark outlives the token by the slowest clock, and is bounded.
func TestLifeOf(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]time.Duration{
		2 * time.Minute: 12 * time.Minute, -time.Minute: 10 * time.Minute, 10 * 365 * 24 * time.Hour: 24*time.Hour + 10*time.Minute,
	} {
		got := logout.LifeOf(&oidc.LogoutToken{Expires: time.Now().Add(left)})
		if got > want || got < want-time.Second {
			t.Errorf("lifeOf(%v left) = %v, want %v", left, got, want)
		}
	}
}
