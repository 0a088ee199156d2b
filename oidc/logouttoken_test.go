package oidc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

const logoutJWT = `{"alg":"RS256","kid":"k1","typ":"logout+jwt"}`

// logout are the claims of a good logout token.
func (i *issuer) logout() map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": i.URL, "aud": clientID, "iat": now, "exp": now + 120, "jti": "jti-1", "sub": "alice", "sid": "sid-1",
		"events": map[string]any{oidc.LogoutEvent: map[string]any{}},
	}
}

// G3: OpenID Connect Back-Channel Logout 1.0 section 2.6, one altered token per requirement.
func TestG3LogoutToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	b := i.logout()
	now := time.Now().Unix()
	event := func(v any) map[string]any { return with(b, "events", map[string]any{oidc.LogoutEvent: v}) }
	for _, tt := range []struct {
		id     string
		claims map[string]any
		ok     bool
	}{
		{"good", b, true},
		{"iss", with(b, "iss", "https://evil.test"), false},
		{"iss slash", with(b, "iss", i.URL+"/"), false},
		{"no iss", without(b, "iss"), false},
		{"aud", with(b, "aud", "other"), false},
		{"no aud", without(b, "aud"), false},
		{"aud empty array", with(b, "aud", []string{}), false},
		{"aud array", with(b, "aud", []string{clientID}), true},
		{"two aud", with(b, "aud", []string{"x", clientID}), true},
		{"azp", with(b, "azp", "x"), false},
		{"own azp", with(b, "azp", clientID), true},
		{"no iat", without(b, "iat"), false},
		{"iat string", with(b, "iat", "x"), false},
		{"iat in the future", with(b, "iat", now+120), false},
		{"iat within the skew", with(b, "iat", now+30), true},
		{"iat old", with(b, "iat", now-661), false},
		{"iat not yet old", with(b, "iat", now-590), true},
		{"iat old, exp far", with(with(b, "iat", now-3600), "exp", now+3600), false},
		{"no exp", without(b, "exp"), false},
		{"exp past", with(b, "exp", now-61), false},
		{"exp string", with(b, "exp", "x"), false},
		{"nbf", with(b, "nbf", now+120), false},
		{"no jti", without(b, "jti"), false},
		{"jti empty", with(b, "jti", ""), false},
		{"jti number", with(b, "jti", 1), false},
		{"jti long", with(b, "jti", repeat("j", 1025)), false},
		{"no events", without(b, "events"), false},
		{"events null", with(b, "events", nil), false},
		{"events string", with(b, "events", oidc.LogoutEvent), false},
		{"events array", with(b, "events", []string{oidc.LogoutEvent}), false},
		{"events empty", with(b, "events", map[string]any{}), false},
		{"other event", with(b, "events", map[string]any{"http://schemas.openid.net/event/other": map[string]any{}}), false},
		{"event upper case", with(b, "events", map[string]any{strings.ToUpper(oidc.LogoutEvent): map[string]any{}}), false},
		{"another event too", with(b, "events", map[string]any{oidc.LogoutEvent: map[string]any{}, "x": 1}), true},
		{"member null", event(nil), false},
		{"member true", event(true), false},
		{"member string", event("{}"), false},
		{"member array", event([]any{}), false},
		{"member with members", event(map[string]any{"x": 1}), true},
		{"nonce", with(b, "nonce", nonce), false},
		{"nonce null", with(b, "nonce", nil), false},
		{"sub only", without(b, "sid"), true},
		{"sid only", without(b, "sub"), true},
		{"neither", without(without(b, "sub"), "sid"), false},
		{"sub null", with(b, "sub", nil), false},
		{"sub empty", with(b, "sub", ""), false},
		{"sub long", with(b, "sub", repeat("s", 256)), false},
		{"sid number", with(b, "sid", 1), false},
		{"sid empty", with(b, "sid", ""), false},
		{"sid long", with(b, "sid", repeat("s", 1025)), false},
	} {
		l, err := p.VerifyLogoutToken(t.Context(), tok("RS256", logoutJWT, js(tt.claims), rsaKey()))
		if tt.ok != (err == nil) || tt.ok != (l != nil) || err != nil && (!errors.Is(err, oidc.ErrRejected) || errors.Is(err, oidc.ErrUnavailable)) {
			t.Errorf("%s: %+v, %v, want accepted: %v", tt.id, l, err, tt.ok)
		}
		if tt.id == "no iat" && !strings.HasSuffix(err.Error(), "iat is missing") {
			t.Errorf("%s: the reason is %v", tt.id, err)
		}
	}
}

func TestLogoutTokenSays(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	b := i.logout()
	at := time.Unix(b["iat"].(int64), 0)
	want := oidc.LogoutToken{Issuer: i.URL, Subject: "alice", SessionID: "sid-1", ID: "jti-1", IssuedAt: at, Expires: at.Add(3 * time.Minute)}
	whole, alone, far := want, want, want
	alone.SessionID = ""
	far.Expires = at.Add(11 * time.Minute) // a jti need not be kept for longer than its token is taken
	for _, tt := range []struct {
		claims map[string]any
		want   oidc.LogoutToken
	}{
		{b, whole},
		{without(b, "sid"), alone},
		{with(b, "exp", at.Unix()+86400), far},
	} {
		l, err := p.VerifyLogoutToken(t.Context(), tok("RS256", logoutJWT, js(tt.claims), rsaKey()))
		if err != nil || *l != tt.want {
			t.Errorf("%v: %+v, %v, want %+v", tt.claims, l, err, tt.want)
		}
	}
}

// G3: signatures and types; G4: nothing else is a logout token.
func TestG3LogoutTokenSignature(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	c := js(i.logout())
	es := i.provider(func(c *oidc.ProviderConfig) { c.Client.Algorithms = []string{"ES256"} })
	for id, tt := range map[string]struct {
		p     *oidc.Provider
		token string
		ok    bool
	}{
		"typ absent":            {p, tok("RS256", `{"alg":"RS256","kid":"k1"}`, c, rsaKey()), true},
		"typ JWT":               {p, tok("RS256", `{"alg":"RS256","kid":"k1","typ":"JWT"}`, c, rsaKey()), true},
		"typ in capitals":       {p, tok("RS256", `{"alg":"RS256","kid":"k1","typ":"LOGOUT+JWT"}`, c, rsaKey()), true},
		"typ in full":           {p, tok("RS256", `{"alg":"RS256","kid":"k1","typ":"application/logout+jwt"}`, c, rsaKey()), true},
		"configured algorithm":  {es, tok("ES256", `{"alg":"ES256","kid":"e1"}`, c, p256()), true},
		"typ at+jwt":            {p, tok("RS256", `{"alg":"RS256","kid":"k1","typ":"at+jwt"}`, c, rsaKey()), false},
		"typ secevent+jwt":      {p, tok("RS256", `{"alg":"RS256","kid":"k1","typ":"secevent+jwt"}`, c, rsaKey()), false},
		"none":                  {p, b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(c)) + ".", false},
		"none, padded":          {p, b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(c)) + ".e30", false},
		"HS256":                 {p, tok("HS256", `{"alg":"HS256"}`, c, []byte(secret)), false},
		"other algorithm":       {p, tok("ES256", `{"alg":"ES256","kid":"e1"}`, c, p256()), false},
		"RS256 where ES256 is":  {es, tok("RS256", logoutJWT, c, rsaKey()), false},
		"other key":             {p, tok("RS256", logoutJWT, c, rsaOther()), false},
		"crit":                  {p, tok("RS256", `{"alg":"RS256","kid":"k1","crit":["x"]}`, c, rsaKey()), false},
		"sub twice":             {p, tok("RS256", logoutJWT, strings.Replace(c, `"sub":`, `"sub":"x","sub":`, 1), rsaKey()), false},
		"G4 ID token":           {p, tok("RS256", `{"alg":"RS256","kid":"k1","typ":"JWT"}`, js(i.base()), rsaKey()), false},
		"G4 refreshed ID token": {p, tok("RS256", `{"alg":"RS256","kid":"k1"}`, js(with(i.again(), "jti", "j")), rsaKey()), false},
		"G4 access token":       {p, tok("RS256", rs256, js(with(i.access(), "aud", clientID)), rsaKey()), false},
		"junk":                  {p, "junk", false},
		"empty":                 {p, "", false},
		"17 KiB":                {p, repeat("a", 17<<10), false},
	} {
		l, err := tt.p.VerifyLogoutToken(t.Context(), tt.token)
		if tt.ok != (err == nil) || tt.ok != (l != nil) || err != nil && (!errors.Is(err, oidc.ErrRejected) || errors.Is(err, oidc.ErrUnavailable)) {
			t.Errorf("%s: %+v, %v, want accepted: %v", id, l, err, tt.ok)
		}
	}
	if _, err := i.provider(func(c *oidc.ProviderConfig) { c.Client = nil }).VerifyLogoutToken(t.Context(), tok("RS256", logoutJWT, c, rsaKey())); err == nil {
		t.Error("a provider without a client takes logout tokens")
	}
}

// G4: a logout token is neither an ID token, at a login or a refresh, nor a bearer token,
// whatever its header says.
func TestG4LogoutTokenElsewhere(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p, have := signedIn(t, i)
	for _, header := range []string{logoutJWT, `{"alg":"RS256","kid":"k1"}`, `{"alg":"RS256","kid":"k1","typ":"JWT"}`, `{"alg":"RS256","kid":"k1","typ":"at+jwt"}`} {
		for _, event := range []any{map[string]any{}, nil} {
			c := with(i.logout(), "events", map[string]any{oidc.LogoutEvent: event})
			token := tok("RS256", header, js(c), rsaKey())
			i.answer(pathToken, 200, js(with(i.renewal(i.again()), "id_token", token)))
			if _, err := p.Refresh(t.Context(), have); !errors.Is(err, oidc.ErrRejected) {
				t.Errorf("%s at a refresh: %v", header, err)
			}
			login := with(i.renewal(i.again()), "id_token", tok("RS256", header, js(with(c, "nonce", nonce)), rsaKey()))
			i.answer(pathToken, 200, js(login))
			if _, err := exchange(t.Context(), p); !errors.Is(err, oidc.ErrRejected) {
				t.Errorf("%s at a login: %v", header, err)
			}
			v := i.verifier(func(c *oidc.VerifierConfig) { c.Audiences = []string{clientID} })
			if id, err := v.Authenticate(t.Context(), bearer(token)); !errors.Is(err, authz.ErrBadCredentials) || id != nil {
				t.Errorf("%s as a bearer: %+v, %v", header, id, err)
			}
		}
	}
}

// G7, K1: forged tokens have the keys read a few times, then the answer is "cannot tell".
func TestG7UnknownKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	good := tok("RS256", logoutJWT, js(i.logout()), rsaKey())
	if _, err := p.VerifyLogoutToken(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	forged := tok("RS256", `{"alg":"RS256","kid":"x"}`, js(i.logout()), rsaOther())
	unavailable := 0
	for range 100 {
		_, err := p.VerifyLogoutToken(t.Context(), forged)
		if err == nil {
			t.Fatal("a forged token was accepted")
		}
		if errors.Is(err, oidc.ErrUnavailable) {
			unavailable++
		}
	}
	if n := i.count(pathJWKS); n > 6 || unavailable < 90 {
		t.Errorf("%d readings of the keys, %d of 100 unavailable", n, unavailable)
	}
	if _, err := p.VerifyLogoutToken(t.Context(), good); err != nil {
		t.Errorf("a good one during the flood: %v", err)
	}
	// What is refused for cheaper reasons has nothing read.
	n := i.count(pathJWKS)
	_, err := i.provider().VerifyLogoutToken(t.Context(), tok("RS256", `{"alg":"RS256","kid":"x"}`, js(without(i.logout(), "jti")), rsaOther()))
	if !errors.Is(err, oidc.ErrRejected) || i.count(pathJWKS) != n {
		t.Errorf("no jti: %v, %d readings", err, i.count(pathJWKS)-n)
	}
}

func TestLogoutTokenWithoutKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.answer(pathJWKS, 503, "")
	_, err := i.provider().VerifyLogoutToken(t.Context(), tok("RS256", logoutJWT, js(i.logout()), rsaKey()))
	if !errors.Is(err, oidc.ErrUnavailable) || errors.Is(err, oidc.ErrRejected) {
		t.Errorf("keys are down: %v, want unavailable alone", err)
	}
}

func TestLogoutIssuer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ token, want string }{
		{tok("HS256", `{"alg":"HS256"}`, `{"iss":"https://idp.test"}`, []byte("x")), "https://idp.test"},
		{tok("HS256", `{"alg":"HS256"}`, `{"iss":""}`, []byte("x")), ""},
		{tok("HS256", `{"alg":"HS256"}`, `{"iss":1}`, []byte("x")), ""},
		{tok("HS256", `{"alg":"HS256"}`, `{}`, []byte("x")), ""},
		{tok("HS256", `{"alg":"HS256"}`, `{"iss":"a","iss":"b"}`, []byte("x")), ""},
		{"a.b.c", ""},
		{"", ""},
		{repeat("a", 1<<20), ""},
	} {
		got, err := oidc.LogoutIssuer(tt.token)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, oidc.ErrRejected) {
			t.Errorf("%.40q: %q, %v, want %q", tt.token, got, err, tt.want)
		}
	}
}
