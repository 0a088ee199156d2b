package oidc_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// signIn runs the code flow against a provider with rotating refresh tokens.
func signIn(t *testing.T, idp *oidctest.Server) (*oidc.Provider, *oidc.Grant) {
	t.Helper()
	p := must(oidc.NewProvider(oidc.ProviderConfig{Name: "corp", Issuer: idp.Issuer(), Client: &oidc.ClientConfig{
		ID: "mesh", Secret: func() (string, error) { return "mesh-secret", nil }, Scopes: []string{"email", "offline_access"}, Userinfo: true,
	}}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, must(p.AuthorizationURL(t.Context(), request())), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	code := must(url.Parse(res.Header.Get("Location"))).Query().Get("code")
	g, err := p.Exchange(t.Context(), code, verifier, callback, nonce)
	if err != nil {
		t.Fatal(err)
	}
	return p, g
}

// F2, F4, F7: a family of rotating refresh tokens lives as long as none comes twice.
func TestF2RotatingRefreshTokens(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	p, g := signIn(t, idp)
	seen := map[string]bool{g.Refresh: true}
	for n := range 5 {
		idp.SetUser(oidctest.User{Subject: "alice", Groups: []string{string(rune('a' + n))}})
		if n == 2 {
			idp.Next(oidctest.Token, oidctest.Scripts(oidctest.NoIDToken, oidctest.Member("expires_in", "300")))
		}
		if n == 3 { // an outage before anything is done costs nothing
			idp.Next(oidctest.Token, oidctest.OAuthError("invalid_scope"))
			if _, err := p.Refresh(t.Context(), g); !errors.Is(err, oidc.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		var err error
		if g, err = p.Refresh(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if seen[g.Refresh] || !slices.Equal(g.Identity.Groups, []string{string(rune('a' + n))}) || g.Kept != nil {
			t.Errorf("refresh %d: token seen before: %v, groups %v, kept %v", n, seen[g.Refresh], g.Identity.Groups, g.Kept)
		}
		seen[g.Refresh] = true
	}
	if n := idp.Reused(); n != 0 {
		t.Errorf("%d refresh tokens came twice", n)
	}
	idp.Revoke("alice")
	if _, err := p.Refresh(t.Context(), g); !errors.Is(err, oidc.ErrRejected) {
		t.Errorf("after the provider's end: %v", err)
	}
}

// The transport sends a refresh token once, also over a connection that dies.
func TestF2RefreshTokenSentOnce(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	p, g := signIn(t, idp)
	for range 3 { // warm connections, which a transport would like to replace
		var err error
		if g, err = p.Refresh(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	idp.ResetHits()
	idp.Next(oidctest.Token, oidctest.Lost)
	if _, err := p.Refresh(t.Context(), g); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("lost answer: %v", err)
	}
	if a, b := idp.Grants("refresh_token"), idp.Reused(); a != 1 || b != 0 {
		t.Errorf("%d requests, %d reused; want 1 and 0", a, b)
	}
}

// G1: the refresh token is void after a sign-out; G3: a provider's own logout token.
func TestG1Revoked(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	p, g := signIn(t, idp)
	if err := p.Revoke(t.Context(), g.Refresh, "refresh_token"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Refresh(t.Context(), g); !errors.Is(err, oidc.ErrRejected) {
		t.Errorf("after the revocation: %v", err)
	}
	if err := p.Revoke(t.Context(), "unknown", ""); err != nil {
		t.Errorf("an unknown token: %v", err)
	}
}

func TestG3LogoutTokenOfProvider(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	p, g := signIn(t, idp)
	var mu sync.Mutex
	var got *oidc.LogoutToken
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var err error
		if got, err = p.VerifyLogoutToken(r.Context(), r.PostFormValue("logout_token")); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	idp.SetClient(oidctest.Client{ID: "mesh", Secret: "mesh-secret", BackchannelLogoutURI: s.URL})
	idp.End(g.ProviderSession)
	mu.Lock()
	defer mu.Unlock()
	if got == nil || got.Subject != "alice" || got.SessionID != g.ProviderSession || got.Issuer != idp.Issuer() || got.ID == "" {
		t.Errorf("logout token = %+v, want alice and %q", got, g.ProviderSession)
	}
}
