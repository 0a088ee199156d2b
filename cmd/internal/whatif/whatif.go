// Package whatif decides requests that nobody has sent, by the very code that serves.
//
// It needs no secret and asks nobody: who sends a request is said by claims, which are
// taken for verified.
package whatif

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// Identify says whom a provider would recognise by claims, in a login or (bearer) by a token.
type Identify func(provider string, bearer bool, c authz.Claims) (*authz.Identity, error)

// Model is a configuration that can be asked. It is not safe for concurrent use.
type Model struct {
	cfg        *config.Config
	identify   Identify
	policy     *authz.Policy
	authorizer *authz.Authorizer
	who        *Credential // of the request that is being decided; nil: none
}

// Credential is what a request would carry.
type Credential struct {
	Provider string       // who issued it
	Bearer   bool         // a token; otherwise a session
	Claims   authz.Claims // taken for verified
}

// New does no I/O.
func New(cfg *config.Config, identify Identify) (*Model, error) {
	m := &Model{cfg: cfg, identify: identify}
	var err error
	m.policy, err = cfg.Policy(config.Sources{
		Login: func(provider string, _ bool, _ []string) authz.Authenticator {
			return &stand{m, provider, false, cfg.Prefix}
		},
		Bearer: func(provider string) authz.Authenticator { return &stand{m, provider, true, cfg.Prefix} },
	})
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	m.authorizer, err = authz.New(authz.Config{Policy: m.policy, Passage: cfg.Passage(), Endpoints: m.endpoint})
	return m, err
}

// Rules are the names of all rules, in their order.
func (m *Model) Rules() []string { return m.cfg.RuleNames() }

// Decide returns what would be decided about a request with a credential; nil: none.
func (m *Model) Decide(r Request, who *Credential) authz.Decision {
	m.who = who
	defer func() { m.who = nil }()
	request, err := r.canonical(who)
	if err != nil {
		return m.authorizer.Reject(request, err)
	}
	return m.authorizer.Authorize(context.Background(), request)
}

// endpoint stands for our own addresses: they are answered, whoever asks.
func (m *Model) endpoint(host, path string) authz.Endpoint {
	if path != m.cfg.Prefix && !strings.HasPrefix(path, m.cfg.Prefix+"/") {
		return nil
	}
	for _, h := range m.cfg.LoginHosts() {
		if h.Name == host {
			return func(context.Context, *authz.Request) authz.Response { return authz.Response{Status: 200} }
		}
	}
	return nil
}

// stand stands where an authenticator of a provider is when requests are real.
type stand struct {
	model    *Model
	provider string
	bearer   bool
	prefix   string
}

// Authenticate recognises the credential that the model was given, if it is of its kind.
func (s *stand) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	who := s.model.who
	if who == nil || who.Bearer != s.bearer {
		return nil, authz.ErrNoCredentials
	}
	if who.Provider != s.provider {
		if who.Bearer { // a token of somebody else is a bad one, a session of somebody else another cookie
			return nil, fmt.Errorf("%w: the token is of provider %q", authz.ErrBadCredentials, who.Provider)
		}
		return nil, authz.ErrNoCredentials
	}
	id, err := s.model.identify(s.provider, s.bearer, who.Claims)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authz.ErrBadCredentials, err)
	}
	named := *id
	if !s.bearer {
		named.Session = "whatif"
		named.Tokens = &authz.Tokens{Access: "ACCESS-TOKEN", ID: "ID-TOKEN"}
	}
	return &named, nil
}

// Challenge is as far as the answer shows it: where a login begins, or that a token is needed.
func (s *stand) Challenge(*authz.Request, error) authz.Challenge {
	if s.bearer {
		return authz.Challenge{WWWAuthenticate: "Bearer"}
	}
	return authz.Challenge{Location: s.prefix + "/start"}
}

// Unverified reads the claims of a token without checking its signature.
func Unverified(token string) (authz.Claims, error) {
	c, err := oidc.UnverifiedClaims(strings.TrimSpace(token))
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return c, nil
}

// IssuedBy finds the provider that would judge a token with these claims.
func IssuedBy(cfg *config.Config, c authz.Claims, bearer bool) (string, error) {
	iss, _ := c["iss"].(string)
	for _, p := range cfg.Providers {
		if bearer && p.Bearer != nil && (p.Issuer == iss || slices.Contains(p.Bearer.AlsoIssuers, iss)) || !bearer && p.Client != nil && p.Issuer == iss {
			return p.Name, nil
		}
	}
	return "", errors.New("no provider has the issuer of these claims: name one")
}
