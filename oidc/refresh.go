package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// maxRefreshes bounds the refreshes of one provider under way at a time.
const maxRefreshes = 100

// Refresh asks the provider anew about a sign-in (RFC 6749 section 6, OpenID
// Connect Core 1.0 section 12). have is what Exchange or Refresh gave before, and
// is not changed; the result is whole. What the answer leaves out stays: the
// refresh token, the ID token, and the identity, unless userinfo is configured,
// which is asked with the new access token. Groups and all other claims are read
// anew, none is carried over.
//
// An error that wraps ErrRejected means that the sign-in is over: the provider says
// invalid_grant, or an ID token or userinfo that is somebody else's, not signed as it
// should be, or no identity any more. Every other error means "cannot tell" and
// wraps ErrUnavailable, except for mistakes of the caller: no login client, no
// refresh token, a grant of another issuer. Nothing is sent for those.
//
// Once the provider has answered, the old refresh token may be void, so that nothing
// that can be done without loses the new one: without a usable expires_in the access
// token is taken for one of five minutes; when the keys cannot be read or lack the one
// that signed, the dates of the ID token do not fit our clock, or userinfo does not
// answer, the identity stays as it was (Grant.Kept says why). Only an answer without an
// access token of type Bearer is ErrUnavailable; it may have used the refresh token up,
// as a time-out may, and then the next Refresh learns that the sign-in is over.
//
// ProviderSession stays the first: sessions are found by it.
//
// At most 100 calls run at a time, and none is made for up to 30 seconds after an
// outage: ErrUnavailable at once. A call takes at most 30 seconds. It is never sent
// twice. Nothing keeps two callers from sending the same refresh token: that is
// theirs to do.
func (p *Provider) Refresh(ctx context.Context, have *Grant) (*Grant, error) {
	if p.cfg.Client == nil {
		return nil, errNoClient
	}
	if have == nil || have.Refresh == "" || have.Identity == nil {
		return nil, errors.New("the grant has no refresh token or no identity")
	}
	if have.Identity.Issuer != p.cfg.Issuer {
		return nil, fmt.Errorf("the grant is of issuer %.200q, not of this provider", have.Identity.Issuer)
	}
	before, err := parseToken(have.IDToken)
	if err != nil {
		return nil, fmt.Errorf("the grant's ID token: %w", err)
	}
	var g *Grant
	err = p.refreshes.call(ctx, func() (err error) {
		g, err = p.refresh(ctx, have, before.claims)
		return err
	})
	return g, err
}

// refresh is Refresh for a grant with everything that it needs. before are the
// claims of its ID token.
func (p *Provider) refresh(ctx context.Context, have *Grant, before authz.Claims) (*Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	m, err := p.discovered(ctx)
	if err != nil {
		return nil, err
	}
	asked := p.now()
	a, err := p.post(ctx, m.token, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {have.Refresh}})
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, renewalRefusal(a)
	}
	t, err := parseRenewal(a.body)
	if err != nil {
		return nil, err
	}
	g := *have
	g.Access, g.AccessExpires = t.access, asked.Add(t.lifetime)
	if t.refresh != "" {
		g.Refresh = t.refresh
	}
	if g.Kept, err = p.renewIdentity(ctx, &g, t, before, m.userinfo); err != nil {
		return nil, err
	}
	return &g, nil
}

// renewalRefusal reads an error answer (RFC 6749 section 5.2). Only invalid_grant
// is about the sign-in. The other codes are about us (a secret that was changed
// here first, say) or about this request: nobody is signed out for them.
func renewalRefusal(a *answer) error {
	switch code := errorCode(a); code {
	case "":
		return fmt.Errorf("%w: token endpoint answers %d", ErrUnavailable, a.status)
	case "invalid_grant":
		return fmt.Errorf("%w: token endpoint answers %d %q", ErrRejected, a.status, code)
	case "invalid_request", "invalid_scope":
		return fmt.Errorf("%w: token endpoint answers %d %q: %w", ErrUnavailable, a.status, code, errThisOne)
	default:
		return fmt.Errorf("%w: token endpoint answers %d %q", ErrUnavailable, a.status, code)
	}
}

// renewIdentity reads anew into g who it is. kept says why it left the identity as
// it was, though there is more to know. An error wraps ErrRejected.
func (p *Provider) renewIdentity(ctx context.Context, g *Grant, t *tokens, before authz.Claims, userinfo string) (kept, err error) {
	claims := before
	if t.id != "" {
		claims, err = p.verifyRenewedIDToken(ctx, t, g.Identity, before)
		if errors.Is(err, ErrUnavailable) {
			return err, nil
		}
		if err != nil {
			return nil, err
		}
		g.IDToken = t.id
	} else if !p.cfg.Client.Userinfo {
		return nil, nil // nothing was said
	}
	if p.cfg.Client.Userinfo {
		more, err := p.askUserinfo(ctx, userinfo, t.access, g.Identity.Subject)
		if errors.Is(err, errOtherSubject) {
			return nil, err
		}
		if err != nil {
			// Also when the new access token is refused: that is no word about the
			// sign-in, which the token endpoint has just confirmed.
			return err, nil
		}
		claims = p.cfg.Claims.merge(claims, more)
	}
	id, err := p.identity(withOriginals(claims, g.Identity.Claims))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	g.Identity = id
	return nil, nil
}
