package oidc_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// RFC 7009 section 2.1.
func TestRevoke(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, hint string
		user         string
		form         url.Values
	}{
		{"client_secret_basic", "refresh_token", clientID, url.Values{"token": {"rt-1"}, "token_type_hint": {"refresh_token"}}},
		{"client_secret_post", "", "", url.Values{"token": {"rt-1"}, "client_id": {clientID}, "client_secret": {secret}}},
		{"none", "access_token", "", url.Values{"token": {"rt-1"}, "token_type_hint": {"access_token"}, "client_id": {clientID}}},
	} {
		i := newIssuer(t)
		i.answer(pathRevoke, 200, "")
		p := i.provider(func(c *oidc.ProviderConfig) {
			if c.Client.AuthMethod = tt.method; tt.method == "none" {
				c.Client.Secret = nil
			}
		})
		if err := p.Revoke(t.Context(), "rt-1", tt.hint); err != nil {
			t.Errorf("%s: %v", tt.method, err)
		}
		if d := cmp.Diff(tt.form, url.Values(i.form)); d != "" || i.auth[0] != tt.user {
			t.Errorf("%s: by %q, form (-want +got):\n%s", tt.method, i.auth[0], d)
		}
	}
}

func TestRevokeRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	_, have := signedIn(t, i)
	i.answer(pathToken, 200, js(i.renewal(i.again())))
	for _, tt := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{"error":"unsupported_token_type","error_description":"rt-1"}`, oidc.ErrRejected},
		{401, `{"error":"invalid_client"}`, oidc.ErrRejected},
		{400, `<html>`, oidc.ErrUnavailable},
		{503, ``, oidc.ErrUnavailable},
		{429, `{"error":"invalid_request"}`, oidc.ErrUnavailable},
		{302, ``, oidc.ErrUnavailable},
	} {
		i.answer(pathRevoke, tt.status, tt.body)
		p := i.provider()
		err := p.Revoke(t.Context(), "rt-1", "")
		if !errors.Is(err, tt.want) {
			t.Errorf("%d %s: %v, want %v", tt.status, tt.body, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "rt-1") {
			t.Errorf("V2: %v shows the token", err)
		}
		// However it failed, refreshes go on.
		if _, err := p.Refresh(t.Context(), have); err != nil {
			t.Errorf("%d: a refresh afterwards: %v", tt.status, err)
		}
	}
}

func TestRevokeNothing(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	if err := i.provider().Revoke(t.Context(), "", ""); err != nil || i.count(pathDiscovery) != 0 {
		t.Errorf("no token: %v, %d discoveries", err, i.count(pathDiscovery))
	}
	if err := i.provider(func(c *oidc.ProviderConfig) { c.Client = nil }).Revoke(t.Context(), "rt-1", ""); err == nil {
		t.Error("a provider without a client revokes")
	}
	i.answer(pathDiscovery, 200, js(without(i.metadata(), "revocation_endpoint")))
	if err := i.provider().Revoke(t.Context(), "rt-1", ""); err != nil || i.count(pathRevoke) != 0 {
		t.Errorf("no endpoint: %v, %d requests", err, i.count(pathRevoke))
	}
	i.answer(pathDiscovery, 503, "")
	if err := i.provider().Revoke(t.Context(), "rt-1", ""); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("discovery is down: %v", err)
	}
}

// A provider that hangs is asked once, not by everybody who signs out.
func TestRevokeBacksOff(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Now()
	p := i.provider(func(c *oidc.ProviderConfig) { c.Now = func() time.Time { return now } })
	i.answer(pathRevoke, 503, "")
	for range 5 {
		if err := p.Revoke(t.Context(), "rt-1", ""); !errors.Is(err, oidc.ErrUnavailable) {
			t.Error(err)
		}
	}
	if n := i.count(pathRevoke); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	now = now.Add(time.Second)
	i.handle(pathRevoke, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Revoke(ctx, "rt-1", ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: %v", err)
	}
	i.answer(pathRevoke, 200, "")
	if err := p.Revoke(t.Context(), "rt-1", ""); err != nil {
		t.Errorf("once it is up: %v", err)
	}
}
