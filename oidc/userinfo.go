package oidc

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// errOtherSubject means that the userinfo endpoint speaks of somebody else.
var errOtherSubject = errors.New("userinfo: sub is not the ID token's")

// askUserinfo reads the claims of OpenID Connect Core 1.0 section 5.3. "The sub
// Claim in the UserInfo Response MUST be verified to exactly match the sub Claim
// in the ID Token" (5.3.2). Errors wrap ErrUnavailable or ErrRejected.
func (p *Provider) askUserinfo(ctx context.Context, endpoint, accessToken, sub string) (authz.Claims, error) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, http.NoBody)
	if err != nil {
		return nil, unavailable(err)
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	a, err := call(p.client, req)
	if err != nil {
		return nil, err
	}
	switch a.status {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden: // RFC 6750 section 3.1
		return nil, fmt.Errorf("%w: userinfo endpoint answers %d", ErrRejected, a.status)
	default:
		return nil, fmt.Errorf("%w: userinfo endpoint answers %d", ErrUnavailable, a.status)
	}
	if typ, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")); typ != "application/json" {
		return nil, fmt.Errorf("%w: userinfo endpoint answers with %.100q, application/json is needed (no signed or encrypted userinfo)", ErrUnavailable, typ)
	}
	claims, err := authz.ParseClaims(a.body)
	if err != nil {
		return nil, fmt.Errorf("%w: userinfo: %w", ErrUnavailable, err)
	}
	switch got, _ := claims["sub"].(string); got {
	case sub:
		return claims, nil
	case "":
		return nil, fmt.Errorf("%w: userinfo: sub is missing or not a string", ErrRejected)
	default:
		return nil, fmt.Errorf("%w: %w", ErrRejected, errOtherSubject)
	}
}
