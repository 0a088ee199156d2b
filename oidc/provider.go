// Package oidc speaks OpenID Connect to providers.
package oidc

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// ErrUnavailable means that the provider could not be reached or answered nonsense: try again later (503).
var ErrUnavailable = errors.New("provider unavailable")

// ErrRejected means that the provider, or our checks of its answer, refused this login (4xx page, start again).
var ErrRejected = errors.New("login rejected")

// ClaimNames says where identities are found in claims (JSON Pointer or member name).
type ClaimNames struct {
	User              string // default "sub"
	Email             string // default "email"
	EmailVerified     string // default "email_verified"
	PreferredUsername string // default "preferred_username"
	Groups            string // default "groups"
}

// ClientConfig is our registration at the provider.
type ClientConfig struct {
	ID         string
	Secret     func() (string, error) // nil: public client
	AuthMethod string                 // "client_secret_basic" (default), "client_secret_post", "none"
	Scopes     []string               // "openid" is added
	Params     map[string]string      // extra authorization parameters; none of ours can be replaced
	Userinfo   bool
	Algorithms []string      // of ID tokens; default RS256
	MaxAge     time.Duration // zero: not asked
}

// ProviderConfig is what a Provider works with.
type ProviderConfig struct {
	Name       string
	Issuer     string
	Client     *ClientConfig // nil: no logins
	HTTP       *http.Client  // with CA; New adds limits (size, time, no redirects)
	Claims     ClaimNames
	TrustEmail bool          // treat an e-mail without email_verified as verified (documented, per provider)
	Skew       time.Duration // default 60 s
	Now        func() time.Time
}

// Provider is one issuer: discovery, keys, code exchange. Safe for concurrent use.
type Provider struct{ cfg ProviderConfig }

// NewProvider does no I/O.
func NewProvider(cfg ProviderConfig) (*Provider, error) { panic("contract") }

// Run keeps discovery and keys fresh until ctx ends. It survives the provider being down at start.
func (p *Provider) Run(ctx context.Context) error { panic("contract") }

func (p *Provider) Name() string   { return p.cfg.Name }
func (p *Provider) Issuer() string { return p.cfg.Issuer }

// ClientID is our name at the provider, or empty without a login client.
func (p *Provider) ClientID() string {
	if p.cfg.Client == nil {
		return ""
	}
	return p.cfg.Client.ID
}

func (p *Provider) Keys() *RemoteKeys { panic("contract") }

// Ready reports whether discovery and keys have been read.
func (p *Provider) Ready() bool { panic("contract") }

// AuthRequest is one authorization request.
type AuthRequest struct {
	RedirectURI, State, Nonce string
	Verifier                  string // PKCE; S256 is sent
	LoginAgain                bool   // prompt=login
}

// AuthorizationURL builds the address to send the browser to. ErrUnavailable while discovery has not been read
// (it may try once, within ctx).
func (p *Provider) AuthorizationURL(ctx context.Context, a AuthRequest) (string, error) {
	panic("contract")
}

// CheckIssuer applies RFC 9207 to the iss parameter of a callback (n is how many there were).
func (p *Provider) CheckIssuer(iss string, n int) error { panic("contract") }

// Grant is the result of a code exchange.
type Grant struct {
	Identity                 *authz.Identity // Tokens nil
	Access, Refresh, IDToken string
	AccessExpires            time.Time
	ProviderSession          string // sid
}

// Exchange redeems a code and makes every check of OIDC Core 3.1.3.7 (and userinfo where configured).
// Errors wrap ErrUnavailable or ErrRejected.
func (p *Provider) Exchange(ctx context.Context, code, verifier, redirectURI, nonce string) (*Grant, error) {
	panic("contract")
}

// EndSessionURL is the RP-initiated logout address, or "" when the provider has none or discovery is unread.
func (p *Provider) EndSessionURL(idTokenHint, postLogoutRedirectURI, state string) string {
	panic("contract")
}

// RemoteKeys is a cached JWKS.
type RemoteKeys struct{ _ int }
