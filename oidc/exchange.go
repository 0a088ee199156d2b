package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const maxCode = 4 << 10 // bytes of an authorization code

// Grant is what the provider gave for a sign-in, by Exchange or, later, by Refresh.
type Grant struct {
	Identity                 *authz.Identity // Tokens nil; Expires zero: a session has limits of its own
	Access, Refresh, IDToken string          // Refresh may be empty: the provider gives none
	AccessExpires            time.Time       // zero, only after Exchange: the provider did not say
	ProviderSession          string          // sid

	// Kept says why Refresh left Identity as it was, though the provider has more to
	// say: what it said cannot be checked now. nil: Identity is all that it says.
	Kept error
}

// Exchange redeems a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5) and
// makes every check of OpenID Connect Core 1.0 section 3.1.3.7, and of userinfo
// where configured. A code is redeemed once, never again after a time-out.
// Nothing is excused at a login: an answer that is odd anywhere is no answer. Only
// expires_in may be missing or zero; AccessExpires is zero then.
// Errors wrap ErrUnavailable or ErrRejected.
func (p *Provider) Exchange(ctx context.Context, code, verifier, redirectURI, nonce string) (*Grant, error) {
	if p.cfg.Client == nil {
		return nil, errNoClient
	}
	if code == "" || len(code) > maxCode || !pkceVerifier(verifier) || redirectURI == "" || nonce == "" {
		return nil, fmt.Errorf("%w: the code, or what belongs to it, is missing or malformed", ErrRejected)
	}
	m, err := p.discovered(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	asked := p.now()
	a, err := p.post(ctx, m.token, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {redirectURI},
		"code_verifier": {verifier},
	})
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, refusal("token endpoint", a)
	}
	tokens, err := parseTokens(a.body)
	if err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, err)
	}
	claims, err := p.verifyIDToken(ctx, tokens.id, nonce, tokens.access)
	if err != nil {
		return nil, err
	}
	g := &Grant{Access: tokens.access, Refresh: tokens.refresh, IDToken: tokens.id}
	if tokens.lifetime > 0 {
		g.AccessExpires = asked.Add(tokens.lifetime)
	}
	if sid, ok := optionalString(claims, "sid"); ok && len(sid) <= maxName {
		g.ProviderSession = sid
	} else {
		return nil, fmt.Errorf("%w: ID token: sid is malformed", ErrRejected)
	}
	if p.cfg.Client.Userinfo {
		sub, _ := claims["sub"].(string) // verifyIDToken has looked
		more, err := p.askUserinfo(ctx, m.userinfo, tokens.access, sub)
		if err != nil {
			return nil, err
		}
		claims = p.cfg.Claims.merge(claims, more)
	}
	if g.Identity, err = p.identity(claims); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	return g, nil
}

func (p *Provider) identity(c authz.Claims) (*authz.Identity, error) {
	id, err := p.cfg.Claims.identity(c, p.cfg.TrustEmail)
	if err != nil {
		return nil, err
	}
	id.Provider, id.Issuer = p.cfg.Name, p.cfg.Issuer
	if id.Subject, err = subject(c, maxIDTokenSubject); err != nil {
		return nil, err
	}
	id.Audience, err = audience(c)
	return id, err
}
