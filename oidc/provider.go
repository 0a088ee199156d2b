// Package oidc speaks OpenID Connect to providers: discovery, keys, code
// exchange, refresh, revocation, and the verification of tokens: those of logins,
// of bearers and of logouts.
//
// Whatever comes from outside goes through one strict reader: documents and
// tokens are bounded first, decoded with exact member names and without
// duplicates (authz.ParseClaims), and checked against the specification line by
// line. That is why go-oidc and x/oauth2 do not decode here: encoding/json lets
// a claim "SUB" replace "sub". They serve in the tests as a second opinion, and
// for PKCE.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnavailable means that the provider could not be reached or answered nonsense: try again later (503).
var ErrUnavailable = errors.New("provider unavailable")

// ErrRejected means that the provider, or our checks of its answer, refused this
// login (4xx page, start again), or that a sign-in which it speaks of is over.
var ErrRejected = errors.New("login rejected")

const defaultSkew = time.Minute

// ClientConfig is our registration at the provider.
type ClientConfig struct {
	ID         string
	Secret     func() (string, error) // asked at every use, so that a changed file counts; nil: public client
	AuthMethod string                 // "client_secret_basic" (default), "client_secret_post", "none"; public: "none"
	Scopes     []string               // "openid" is added
	Params     map[string]string      // extra authorization parameters; none of ours can be replaced
	Userinfo   bool                   // also ask the userinfo endpoint
	Algorithms []string               // of ID tokens; default RS256
	MaxAge     time.Duration          // the sign-in at the provider may be this old, in whole seconds; zero: not asked
}

// ProviderConfig is what a Provider works with.
type ProviderConfig struct {
	Name   string
	Issuer string        // https, or http on a loopback name
	Client *ClientConfig // nil: no logins
	HTTP   *http.Client  // its transport (CA, proxy) is used; New adds limits (size, time, no redirects); nil: http.DefaultTransport
	Claims ClaimNames
	// AlsoIssuers are other names of the issuer: without a Client, its discovery
	// document may be written under one of them (an issuer that moves).
	AlsoIssuers []string
	// Token is sent as bearer token when the discovery document and the keys are
	// read, and asked for anew each time; nil: none.
	Token      func() (string, error)
	TrustEmail bool             // treat an e-mail without email_verified as verified (documented, per provider)
	Skew       time.Duration    // default 60 s
	MaxStale   time.Duration    // how long keys serve after they were last read; default 24 h
	Now        func() time.Time // default time.Now
}

// Provider is one issuer: discovery, keys, code exchange, refresh, revocation,
// logout tokens. Safe for concurrent use.
type Provider struct {
	cfg       ProviderConfig
	client    *http.Client
	keys      *RemoteKeys
	meta      atomic.Pointer[metadata] // nil until read
	flight    flight[*metadata]
	refreshes *breaker
	revokes   *breaker // apart: that revoking fails says nothing about refreshing

	mu      sync.Mutex // guards the fields below
	read    time.Time  // of the last good discovery
	failed  time.Time
	failure error // of the last discovery; nil after a good one
}

// NewProvider does no I/O. The error joins every mistake.
func NewProvider(cfg ProviderConfig) (*Provider, error) {
	var errs []error
	if err := checkIssuer(cfg.Issuer); err != nil {
		errs = append(errs, err)
	}
	for _, also := range cfg.AlsoIssuers {
		if err := checkIssuer(also); err != nil {
			errs = append(errs, err)
		}
	}
	if cfg.Client != nil {
		client := *cfg.Client
		errs = append(errs, client.complete())
		cfg.Client = &client
	}
	cfg.Claims = cfg.Claims.withDefaults()
	if cfg.Skew == 0 {
		cfg.Skew = defaultSkew
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Skew < 0 {
		errs = append(errs, errors.New("the skew is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	p := &Provider{
		cfg: cfg, client: limited(cfg.HTTP),
		refreshes: newBreaker(cfg.Now, maxRefreshes), revokes: newBreaker(cfg.Now, maxRevokes),
	}
	p.keys = newRemoteKeys(RemoteKeysConfig{HTTP: cfg.HTTP, Token: cfg.Token, MaxStale: cfg.MaxStale, Now: cfg.Now}, func(ctx context.Context) (string, error) {
		m, err := p.discovered(ctx)
		if err != nil {
			return "", err
		}
		return m.jwks, nil
	})
	return p, nil
}

// checkIssuer applies OpenID Connect Discovery 1.0 section 2 to a configured issuer.
func checkIssuer(issuer string) error {
	_, err := checkAddress(issuer, true)
	switch {
	case err != nil:
		return fmt.Errorf("issuer %w", err)
	case strings.ContainsRune(issuer, '?'):
		return fmt.Errorf("issuer %q has a query", issuer)
	}
	return nil
}

// complete fills in defaults and finds mistakes.
func (c *ClientConfig) complete() error {
	var errs []error
	if c.ID == "" {
		errs = append(errs, errors.New("the client has no id"))
	}
	if c.AuthMethod == "" {
		c.AuthMethod = "client_secret_basic"
		if c.Secret == nil {
			c.AuthMethod = "none"
		}
	}
	if !slices.Contains([]string{"client_secret_basic", "client_secret_post", "none"}, c.AuthMethod) {
		errs = append(errs, fmt.Errorf("client authentication %q is unknown: client_secret_basic, client_secret_post or none", c.AuthMethod))
	} else if (c.AuthMethod == "none") != (c.Secret == nil) {
		errs = append(errs, fmt.Errorf("client authentication %q and the secret do not go together", c.AuthMethod))
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"RS256"} // OpenID Connect Core 1.0 section 3.1.3.7 (7)
	}
	errs = append(errs, checkAlgorithms(c.Algorithms))
	if !slices.Contains(c.Scopes, "openid") {
		c.Scopes = append([]string{"openid"}, c.Scopes...)
	}
	for _, s := range c.Scopes {
		if !scopeToken(s) {
			errs = append(errs, fmt.Errorf("%q is not one scope (RFC 6749 section 3.3)", s))
		}
	}
	for name := range c.Params {
		if name == "" || slices.Contains(ourParams, name) {
			errs = append(errs, fmt.Errorf("authorization parameter %q can not be set", name))
		}
	}
	if c.MaxAge < 0 || c.MaxAge%time.Second != 0 {
		errs = append(errs, errors.New("the maximum age is not a number of whole seconds"))
	}
	return errors.Join(errs...)
}

func scopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return s != ""
}

// Run keeps discovery and keys fresh until ctx ends, then returns nil. It
// survives the provider being down at start, and keeps what was good last.
func (p *Provider) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		keep(ctx, func(ctx context.Context) (time.Duration, error) {
			_, err := p.discover(ctx)
			return discoveryInterval, err
		})
	})
	wg.Go(func() { _ = p.keys.Run(ctx) })
	wg.Wait()
	return nil
}

// Name is the provider's name in the configuration.
func (p *Provider) Name() string { return p.cfg.Name }

// Issuer is the provider's issuer identifier.
func (p *Provider) Issuer() string { return p.cfg.Issuer }

// ClientID is our name at the provider, or empty without a login client.
func (p *Provider) ClientID() string {
	if p.cfg.Client == nil {
		return ""
	}
	return p.cfg.Client.ID
}

// Keys are the keys that the provider signs with.
func (p *Provider) Keys() *RemoteKeys { return p.keys }

// Ready reports whether discovery and keys have been read.
func (p *Provider) Ready() bool { return p.meta.Load() != nil && p.keys.Current() != nil }

// Status says how a provider is doing, for operators.
type Status struct {
	Discovered time.Time // when the discovery document was last read well; zero: never
	Discovery  error     // of the last reading; nil: good, or not yet tried
	Keys       KeysStatus
}

// Status does no I/O.
func (p *Provider) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Discovered: p.read, Discovery: p.failure, Keys: p.keys.Status()}
}

func (p *Provider) now() time.Time { return p.cfg.Now() }
