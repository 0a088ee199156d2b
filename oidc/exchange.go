package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	maxIssued   = 64 << 10                  // bytes of an access or refresh token
	maxLifetime = 10 * 365 * 24 * time.Hour // of an access token; more is nonsense
	maxCode     = 4 << 10                   // bytes of an authorization code
)

// Grant is the result of a code exchange.
type Grant struct {
	Identity                 *authz.Identity // Tokens nil; Expires zero: a session has limits of its own
	Access, Refresh, IDToken string
	AccessExpires            time.Time // zero: the provider did not say
	ProviderSession          string    // sid
}

// Exchange redeems a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5) and
// makes every check of OpenID Connect Core 1.0 section 3.1.3.7, and of userinfo
// where configured. A code is redeemed once, never again after a time-out.
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
	tokens, err := p.askTokens(ctx, m.token, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {redirectURI},
		"code_verifier": {verifier},
	})
	if err != nil {
		return nil, err
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
		more, err := p.askUserinfo(ctx, m.userinfo, tokens.access, claims["sub"])
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

// askTokens sends one request to the token endpoint, authenticated as the
// configuration says. x/oauth2 would guess the method, and decode loosely.
func (p *Provider) askTokens(ctx context.Context, endpoint string, form url.Values) (*tokens, error) {
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
	a, err := call(p.client, req)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, refusal("token endpoint", a)
	}
	t, err := parseTokens(a.body)
	if err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, err)
	}
	return t, nil
}

// refusal tells a refusal (RFC 6749 section 5.2) from an outage. The error code
// is shown to operators; the description is not, it may repeat what we sent.
func refusal(from string, a *answer) error {
	outage := fmt.Errorf("%w: %s answers %d", ErrUnavailable, from, a.status)
	if a.status < 400 || a.status > 499 || a.status == http.StatusRequestTimeout || a.status == http.StatusTooManyRequests {
		return outage
	}
	doc, err := authz.ParseClaims(a.body)
	if err != nil {
		return outage // not the provider speaking
	}
	code, _ := doc["error"].(string)
	if code == "" || len(code) > 100 || code == "server_error" || code == "temporarily_unavailable" {
		return outage
	}
	return fmt.Errorf("%w: %s answers %d %q", ErrRejected, from, a.status, code)
}

// tokens are a token response (RFC 6749 section 5.1, OpenID Connect Core 1.0
// section 3.1.3.3), checked.
type tokens struct {
	access, refresh, id string        // refresh may be empty
	lifetime            time.Duration // of access; zero: unknown
}

func parseTokens(body []byte) (*tokens, error) {
	doc, err := authz.ParseClaims(body)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	t := &tokens{}
	if typ, _ := doc["token_type"].(string); lower(typ) != "bearer" {
		return nil, errors.New("token_type is not Bearer")
	}
	for _, m := range []struct {
		name     string
		to       *string
		required bool
		limit    int
	}{
		{"access_token", &t.access, true, maxIssued},
		{"refresh_token", &t.refresh, false, maxIssued},
		{"id_token", &t.id, true, maxToken},
	} {
		s, ok := optionalString(doc, m.name)
		if !ok || m.required && s == "" {
			return nil, fmt.Errorf("%s is missing or not a string", m.name)
		}
		if len(s) > m.limit || !visible(s) {
			return nil, fmt.Errorf("%s is larger than %d KiB or not visible ASCII", m.name, m.limit>>10)
		}
		*m.to = s
	}
	t.lifetime, err = expiresIn(doc)
	return t, err
}

// expiresIn takes a number of seconds. Zero says as little as nothing.
func expiresIn(doc authz.Claims) (time.Duration, error) {
	v, there := doc["expires_in"]
	if !there {
		return 0, nil
	}
	n, _ := v.(json.Number)
	seconds, err := n.Int64()
	if err != nil || seconds < 0 || seconds > int64(maxLifetime/time.Second) {
		return 0, errors.New("expires_in is not a sane number of seconds")
	}
	return time.Duration(seconds) * time.Second, nil
}

// visible accepts VSCHAR (RFC 6749 appendix A), which tokens are made of.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
