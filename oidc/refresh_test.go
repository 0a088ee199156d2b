package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// signedIn is a provider and the grant of a login there.
func signedIn(t *testing.T, i *issuer, change ...func(*oidc.ProviderConfig)) (*oidc.Provider, *oidc.Grant) {
	t.Helper()
	p := i.provider(change...)
	g, err := exchange(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return p, g
}

// renewal is a good answer to a refresh, with an ID token of these claims.
func (i *issuer) renewal(claims map[string]any) map[string]any {
	return map[string]any{
		"access_token": "at-2", "token_type": "Bearer", "expires_in": 600, "refresh_token": "rt-2",
		"id_token": tok("RS256", `{"alg":"RS256","kid":"k1"}`, js(claims), rsaKey()),
	}
}

// again are the claims of a good ID token of a refresh: no nonce (section 12.2).
func (i *issuer) again() map[string]any { return without(i.base(), "nonce") }

func TestRefresh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method     string
		user, pass string
		form       url.Values
	}{
		{"client_secret_basic", clientID, url.QueryEscape(secret), nil},
		{"client_secret_post", "", "", url.Values{"client_id": {clientID}, "client_secret": {secret}}},
		{"none", "", "", url.Values{"client_id": {clientID}}},
	} {
		i := newIssuer(t)
		i.claims = with(i.base(), "sid", "sid-1")
		p, have := signedIn(t, i, func(c *oidc.ProviderConfig) {
			if c.Client.AuthMethod = tt.method; tt.method == "none" {
				c.Client.Secret = nil
			}
		})
		was := *have
		i.answer(pathToken, 200, js(i.renewal(with(i.again(), "sid", "sid-2"))))
		before := time.Now()
		g, err := p.Refresh(t.Context(), have)
		if err != nil {
			t.Errorf("%s: %v", tt.method, err)
			continue
		}
		want := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"rt-1"}}
		maps.Copy(want, tt.form)
		if d := cmp.Diff(want, url.Values(i.form)); d != "" {
			t.Errorf("%s: form (-want +got):\n%s", tt.method, d)
		}
		if i.auth != [2]string{tt.user, tt.pass} {
			t.Errorf("%s: basic = %q", tt.method, i.auth)
		}
		if g.Access != "at-2" || g.Refresh != "rt-2" || g.IDToken == have.IDToken || g.Kept != nil {
			t.Errorf("%s: grant = %+v", tt.method, g)
		}
		if g.ProviderSession != "sid-1" {
			t.Errorf("%s: sid = %q, want the first", tt.method, g.ProviderSession)
		}
		if d := g.AccessExpires.Sub(before); d < 599*time.Second || d > 610*time.Second {
			t.Errorf("%s: access token expires in %v", tt.method, d)
		}
		if d := cmp.Diff(was, *have); d != "" {
			t.Errorf("%s: Refresh changed its argument (-was +is):\n%s", tt.method, d)
		}
	}
}

// F7: what a user may do follows the provider at every refresh.
func TestF7RefreshReadsClaimsAnew(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.claims = with(i.base(), "groups", []string{"staff", "admins"})
	p, have := signedIn(t, i)
	c := with(with(i.again(), "groups", []string{"staff"}), "email", "a@good.test")
	c["email_verified"] = false
	i.answer(pathToken, 200, js(i.renewal(c)))
	g, err := p.Refresh(t.Context(), have)
	if err != nil {
		t.Fatal(err)
	}
	id := g.Identity
	if !slices.Equal(id.Groups, []string{"staff"}) || id.Email != "a@good.test" || id.EmailVerified || id.Provider != "corp" || id.Subject != "alice" || !id.Expires.IsZero() {
		t.Errorf("identity = %+v", id)
	}
	if !slices.Equal(have.Identity.Groups, []string{"staff", "admins"}) {
		t.Error("the old identity was changed")
	}
	i.answer(pathToken, 200, js(i.renewal(without(i.again(), "groups"))))
	if g, err = p.Refresh(t.Context(), g); err != nil || len(g.Identity.Groups) != 0 {
		t.Errorf("no groups any more: %+v, %v", g, err)
	}
}

// F6: what the answer leaves out, or says in an unreadable way, loses nothing.
func TestF6RefreshLeavesOut(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p, have := signedIn(t, i)
	good := i.renewal(with(i.again(), "groups", []string{"new"}))
	text := strings.TrimSuffix(js(good), "}")
	for _, tt := range []struct {
		id      string
		body    string
		refresh string
		group   string
		life    time.Duration
	}{
		{"whole", js(good), "rt-2", "new", 10 * time.Minute},
		{"no refresh_token", js(without(good, "refresh_token")), "rt-1", "new", 10 * time.Minute},
		{"refresh_token null", js(with(good, "refresh_token", nil)), "rt-1", "new", 10 * time.Minute},
		{"refresh_token empty", js(with(good, "refresh_token", "")), "rt-1", "new", 10 * time.Minute},
		{"refresh_token number", js(with(good, "refresh_token", 1)), "rt-1", "new", 10 * time.Minute},
		{"refresh_token huge", js(with(good, "refresh_token", repeat("r", 65<<10))), "rt-1", "new", 10 * time.Minute},
		{"no id_token", js(without(good, "id_token")), "rt-2", "staff", 10 * time.Minute},
		{"id_token null", js(with(good, "id_token", nil)), "rt-2", "staff", 10 * time.Minute},
		{"id_token empty", js(with(good, "id_token", "")), "rt-2", "staff", 10 * time.Minute},
		{"no expires_in", js(without(good, "expires_in")), "rt-2", "new", 5 * time.Minute},
		{"expires_in null", js(with(good, "expires_in", nil)), "rt-2", "new", 5 * time.Minute},
		{"expires_in 0", js(with(good, "expires_in", 0)), "rt-2", "new", 5 * time.Minute},
		{"expires_in -1", js(with(good, "expires_in", -1)), "rt-2", "new", 5 * time.Minute},
		{"expires_in 1e18", js(with(good, "expires_in", 1000000000000000000)), "rt-2", "new", 5 * time.Minute},
		{"expires_in string", js(with(good, "expires_in", "3600")), "rt-2", "new", 5 * time.Minute},
		{"expires_in 1.5", js(with(good, "expires_in", 1.5)), "rt-2", "new", 5 * time.Minute},
		{"expires_in object", js(with(good, "expires_in", map[string]any{})), "rt-2", "new", 5 * time.Minute},
		{"expires_in 1 year", js(with(good, "expires_in", 31536000)), "rt-2", "new", 365 * 24 * time.Hour},
		{"unknown member", text + `,"x":[1]}`, "rt-2", "new", 10 * time.Minute},
	} {
		i.answer(pathToken, 200, tt.body)
		before := time.Now()
		g, err := p.Refresh(t.Context(), have)
		if err != nil {
			t.Errorf("%s: %v", tt.id, err)
			continue
		}
		if g.Access != "at-2" || g.Refresh != tt.refresh || !slices.Equal(g.Identity.Groups, []string{tt.group}) || g.Kept != nil {
			t.Errorf("%s: %+v of %v", tt.id, g, g.Identity.Groups)
		}
		if (g.IDToken == have.IDToken) != (tt.group == "staff") {
			t.Errorf("%s: ID token is the old one: %v", tt.id, g.IDToken == have.IDToken)
		}
		if d := g.AccessExpires.Sub(before) - tt.life; d < 0 || d > 10*time.Second {
			t.Errorf("%s: the access token expires in %v, want %v", tt.id, g.AccessExpires.Sub(before), tt.life)
		}
	}
}

// F5, OpenID Connect Core 12.2: one altered ID token per requirement.
func TestF5RefreshedIDToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	b := with(i.base(), "auth_time", time.Now().Unix()-3000)
	i.claims = b
	p, have := signedIn(t, i, func(c *oidc.ProviderConfig) { c.Client.MaxAge = time.Hour })
	n := without(b, "nonce")
	now := time.Now().Unix()
	for _, tt := range []struct {
		id     string
		claims map[string]any
		want   error
	}{
		{"good", n, nil},
		{"iss", with(n, "iss", "https://evil.test"), oidc.ErrRejected},
		{"no iss", without(n, "iss"), oidc.ErrRejected},
		{"sub", with(n, "sub", "mallory"), oidc.ErrRejected},
		{"no sub", without(n, "sub"), oidc.ErrRejected},
		{"sub array", with(n, "sub", []string{"alice"}), oidc.ErrRejected},
		{"aud", with(n, "aud", "other"), oidc.ErrRejected},
		{"no aud", without(n, "aud"), oidc.ErrRejected},
		{"aud array", with(n, "aud", []string{clientID}), nil},
		{"two aud without azp", with(n, "aud", []string{clientID, "x"}), oidc.ErrRejected},
		{"two aud with azp", with(with(n, "aud", []string{clientID, "x"}), "azp", clientID), nil},
		{"azp", with(n, "azp", "x"), oidc.ErrRejected},
		{"no iat", without(n, "iat"), oidc.ErrRejected},
		{"iat string", with(n, "iat", "x"), oidc.ErrRejected},
		{"iat of an old token", with(n, "iat", now-120), oidc.ErrRejected},
		{"iat within the skew", with(n, "iat", now-30), nil},
		{"no exp", without(n, "exp"), oidc.ErrRejected},
		{"exp string", with(n, "exp", "x"), oidc.ErrRejected},
		{"nonce again", with(n, "nonce", nonce), nil},
		{"other nonce", with(n, "nonce", "mallory"), oidc.ErrRejected},
		{"nonce array", with(n, "nonce", []string{nonce}), oidc.ErrRejected},
		{"nonce null", with(n, "nonce", nil), nil},
		{"auth_time null", with(n, "auth_time", nil), nil},
		{"no auth_time", without(n, "auth_time"), nil},
		{"other auth_time", with(n, "auth_time", now), oidc.ErrRejected},
		{"auth_time string", with(n, "auth_time", "x"), oidc.ErrRejected},
		{"at_hash", with(n, "at_hash", leftHalf("at-2")), nil},
		{"at_hash of the old token", with(n, "at_hash", leftHalf("at-1")), oidc.ErrRejected},
		{"groups unreadable", with(n, "groups", []any{1}), oidc.ErrRejected},
		{"too many groups", with(without(n, "groups"), "_claim_names", map[string]any{"groups": "s"}), oidc.ErrRejected},
	} {
		i.answer(pathToken, 200, js(i.renewal(tt.claims)))
		g, err := p.Refresh(t.Context(), have)
		if !errors.Is(err, tt.want) || (g == nil) == (err == nil) || g != nil && g.Kept != nil {
			t.Errorf("%s: %+v, %v, want %v", tt.id, g, err, tt.want)
		}
		if errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s: %v is also unavailable", tt.id, err)
		}
	}
}

// F5: signatures, and whatever is no ID token at all.
func TestF5RefreshedIDTokenSignature(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p, have := signedIn(t, i)
	c := js(i.again())
	for id, token := range map[string]any{
		"other key":        tok("RS256", `{"alg":"RS256","kid":"k1"}`, c, rsaOther()),
		"none":             b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(c)) + ".",
		"none, padded":     b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(c)) + ".e30",
		"HS256":            tok("HS256", `{"alg":"HS256"}`, c, []byte(secret)),
		"not configured":   tok("ES256", `{"alg":"ES256","kid":"e1"}`, c, p256()),
		"J8 access token":  tok("RS256", `{"alg":"RS256","kid":"k1","typ":"at+jwt"}`, c, rsaKey()),
		"G4 logout token":  tok("RS256", `{"alg":"RS256","kid":"k1","typ":"logout+jwt"}`, c, rsaKey()),
		"sub twice":        tok("RS256", `{"alg":"RS256","kid":"k1"}`, strings.Replace(c, `"sub":`, `"sub":"mallory","sub":`, 1), rsaKey()),
		"not a JWT":        "hello",
		"a number":         1,
		"an object":        map[string]any{"sub": "alice"},
		"larger than 16 K": repeat("a", 17<<10),
	} {
		i.answer(pathToken, 200, js(with(i.renewal(i.again()), "id_token", token)))
		if g, err := p.Refresh(t.Context(), have); !errors.Is(err, oidc.ErrRejected) || errors.Is(err, oidc.ErrUnavailable) || g != nil {
			t.Errorf("%s: %+v, %v, want rejected", id, g, err)
		}
	}
}

// Section 12.2 compares with the original sign-in, also when ID tokens in between
// left nonce and auth_time out.
func TestF5RefreshedTwice(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	at := time.Now().Unix() - 100
	i.claims = with(i.base(), "auth_time", at)
	p, have := signedIn(t, i)
	i.answer(pathToken, 200, js(i.renewal(i.again())))
	have, err := p.Refresh(t.Context(), have)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id     string
		claims map[string]any
		want   error
	}{
		{"same", with(with(i.again(), "nonce", nonce), "auth_time", at), nil},
		{"nonce", with(i.again(), "nonce", "mallory"), oidc.ErrRejected},
		{"auth_time", with(i.again(), "auth_time", at+1), oidc.ErrRejected},
	} {
		i.answer(pathToken, 200, js(i.renewal(tt.claims)))
		if _, err := p.Refresh(t.Context(), have); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.id, err, tt.want)
		}
	}
}

// F4: invalid_grant alone ends a session.
func TestF4RefreshRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	_, have := signedIn(t, i)
	for _, tt := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{"error":"invalid_grant","error_description":"rt-1 is used up"}`, oidc.ErrRejected},
		{401, `{"error":"invalid_grant"}`, oidc.ErrRejected},
		{400, `{"error":"invalid_client"}`, oidc.ErrUnavailable},
		{401, `{"error":"invalid_client"}`, oidc.ErrUnavailable},
		{400, `{"error":"unauthorized_client"}`, oidc.ErrUnavailable},
		{400, `{"error":"invalid_request"}`, oidc.ErrUnavailable},
		{400, `{"error":"unsupported_grant_type"}`, oidc.ErrUnavailable},
		{400, `{"error":"invalid_scope"}`, oidc.ErrUnavailable},
		{400, `{"error":"temporarily_unavailable"}`, oidc.ErrUnavailable},
		{400, `{"error":"server_error"}`, oidc.ErrUnavailable},
		{400, `{"error":"something_new"}`, oidc.ErrUnavailable},
		{400, `{"Error":"invalid_grant"}`, oidc.ErrUnavailable},
		{400, `{"error":["invalid_grant"]}`, oidc.ErrUnavailable},
		{400, `{"error":"invalid_client","error":"invalid_grant"}`, oidc.ErrUnavailable},
		{404, `<html>invalid_grant`, oidc.ErrUnavailable},
		{403, ``, oidc.ErrUnavailable},
		{408, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{429, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{500, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{503, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{302, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{200, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{204, ``, oidc.ErrUnavailable},
	} {
		i.answer(pathToken, tt.status, tt.body)
		g, err := i.provider().Refresh(t.Context(), have) // a provider each: none is left alone
		if !errors.Is(err, tt.want) || g != nil || errors.Is(err, oidc.ErrRejected) && errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%d %s: %+v, %v, want %v", tt.status, tt.body, g, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "rt-1") {
			t.Errorf("V2: %v shows the refresh token", err)
		}
	}
}

// N12, L14: an answer without tokens, or by another status than 200, is no answer.
func TestL14RefreshAnswer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	_, have := signedIn(t, i)
	good := i.renewal(i.again())
	text := strings.TrimSuffix(js(good), "}")
	refused := func(id string, status int, body string) {
		t.Helper()
		i.answer(pathToken, status, body)
		if g, err := i.provider().Refresh(t.Context(), have); !errors.Is(err, oidc.ErrUnavailable) || errors.Is(err, oidc.ErrRejected) || g != nil {
			t.Errorf("%s: %+v, %v, want unavailable", id, g, err)
		}
	}
	for id, body := range map[string]string{
		"HTML":            "<html>hello</html>",
		"empty":           "",
		"null":            "null",
		"array":           "[]",
		"no access_token": js(without(good, "access_token")),
		"access empty":    js(with(good, "access_token", "")),
		"access newline":  js(with(good, "access_token", "a\nb")),
		"access huge":     js(with(good, "access_token", repeat("a", 65<<10))),
		"no token_type":   js(without(good, "token_type")),
		"token_type mac":  js(with(good, "token_type", "mac")),
		"token_type DPoP": js(with(good, "token_type", "DPoP")),
		"duplicate":       text + `,"access_token":"x"}`,
		"10 MB":           js(with(good, "x", repeat("x", 10<<20))),
		"trailing":        js(good) + "x",
		"not UTF-8":       text + ",\"x\":\"\xff\"}",
	} {
		refused(id, 200, body)
	}
	for _, status := range []int{201, 202, 203, 205, 206, 226, 300, 301, 307, 400, 401, 418, 500, 502, 599} {
		refused(fmt.Sprint(status), status, js(good))
	}
	i.handle(pathToken, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := i.provider().Refresh(ctx, have); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("hang: %v", err)
	}
}

// What cannot be checked now takes the new tokens and leaves the identity.
func TestF6RefreshKeepsIdentity(t *testing.T) {
	t.Parallel()
	for id, tt := range map[string]func(*issuer, map[string]any) map[string]any{
		"keys down": func(i *issuer, c map[string]any) map[string]any {
			i.answer(pathJWKS, 503, "")
			return with(i.renewal(c), "id_token", tok("RS256", `{"alg":"RS256","kid":"k2"}`, js(c), rsaOther()))
		},
		"keys nonsense": func(i *issuer, c map[string]any) map[string]any {
			i.answer(pathJWKS, 200, "<html>")
			return with(i.renewal(c), "id_token", tok("RS256", `{"alg":"RS256","kid":"k2"}`, js(c), rsaOther()))
		},
		"key not published yet": func(i *issuer, c map[string]any) map[string]any {
			return with(i.renewal(c), "id_token", tok("RS256", `{"alg":"RS256","kid":"k2"}`, js(c), rsaOther()))
		},
		"our clock is behind": func(i *issuer, c map[string]any) map[string]any {
			return i.renewal(with(c, "iat", time.Now().Unix()+3600))
		},
		"our clock is ahead": func(i *issuer, c map[string]any) map[string]any {
			return i.renewal(with(c, "exp", time.Now().Unix()-120))
		},
	} {
		i := newIssuer(t)
		p, have := signedIn(t, i)
		i.answer(pathToken, 200, js(tt(i, with(i.again(), "groups", []string{"new"}))))
		g, err := p.Refresh(t.Context(), have)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if g.Access != "at-2" || g.Refresh != "rt-2" || g.IDToken != have.IDToken || g.Identity != have.Identity || !errors.Is(g.Kept, oidc.ErrUnavailable) {
			t.Errorf("%s: %+v", id, g)
		}
		// The reason does not outlive its cause.
		i.setKeys(jwk("k1", "RS256", rsaKey()))
		i.answer(pathToken, 200, js(i.renewal(i.again())))
		if g, err = p.Refresh(t.Context(), g); err != nil || g.Kept != nil {
			t.Errorf("%s: afterwards %+v, %v", id, g, err)
		}
	}
}

// The clock is wrong and the token forged: forged it is.
func TestF5ForgedAndExpired(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p, have := signedIn(t, i)
	c := with(i.again(), "exp", time.Now().Unix()-120)
	i.answer(pathToken, 200, js(with(i.renewal(c), "id_token", tok("RS256", `{"alg":"RS256","kid":"k1"}`, js(c), rsaOther()))))
	if _, err := p.Refresh(t.Context(), have); !errors.Is(err, oidc.ErrRejected) {
		t.Errorf("%v, want rejected", err)
	}
}

func TestRefreshUserinfo(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.claims = without(i.base(), "groups")
	says := func(status int, typ, body string) {
		i.handle(pathUserinfo, func(w http.ResponseWriter, r *http.Request) {
			if a := r.Header.Get("Authorization"); status == 200 && a != "Bearer at-1" && a != "Bearer at-2" {
				t.Errorf("Authorization = %q", a)
			}
			w.Header().Set("Content-Type", typ)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	const typ = "application/json"
	says(200, typ, `{"sub":"alice","groups":["old"],"name":"Alice"}`)
	p, have := signedIn(t, i, func(c *oidc.ProviderConfig) { c.Client.Userinfo = true })
	whole := i.renewal(without(i.again(), "groups"))
	for _, tt := range []struct {
		id     string
		answer map[string]any
		status int
		typ    string
		body   string
		want   error
		groups []string
		kept   bool
	}{
		{"F7 with ID token", whole, 200, typ, `{"sub":"alice","groups":["new"]}`, nil, []string{"new"}, false},
		{"F7 without ID token", without(whole, "id_token"), 200, typ, `{"sub":"alice","groups":["new"]}`, nil, []string{"new"}, false},
		{"F7 groups gone", without(whole, "id_token"), 200, typ, `{"sub":"alice"}`, nil, nil, false},
		{"L15 other sub", whole, 200, typ, `{"sub":"mallory"}`, oidc.ErrRejected, nil, false},
		{"L15 other sub without ID token", without(whole, "id_token"), 200, typ, `{"sub":"mallory"}`, oidc.ErrRejected, nil, false},
		{"no sub", whole, 200, typ, `{}`, nil, []string{"old"}, true},
		{"HTML", whole, 200, "text/html", `<html>`, nil, []string{"old"}, true},
		{"nonsense", whole, 200, typ, `[`, nil, []string{"old"}, true},
		{"401", whole, 401, typ, `{"sub":"mallory"}`, nil, []string{"old"}, true},
		{"503", whole, 503, typ, `{"sub":"mallory"}`, nil, []string{"old"}, true},
		{"503 without ID token", without(whole, "id_token"), 503, typ, ``, nil, []string{"old"}, true},
		{"302", whole, 302, typ, `{"sub":"alice"}`, nil, []string{"old"}, true},
		{"groups unreadable", whole, 200, typ, `{"sub":"alice","groups":[1]}`, oidc.ErrRejected, nil, false},
	} {
		says(tt.status, tt.typ, tt.body)
		i.answer(pathToken, 200, js(tt.answer))
		g, err := p.Refresh(t.Context(), have)
		if !errors.Is(err, tt.want) || (g == nil) == (err == nil) {
			t.Errorf("%s: %+v, %v, want %v", tt.id, g, err, tt.want)
			continue
		}
		if g == nil {
			continue
		}
		if !slices.Equal(g.Identity.Groups, tt.groups) || (g.Kept != nil) != tt.kept || g.Refresh != "rt-2" || g.Access != "at-2" {
			t.Errorf("%s: %+v with groups %v, kept %v", tt.id, g, g.Identity.Groups, g.Kept)
		}
		if _, stale := g.Identity.Claims["name"]; stale && !tt.kept {
			t.Errorf("%s: a claim of the userinfo of before is still there: %v", tt.id, g.Identity.Claims)
		}
	}
}

// Mistakes of the caller send nothing, and neither end a session nor are an outage.
func TestRefreshMalformed(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p, have := signedIn(t, i)
	asked := i.count(pathToken)
	change := func(f func(*oidc.Grant)) *oidc.Grant {
		g := *have
		f(&g)
		return &g
	}
	elsewhere := *have.Identity
	elsewhere.Issuer = "https://other.test"
	for id, g := range map[string]*oidc.Grant{
		"nil":          nil,
		"no refresh":   change(func(g *oidc.Grant) { g.Refresh = "" }),
		"no identity":  change(func(g *oidc.Grant) { g.Identity = nil }),
		"other issuer": change(func(g *oidc.Grant) { g.Identity = &elsewhere }),
		"no ID token":  change(func(g *oidc.Grant) { g.IDToken = "" }),
		"bad ID token": change(func(g *oidc.Grant) { g.IDToken = "a.b" }),
	} {
		if got, err := p.Refresh(t.Context(), g); err == nil || got != nil || errors.Is(err, oidc.ErrRejected) || errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	if _, err := i.provider(func(c *oidc.ProviderConfig) { c.Client = nil }).Refresh(t.Context(), have); err == nil || errors.Is(err, oidc.ErrRejected) {
		t.Errorf("no client: %v", err)
	}
	if n := i.count(pathToken) - asked; n != 0 {
		t.Errorf("%d token requests", n)
	}
}

// A stored grant has lost its pointers and is as good as new.
func TestRefreshFromStorage(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p, have := signedIn(t, i)
	identity := *have.Identity
	identity.Claims = must(authz.ParseClaims([]byte(js(identity.Claims))))
	stored := &oidc.Grant{Identity: &identity, Refresh: have.Refresh, IDToken: have.IDToken}
	i.answer(pathToken, 200, js(i.renewal(with(i.again(), "nonce", nonce))))
	if _, err := p.Refresh(t.Context(), stored); err != nil {
		t.Error(err)
	}
}
