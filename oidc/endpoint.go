package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// post sends a form to the token or revocation endpoint, authenticated as the
// configuration says (RFC 7009 section 2.1: the same for both). x/oauth2 would guess the method, and decode loosely. Errors
// wrap ErrUnavailable; every status but a redirect is an answer.
func (p *Provider) post(ctx context.Context, endpoint string, form url.Values) (*answer, error) {
	c := p.cfg.Client
	secret := ""
	if c.Secret != nil {
		var err error
		if secret, err = c.Secret(); err != nil {
			return nil, fmt.Errorf("%w: client secret: %w", ErrUnavailable, err)
		}
		if secret == "" {
			return nil, fmt.Errorf("%w: the client secret is empty", ErrUnavailable)
		}
	}
	if c.AuthMethod != "client_secret_basic" {
		form.Set("client_id", c.ID)
	}
	if c.AuthMethod == "client_secret_post" {
		form.Set("client_secret", secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, unavailable(err)
	}
	// A code or refresh token must not be sent twice by the transport either.
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.AuthMethod == "client_secret_basic" {
		// RFC 6749 section 2.3.1: both are form-encoded first.
		req.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(secret))
	}
	return call(p.client, req)
}

// refusal tells a refusal (RFC 6749 section 5.2) from an outage. The error code
// is shown to operators; the description is not, it may repeat what we sent.
func refusal(from string, a *answer) error {
	code := errorCode(a)
	if code == "" {
		return fmt.Errorf("%w: %s answers %d", ErrUnavailable, from, a.status)
	}
	return fmt.Errorf("%w: %s answers %d %q", ErrRejected, from, a.status, code)
}

// errorCode is the reason of a refusal, or empty: an outage, or not the provider
// speaking.
func errorCode(a *answer) string {
	if a.status < 400 || a.status > 499 || a.status == http.StatusRequestTimeout || a.status == http.StatusTooManyRequests {
		return ""
	}
	doc, err := authz.ParseClaims(a.body)
	if err != nil {
		return ""
	}
	code, _ := doc["error"].(string)
	if len(code) > 100 || code == "server_error" || code == "temporarily_unavailable" {
		return ""
	}
	return code
}
