package oidctest_test

import (
	"encoding/json"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

func (c *client) renew(refreshToken string) (*oauth2.Token, error) {
	return c.conf.TokenSource(c.t.Context(), &oauth2.Token{RefreshToken: refreshToken}).Token()
}

// A reused refresh token ends the whole family, and is counted.
func TestReuse(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.renew(tok.RefreshToken)
	if err != nil || c.idp.Reused() != 0 {
		t.Fatalf("first use: %v, %d reused", err, c.idp.Reused())
	}
	if _, err := c.renew(tok.RefreshToken); err == nil || c.idp.Reused() != 1 {
		t.Errorf("second use: %v, %d reused", err, c.idp.Reused())
	}
	if _, err := c.renew(second.RefreshToken); err == nil || c.idp.Reused() != 1 {
		t.Errorf("the newest of the family: %v, %d reused", err, c.idp.Reused())
	}
	if a, b := c.idp.Grants("authorization_code"), c.idp.Grants("refresh_token"); a != 1 || b != 3 {
		t.Errorf("%d code and %d refresh grants, want 1 and 3", a, b)
	}
	if c.idp.ResetHits(); c.idp.Grants("refresh_token") != 0 || c.idp.Reused() != 0 {
		t.Error("the counts were not reset")
	}
}

func TestNoRefreshToken(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var raw string // what the answer held; x/oauth2 fills the gap
	c.idp.Always(oidctest.Token, oidctest.OnGrant("refresh_token", func(a *oidctest.Answer) {
		oidctest.NoRefreshToken(a)
		b, err := json.Marshal(a.JSON["refresh_token"])
		if err != nil {
			t.Error(err)
		}
		raw = string(b)
	}))
	for range 2 {
		if _, err := c.renew(tok.RefreshToken); err != nil || raw != "null" {
			t.Errorf("refresh: %v, refresh_token %s", err, raw)
		}
	}
	if _, _, err := c.login(t.Context()); err != nil {
		t.Errorf("OnGrant touched another grant: %v", err)
	}
}

func TestAccessTTLOfClient(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice", AccessTTL: time.Hour, Clients: []oidctest.Client{
		{ID: "mesh", Secret: "mesh-secret", AccessTTL: 2 * time.Second},
	}})
	tok, id, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if tok.ExpiresIn != 2 || id.Expiry.Sub(id.IssuedAt) != 2*time.Second {
		t.Errorf("expires_in = %d, ID token lives %v, want 2 s", tok.ExpiresIn, id.Expiry.Sub(id.IssuedAt))
	}
}
