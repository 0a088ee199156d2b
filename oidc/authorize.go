package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// errNoClient is a mistake of the caller: such a provider takes no logins.
var errNoClient = errors.New("the provider has no login client")

// AuthRequest is one authorization request.
type AuthRequest struct {
	RedirectURI, State, Nonce string
	Verifier                  string // PKCE; S256 is sent
	LoginAgain                bool   // prompt=login
}

// AuthorizationURL builds the address to send the browser to (OpenID Connect
// Core 1.0 section 3.1.2.1, RFC 7636 section 4.3). PKCE with S256 is always
// sent, whatever the provider says it supports. The error wraps ErrUnavailable
// while discovery has not been read; it tries once, within ctx.
func (p *Provider) AuthorizationURL(ctx context.Context, a AuthRequest) (string, error) {
	if p.cfg.Client == nil {
		return "", errNoClient
	}
	if a.RedirectURI == "" || a.State == "" || a.Nonce == "" || !pkceVerifier(a.Verifier) {
		return "", errors.New("an authorization request needs redirect address, state, nonce and a PKCE verifier of 43 to 128 characters")
	}
	m, err := p.discovered(ctx)
	if err != nil {
		return "", err
	}
	v := url.Values{}
	for name, value := range p.cfg.Client.Params {
		v.Set(name, value)
	}
	for name, value := range map[string]string{
		"response_type":         "code",
		"client_id":             p.cfg.Client.ID,
		"redirect_uri":          a.RedirectURI,
		"scope":                 strings.Join(p.cfg.Client.Scopes, " "),
		"state":                 a.State,
		"nonce":                 a.Nonce,
		"code_challenge":        oauth2.S256ChallengeFromVerifier(a.Verifier),
		"code_challenge_method": "S256",
	} {
		v.Set(name, value)
	}
	if p.cfg.Client.MaxAge > 0 {
		v.Set("max_age", strconv.FormatInt(int64(p.cfg.Client.MaxAge/time.Second), 10))
	}
	if a.LoginAgain {
		v.Set("prompt", "login")
	}
	return withQuery(m.authorization, v), nil
}

// pkceVerifier applies RFC 7636 section 4.1.
func pkceVerifier(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("-._~", c) < 0 {
			return false
		}
	}
	return len(s) >= 43 && len(s) <= 128
}

// withQuery adds parameters to an endpoint, which may have some of its own
// (RFC 6749 section 3.1).
func withQuery(endpoint string, v url.Values) string {
	switch {
	case !strings.ContainsRune(endpoint, '?'):
		return endpoint + "?" + v.Encode()
	case strings.HasSuffix(endpoint, "?"), strings.HasSuffix(endpoint, "&"):
		return endpoint + v.Encode()
	}
	return endpoint + "&" + v.Encode()
}

// CheckIssuer applies RFC 9207 section 2.4 to the iss parameter of a callback,
// success or error (n is how many there were). An error wraps ErrRejected, or
// ErrUnavailable while discovery has not said whether the parameter is due.
func (p *Provider) CheckIssuer(iss string, n int) error {
	switch {
	case n > 1:
		return fmt.Errorf("%w: the callback has %d iss parameters", ErrRejected, n)
	case n == 1 && iss != p.cfg.Issuer: // simple string comparison
		return fmt.Errorf("%w: the callback comes from issuer %.200q", ErrRejected, iss)
	case n == 1:
		return nil
	}
	m := p.meta.Load()
	if m == nil {
		return fmt.Errorf("%w: discovery of %q has not been read", ErrUnavailable, p.cfg.Name)
	}
	if m.callbackIssuer {
		return fmt.Errorf("%w: the callback has no iss parameter, which this provider always sends", ErrRejected)
	}
	return nil
}

// EndSessionURL is the RP-initiated logout address (OpenID Connect RP-Initiated
// Logout 1.0 section 2), or "" when the provider has none or discovery is
// unread. Empty arguments are left out.
func (p *Provider) EndSessionURL(idTokenHint, postLogoutRedirectURI, state string) string {
	m := p.meta.Load()
	if m == nil || m.endSession == "" {
		return ""
	}
	v := url.Values{}
	for name, value := range map[string]string{
		"client_id":                p.ClientID(),
		"id_token_hint":            idTokenHint,
		"post_logout_redirect_uri": postLogoutRedirectURI,
		"state":                    state,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return withQuery(m.endSession, v)
}
