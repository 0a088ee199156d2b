package oidctest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// listener is a client's back-channel logout endpoint, made of go-oidc.
type listener struct {
	*httptest.Server
	verify func(*http.Request, string) (*gooidc.LogoutToken, error)
	got    chan *gooidc.LogoutToken
}

func newListener(t *testing.T) *listener {
	t.Helper()
	l := &listener{got: make(chan *gooidc.LogoutToken, 10)}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := l.verify(r, r.PostFormValue("logout_token"))
		if err != nil || r.Method != "POST" {
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "refused")
			return
		}
		l.got <- token
	}))
	t.Cleanup(l.Close)
	return l
}

func TestBackchannelLogout(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	l.verify = func(r *http.Request, raw string) (*gooidc.LogoutToken, error) {
		return c.op.Verifier(&gooidc.Config{ClientID: "mesh"}).VerifyLogout(r.Context(), raw)
	}
	c.idp.SetClient(oidctest.Client{ID: "mesh", Secret: "mesh-secret", BackchannelLogoutURI: l.URL})
	first, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	live := c.idp.Sessions()
	if len(live) != 2 || live[0].Subject != "alice" || live[0].ClientID != "mesh" || live[0].ID == live[1].ID {
		t.Fatalf("sessions = %+v", live)
	}

	c.idp.End(live[0].ID)
	if got := <-l.got; got.Subject != "alice" || got.SessionID != live[0].ID {
		t.Errorf("logout token of %q, session %q, want alice, %q", got.Subject, got.SessionID, live[0].ID)
	}
	if _, err := c.renew(first.RefreshToken); err == nil {
		t.Error("the refresh token outlives its session")
	}
	if _, err := c.renew(second.RefreshToken); err != nil {
		t.Errorf("the other session: %v", err)
	}
	c.idp.End(live[0].ID) // over already
	c.idp.End("unknown")

	hint := second.Extra("id_token").(string)
	if res, _ := do(t, "GET", c.idp.Issuer()+"/end_session?"+url.Values{"id_token_hint": {hint}}.Encode(), nil); res.StatusCode != 200 {
		t.Errorf("end_session = %d", res.StatusCode)
	}
	if got := <-l.got; got.SessionID != live[1].ID {
		t.Errorf("logout token for session %q, want %q", got.SessionID, live[1].ID)
	}
	if n := c.idp.Notices(); len(n) != 2 || n[0].Status != 200 || n[0].Err != nil || len(c.idp.Sessions()) != 0 {
		t.Errorf("notices = %+v, sessions = %+v", n, c.idp.Sessions())
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	c := newClient(t, oidctest.Config{Clients: []oidctest.Client{{ID: "mesh", BackchannelLogoutURI: l.URL}, {ID: "mute"}}})
	l.verify = func(r *http.Request, raw string) (*gooidc.LogoutToken, error) {
		return c.op.Verifier(&gooidc.Config{ClientID: "mesh"}).VerifyLogout(r.Context(), raw)
	}
	if n := c.idp.Notify("mesh", c.idp.LogoutToken("mesh", "alice", "")); n.Status != 200 {
		t.Errorf("sub only = %+v", n)
	}
	if got := <-l.got; got.Subject != "alice" || got.SessionID != "" {
		t.Errorf("logout token of %q, session %q", got.Subject, got.SessionID)
	}
	for name, token := range map[string]string{
		"other audience": c.idp.LogoutToken("other", "alice", "s"),
		"no events":      c.idp.LogoutToken("mesh", "alice", "s", func(t *oidctest.JWT) { delete(t.Claims, "events") }),
		"junk":           "junk",
	} {
		n := c.idp.Notify("mesh", token)
		if n.Status != 400 || n.Body != "refused" || n.Header.Get("Cache-Control") != "no-store" || n.Err != nil || n.Token != token {
			t.Errorf("%s = %+v", name, n)
		}
	}
	l.Close()
	if n := c.idp.Notify("mesh", "x"); n.Status != 0 || n.Err == nil {
		t.Errorf("nobody listens: %+v", n)
	}
	if n := c.idp.Notify("mute", "x"); n.Err == nil {
		t.Errorf("no address: %+v", n)
	}
	if token := c.idp.LogoutToken("mesh", "", "s"); !slices.Contains(c.idp.Secrets(), token) {
		t.Error("a logout token is not among the secrets")
	}
}

// A sign-in that ends while its code is on the way gives nothing.
func TestEndBeforeTheCode(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	c.idp.Next(oidctest.Authorize, func(*oidctest.Answer) {
		for _, s := range c.idp.Sessions() {
			c.idp.End(s.ID)
		}
	})
	if _, _, err := c.login(t.Context()); err == nil {
		t.Error("a code of an ended sign-in was redeemed")
	}
}

func TestSetClient(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	c.idp.SetClient(oidctest.Client{ID: "mesh", Secret: "new-secret", AccessTTL: time.Minute})
	if _, _, err := c.login(t.Context()); err == nil {
		t.Error("the old secret still works")
	}
	c.conf.ClientSecret = "new-secret"
	if _, _, err := c.login(t.Context()); err != nil {
		t.Errorf("the new secret: %v", err)
	}
	if s := c.idp.Secrets(); !slices.Contains(s, "new-secret") || !slices.Contains(s, "mesh-secret") {
		t.Error("the secrets do not hold both of the client's")
	}
}
