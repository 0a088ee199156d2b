package oidc

import (
	"errors"
	"maps"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Identify returns whom a login whose ID token has these claims would sign in; iss and
// aud may be left out. Nothing is checked but the claims that make up the identity: it
// is for asking what rules would decide.
func (p *Provider) Identify(c authz.Claims) (*authz.Identity, error) {
	whole := authz.Claims{"iss": p.cfg.Issuer, "aud": p.ClientID()}
	maps.Copy(whole, c)
	return p.identity(whole)
}

// Identify returns whom a token with these claims would be taken for. Audience and
// issuer are checked; signature and times are not: it is for asking what rules would
// decide.
func (v *Verifier) Identify(c authz.Claims) (*authz.Identity, error) { return v.identity(c) }

// UnverifiedClaims reads the claims of a token strictly, and believes nothing: they
// are for asking what rules would decide, never for deciding.
func UnverifiedClaims(token string) (authz.Claims, error) {
	if len(token) > maxToken {
		return nil, errors.New("it is too long")
	}
	t, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	return t.claims, nil
}
