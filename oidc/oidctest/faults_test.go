package oidctest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	verify := func(raw string) error {
		_, err := c.op.Verifier(&gooidc.Config{ClientID: "api", SupportedSigningAlgs: []string{"RS256", "ES256", "PS256"}}).Verify(t.Context(), raw)
		return err
	}
	old := c.idp.Bearer(nil)
	oldKid := c.idp.Kid("RS256")
	if err := verify(old); err != nil {
		t.Fatal(err)
	}
	newKid := c.idp.Rotate("RS256")
	if newKid == oldKid || c.idp.Kid("RS256") != newKid {
		t.Errorf("Rotate: %q then %q", oldKid, newKid)
	}
	for _, alg := range []string{"RS256", "ES256", "PS256"} {
		if err := verify(c.idp.Bearer(nil, func(j *oidctest.JWT) { j.Alg = alg })); err != nil {
			t.Errorf("%s after rotation: %v", alg, err)
		}
	}
	c.idp.Retire(oldKid)
	c.op, _ = gooidc.NewProvider(t.Context(), c.idp.Issuer())
	if err := verify(c.idp.Bearer(nil, func(j *oidctest.JWT) { j.Kid = oldKid })); err == nil {
		t.Error("a token under a retired key verifies")
	}
	if err := verify(c.idp.Bearer(nil)); err != nil {
		t.Errorf("under the new key: %v", err)
	}
}

// Each fault must make a correct client fail, and only for as long as it is on.
func TestFaultsOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	for name, s := range map[string]oidctest.Script{
		"down":          oidctest.Down,
		"lost":          oidctest.Lost,
		"status":        oidctest.Status(503),
		"oauth error":   oidctest.OAuthError("server_error"),
		"garbage":       oidctest.Garbage,
		"no id token":   oidctest.NoIDToken,
		"issuer":        oidctest.Claim("iss", "https://other.example"),
		"audience":      oidctest.Claim("aud", []string{"other"}),
		"expired":       oidctest.Claim("exp", 1),
		"alg none":      oidctest.Alg("none", ""),
		"alg HS256":     oidctest.Alg("HS256", "mesh-secret"),
		"bad signature": oidctest.BadSignature,
		"other user's":  func(a *oidctest.Answer) { a.IDToken.RawClaims = []byte(`{"sub":1}`) },
	} {
		c.idp.Next(oidctest.Token, s)
		if _, id, err := c.login(t.Context()); err == nil {
			t.Errorf("%s: login succeeded with %+v", name, id)
		}
		if _, _, err := c.login(t.Context()); err != nil {
			t.Fatalf("%s: the next login fails too: %v", name, err)
		}
	}
	c.idp.Next(oidctest.Token, oidctest.Claim("nonce", "other"))
	if _, id, err := c.login(t.Context()); err != nil || id.Nonce != "other" {
		t.Errorf("nonce = %+v, %v, want other", id, err)
	}
}

func TestFaultsOfAnyEndpoint(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{})
	discovery := idp.Issuer() + "/.well-known/openid-configuration"
	idp.Next(oidctest.Discovery, oidctest.Huge, oidctest.Redirect("http://127.0.0.1:1/x"), oidctest.Member("issuer", "https://other.example"),
		oidctest.Scripts(oidctest.Slow(50*time.Millisecond), oidctest.Member("jwks_uri", nil)))
	if _, body := do(t, "GET", discovery, nil); len(body) < 10<<20 || !json.Valid([]byte(body)) {
		t.Errorf("Huge: %d bytes", len(body))
	}
	if res, _ := do(t, "GET", discovery, nil); res.StatusCode != 302 || res.Header.Get("Location") != "http://127.0.0.1:1/x" {
		t.Errorf("Redirect: %d %v", res.StatusCode, res.Header)
	}
	if _, body := do(t, "GET", discovery, nil); !strings.Contains(body, `"issuer":"https://other.example"`) {
		t.Errorf("Member: %s", body)
	}
	start := time.Now()
	if _, body := do(t, "GET", discovery, nil); strings.Contains(body, "jwks_uri") || time.Since(start) < 50*time.Millisecond {
		t.Errorf("Scripts: %s after %v", body, time.Since(start))
	}
	idp.AlwaysAll(oidctest.Down)
	if _, err := stop.Get(discovery); err == nil {
		t.Error("Down answered")
	}
	idp.AlwaysAll(nil)
	addr := idp.Addr
	idp.Close()
	if _, err := stop.Get(discovery); err == nil {
		t.Error("Close did not close")
	}
	again, err := idp.Serve(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if res, _ := do(t, "GET", discovery, nil); res.StatusCode != 200 {
		t.Errorf("after Serve again: %d", res.StatusCode)
	}
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice", Clients: []oidctest.Client{
		{ID: "mesh", Secret: "mesh-secret", PostLogoutRedirectURIs: []string{"http://127.0.0.1:1/out"}},
	}})
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hint := tok.Extra("id_token").(string)
	end := func(q url.Values) (*http.Response, string) {
		return do(t, "GET", c.idp.Issuer()+"/end_session?"+q.Encode(), nil)
	}
	for _, q := range []url.Values{
		{"id_token_hint": {hint}, "post_logout_redirect_uri": {"http://127.0.0.1:1/evil"}},
		{"id_token_hint": {oidctest.FlipSignature(hint)}, "post_logout_redirect_uri": {"http://127.0.0.1:1/out"}},
		{"id_token_hint": {hint}, "client_id": {"other"}},
		{"post_logout_redirect_uri": {"http://127.0.0.1:1/out"}},
	} {
		if res, _ := end(q); res.StatusCode != 400 {
			t.Errorf("%v = %d, want 400", q, res.StatusCode)
		}
	}
	if res, _ := end(url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"http://127.0.0.1:1/out"}, "state": {"s t"}}); res.Header.Get("Location") != "http://127.0.0.1:1/out?state=s+t" {
		t.Errorf("end_session = %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if _, err := c.conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token(); err == nil {
		t.Error("the refresh token outlives the sign-out")
	}
	if res, _ := end(nil); res.StatusCode != 200 {
		t.Errorf("bare end_session = %d, want 200", res.StatusCode)
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(text, secret string) int {
		res, _ := do(t, "POST", c.idp.Issuer()+"/revoke", url.Values{"token": {text}, "client_id": {"mesh"}, "client_secret": {secret}})
		return res.StatusCode
	}
	if got := revoke(tok.RefreshToken, "wrong"); got != 401 {
		t.Errorf("revoke by a stranger = %d, want 401", got)
	}
	if _, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok)); err != nil {
		t.Fatal(err)
	}
	if a, b := revoke(tok.RefreshToken, "mesh-secret"), revoke("never-minted", "mesh-secret"); a != 200 || b != 200 {
		t.Errorf("revoke = %d, %d, want 200, 200", a, b)
	}
	if _, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok)); err == nil {
		t.Error("a revoked grant still opens userinfo")
	}
}

func TestUserinfoOnly(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "bob", UserinfoOnly: []string{"groups"}})
	tok, id, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	groups := func(claims func(any) error) (g struct{ Groups []string }) {
		if err := claims(&g); err != nil {
			t.Error(err)
		}
		return g
	}
	if g := groups(id.Claims); g.Groups != nil {
		t.Errorf("ID token has groups %v", g.Groups)
	}
	info, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok))
	if err != nil || len(groups(info.Claims).Groups) != 2 {
		t.Errorf("userinfo = %+v, %v", info, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]oidctest.Config{
		"client without id":   {Clients: []oidctest.Client{{}}},
		"open machine":        {Clients: []oidctest.Client{{ID: "m", MachineOnly: true}}},
		"AutoLogin of nobody": {AutoLogin: "eve"},
		"alg":                 {Alg: "none"},
	} {
		if _, err := oidctest.New(cfg); err == nil {
			t.Errorf("%s: New accepts it", name)
		}
	}
	p, err := oidctest.New(oidctest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Serve("0.0.0.0:0"); err == nil {
		s.Close()
		t.Error("Serve leaves the loopback")
	}
}

func TestJWTAccessTokensOfUsers(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice", Clients: []oidctest.Client{{ID: "mesh", Secret: "mesh-secret", Audience: []string{"api"}}}})
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at, err := c.op.Verifier(&gooidc.Config{ClientID: "api"}).Verify(t.Context(), tok.AccessToken)
	if err != nil || at.Subject != "alice" {
		t.Errorf("access token = %+v, %v", at, err)
	}
	if info, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok)); err != nil || info.Subject != "alice" {
		t.Errorf("userinfo = %+v, %v", info, err)
	}
	c.idp.Revoke("alice")
	if _, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok)); err == nil {
		t.Error("userinfo after Revoke")
	}
}

func TestRefreshVariants(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg    oidctest.Config
		scopes []string
		given  bool
		twice  bool
	}{
		{oidctest.Config{}, []string{"openid"}, false, false},
		{oidctest.Config{}, []string{"openid", "offline_access"}, true, false},
		{oidctest.Config{AlwaysRefresh: true}, []string{"openid"}, true, false},
		{oidctest.Config{AlwaysRefresh: true, KeepRefreshTokens: true}, []string{"openid"}, true, true},
	} {
		tt.cfg.AutoLogin = "alice"
		c := newClient(t, tt.cfg)
		c.conf.Scopes = tt.scopes
		tok, _, err := c.login(t.Context())
		if err != nil || (tok.RefreshToken != "") != tt.given {
			t.Errorf("%+v %v: refresh token %q, %v", tt.cfg, tt.scopes, tok.RefreshToken, err)
			continue
		}
		if !tt.given {
			continue
		}
		for i, want := range []bool{true, tt.twice} {
			if _, err := c.conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token(); (err == nil) != want {
				t.Errorf("%+v: use %d: %v", tt.cfg, i+1, err)
			}
		}
	}
}

// Some providers have a path in their issuer, and no RFC 9207.
func TestIssuerWithPath(t *testing.T) {
	t.Parallel()
	p, err := oidctest.New(oidctest.Config{Issuer: "https://idp.test/realms/a", OmitIssParameter: true})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/realms/a/jwks": 200, "/jwks": 404, "/realms/a/other": 404, "/realms/a": 404} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "https://idp.test"+path, nil))
		if w.Code != want {
			t.Errorf("GET %s = %d, want %d", path, w.Code, want)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "https://idp.test/realms/a/.well-known/openid-configuration", nil))
	if body := w.Body.String(); !strings.Contains(body, `"https://idp.test/realms/a/authorize"`) || strings.Contains(body, "iss_parameter") {
		t.Errorf("discovery = %s", body)
	}
}

// Logins, scripts and readers at once: for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if i%3 == 0 {
				c.idp.Always(oidctest.Userinfo, oidctest.Slow(time.Millisecond))
				c.idp.Rotate("ES256")
				c.idp.SetUser(oidctest.User{Subject: "alice"})
			}
			tok, _, err := c.login(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok)); err != nil {
				t.Error(err)
			}
			_, _, _ = c.idp.Secrets(), c.idp.Hits(oidctest.Token), c.idp.Requests(oidctest.Token)
		})
	}
	wg.Wait()
}
