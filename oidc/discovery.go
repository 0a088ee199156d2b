package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	discoveryInterval = time.Hour       // between readings of a document that was good
	discoveryQuiet    = 2 * time.Second // after a failure, requests do not try again
)

// metadata is what we use of a discovery document (OpenID Connect Discovery 1.0
// section 3), checked.
type metadata struct {
	authorization, token, jwks       string
	userinfo, endSession, revocation string // may be empty
	callbackIssuer                   bool   // RFC 9207 section 3
}

// ourParams are the authorization parameters that nobody else may set, neither
// the configuration nor the query of a provider's endpoint.
var ourParams = []string{
	"response_type", "response_mode", "client_id", "client_secret", "redirect_uri", "scope", "state", "nonce",
	"code_challenge", "code_challenge_method", "max_age", "request", "request_uri", "id_token_hint", "registration",
}

// parseMetadata reads a discovery document. go-oidc's reader would let a member
// "Issuer" or a second "issuer" replace the first; this one is exact.
//
// also are other names of the issuer. A document may be written under one of them
// while an issuer moves; not where people sign in, which depends on the one name.
func parseMetadata(body []byte, issuer string, also []string, client *ClientConfig) (*metadata, error) {
	doc, err := authz.ParseClaims(body)
	if err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	// Section 4.3: "MUST be identical", so no slash more or less.
	if got, _ := doc["issuer"].(string); got != issuer && (client != nil || !slices.Contains(also, got)) {
		return nil, fmt.Errorf("discovery document: issuer is %.200q, configured is %q; they must be the same to the letter", got, issuer)
	}
	m := &metadata{}
	plain := strings.HasPrefix(issuer, "http://")
	login := client != nil
	for _, e := range []struct {
		member   string
		to       *string
		required bool
	}{
		{"jwks_uri", &m.jwks, true},
		{"authorization_endpoint", &m.authorization, login},
		{"token_endpoint", &m.token, login},
		{"userinfo_endpoint", &m.userinfo, login && client.Userinfo},
		{"end_session_endpoint", &m.endSession, false},
		{"revocation_endpoint", &m.revocation, false}, // RFC 8414 section 2
	} {
		if *e.to, err = endpoint(doc, e.member, plain, e.required); err != nil {
			return nil, fmt.Errorf("discovery document: %w", err)
		}
	}
	if v, ok := doc["authorization_response_iss_parameter_supported"]; ok {
		if m.callbackIssuer, ok = v.(bool); !ok {
			return nil, errors.New("discovery document: authorization_response_iss_parameter_supported is not a boolean")
		}
	}
	return m, nil
}

func endpoint(doc authz.Claims, member string, plain, required bool) (string, error) {
	v, ok := doc[member]
	if !ok && !required {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s is missing or not a string", member)
	}
	u, err := checkAddress(s, plain)
	if err != nil {
		return "", fmt.Errorf("%s: %w", member, err)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", fmt.Errorf("%s: its query is malformed", member)
	}
	for name := range query {
		if slices.Contains(ourParams, name) {
			return "", fmt.Errorf("%s: its query sets %q, which is ours to set", member, name)
		}
	}
	return s, nil
}

// discovered returns what was read last, or tries once within ctx.
func (p *Provider) discovered(ctx context.Context) (*metadata, error) {
	if m := p.meta.Load(); m != nil {
		return m, nil
	}
	p.mu.Lock()
	failed, err := p.failed, p.failure
	p.mu.Unlock()
	if err != nil && p.now().Sub(failed) < discoveryQuiet {
		return nil, err
	}
	return p.discover(ctx)
}

// discover reads the discovery document; callers at the same time share one
// reading, which goes on when its first caller leaves. What was good stays in
// use when the new document is not.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	m, _, err := p.flight.join(ctx, p.readAndKeep)
	if err != nil {
		return nil, fmt.Errorf("discovery of %q: %w", p.cfg.Name, err)
	}
	return m, nil
}

// readAndKeep notes how the reading went, also when it panics.
func (p *Provider) readAndKeep(ctx context.Context) (m *metadata, err error) {
	err = errPanicked
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.failure = err; err != nil {
			p.failed = p.now()
			return
		}
		p.read = p.now()
		p.meta.Store(m)
	}()
	m, err = p.readMetadata(ctx)
	return m, err
}

func (p *Provider) readMetadata(ctx context.Context) (*metadata, error) {
	// Section 4: a terminating slash of the issuer is removed first.
	a, err := document(ctx, p.client, strings.TrimSuffix(p.cfg.Issuer, "/")+"/.well-known/openid-configuration", p.cfg.Token)
	if err != nil {
		return nil, err
	}
	m, err := parseMetadata(a.body, p.cfg.Issuer, p.cfg.AlsoIssuers, p.cfg.Client)
	if err != nil {
		return nil, unavailable(err)
	}
	return m, nil
}
