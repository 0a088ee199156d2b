package oidc_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// RFC 6750 section 3.1, RFC 9068 section 5.
func TestChallenge(t *testing.T) {
	t.Parallel()
	v := newIssuer(t).verifier()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{authz.ErrNoCredentials, `Bearer realm="api.test"`},
		{authz.ErrBadCredentials, `Bearer realm="api.test", error="invalid_token"`},
		{fmt.Errorf("scope: %w", authz.ErrInsufficientScope), `Bearer realm="api.test", error="insufficient_scope"`},
		{errors.New("store is down"), `Bearer realm="api.test"`},
	} {
		if d := cmp.Diff(authz.Challenge{WWWAuthenticate: tt.want}, v.Challenge(lines(), tt.err)); d != "" {
			t.Errorf("%v (-want +got):\n%s", tt.err, d)
		}
	}
}

// D4: what a newer token mends is said, so that a probe of the client can act;
// nothing else is.
func TestD4ChallengeOfARefusedToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier(func(c *oidc.VerifierConfig) { c.MaxAge = 2 * time.Hour })
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"expired":        {with(i.access(), "exp", now-3600), `, error_description="The access token expired"`},
		"too old":        {with(i.access(), "iat", now-3*3600), `, error_description="The access token is too old"`},
		"not yet":        {with(i.access(), "nbf", now+3600), `, error_description="The access token is not valid yet"`},
		"other audience": {with(i.access(), "aud", "other"), ""},
		"other issuer":   {with(i.access(), "iss", "https://other.test"), ""},
	} {
		r := bearer(tok("RS256", rs256, js(tt.claims), rsaKey()))
		_, err := v.Authenticate(t.Context(), r)
		if got, want := v.Challenge(r, err).WWWAuthenticate, `Bearer realm="api.test", error="invalid_token"`+tt.want; got != want {
			t.Errorf("%s: %s, want %s (%v)", name, got, want, err)
		}
	}
}
