package oidc

import (
	"context"
	"net/http"
	"net/url"
)

// maxRevokes bounds the revocations at one provider under way at a time.
const maxRevokes = 100

// Revoke tells the provider that a token of an ended sign-in is needed no more (RFC
// 7009). A refresh token takes its access tokens along (section 2.1). hint is
// "refresh_token", "access_token" or empty. It is nil when the provider has no
// revocation endpoint, and for a token that it does not know (section 2.2). Errors
// wrap ErrUnavailable, or ErrRejected when the provider refuses; nothing is over for
// either. The limits are those of Refresh.
func (p *Provider) Revoke(ctx context.Context, token, hint string) error {
	if p.cfg.Client == nil {
		return errNoClient
	}
	if token == "" {
		return nil
	}
	return p.revokes.call(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
		defer cancel()
		m, err := p.discovered(ctx)
		if err != nil || m.revocation == "" {
			return err
		}
		form := url.Values{"token": {token}}
		if hint != "" {
			form.Set("token_type_hint", hint)
		}
		a, err := p.post(ctx, m.revocation, form)
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return refusal("revocation endpoint", a)
		}
		return nil
	})
}
