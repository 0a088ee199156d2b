// Package oidctest is an OpenID Provider for tests and the demo, with faults
// that can be switched on.
//
// A Provider is an http.Handler. Most tests want
//
//	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
//
// which serves it on a loopback port under [Provider.Issuer]. Without a
// configuration it knows the users alice, bob and root, and the client "mesh"
// (secret "mesh-secret", any redirect address).
//
// Every answer can be changed, once with [Provider.Next] or until further
// notice with [Provider.Always], by a [Script]; ready-made ones are [Down],
// [Status], [Slow], [Garbage], [Huge], [Redirect], [Claim] and their neighbours:
//
//	idp.Next(oidctest.Token, oidctest.Claim("nonce", "other"))
//	idp.Always(oidctest.JWKS, oidctest.Down)
//
// [Provider.Hits] counts the requests of each endpoint, [Provider.Grants] those for
// tokens by grant type, [Provider.Reused] the refresh tokens that came twice,
// [Provider.Sign] mints
// arbitrary tokens, [Provider.Rotate] and [Provider.Retire] move the signing
// keys, [Provider.End] ends a sign-in and tells its client, and [Provider.Secrets] lists everything that must never show up in a log.
//
// It is strict where a client is expected to behave: PKCE with S256 is
// demanded, codes live a minute and work once, redirect addresses are compared
// exactly. It keeps everything in memory and is not fit for real users.
package oidctest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// User is somebody who can sign in.
type User struct {
	Subject, Email, Name, PreferredUsername string
	EmailVerified                           bool
	Groups                                  []string
	Claims                                  map[string]any // extra, or replacing; a nil value removes
}

// Client is a registered relying party.
type Client struct {
	ID     string
	Secret string // empty: a public client, which authenticates with its client_id alone
	// RedirectURIs are compared exactly. Empty: any address is accepted, which
	// suits tests that learn their own port late.
	RedirectURIs []string
	// PostLogoutRedirectURIs are compared exactly. Empty: any.
	PostLogoutRedirectURIs []string
	// BackchannelLogoutURI is told when a sign-in ends (OpenID Connect Back-Channel
	// Logout 1.0). Empty: the client is not told.
	BackchannelLogoutURI string
	// Audience makes the client's access tokens JWTs (RFC 9068) with this aud.
	// Empty: they are opaque, except those of client_credentials, whose aud is
	// then the client itself.
	Audience []string
	// Claims are added to the access tokens that client_credentials gives.
	Claims map[string]any
	// MachineOnly refuses everything but client_credentials.
	MachineOnly bool
	// AccessTTL is the life of the client's access and ID tokens; zero: the Config's.
	AccessTTL time.Duration
}

// Config describes a Provider. The zero value works.
type Config struct {
	// Issuer is the identifier, without a trailing slash. Empty: set by Serve
	// and Start, else taken from the first request.
	Issuer  string
	Users   []User   // nil: DefaultUsers
	Clients []Client // nil: DefaultClients
	// AutoLogin is the subject that is signed in without a page; empty: a page
	// asks which user. Next and Always on Authorize can change it per request.
	AutoLogin string
	Alg       string           // of what is signed: RS256 (default) or ES256
	CodeTTL   time.Duration    // default 1 min
	AccessTTL time.Duration    // default 5 min; also the life of ID tokens
	Now       func() time.Time // default time.Now
	// OmitIssParameter switches RFC 9207 off: no iss in callbacks, none promised.
	OmitIssParameter bool
	// UserinfoOnly names claims that appear at the userinfo endpoint and not in ID tokens.
	UserinfoOnly []string
	// KeepRefreshTokens switches rotation off: a refresh token works until revoked.
	KeepRefreshTokens bool
	// AlwaysRefresh gives a refresh token even without the scope offline_access.
	AlwaysRefresh bool
}

// DefaultUsers are the users of a Config without any: alice (staff), bob
// (staff, on-call) and root (admins), all with verified addresses at example.com.
func DefaultUsers() []User {
	return []User{
		{Subject: "alice", Email: "alice@example.com", EmailVerified: true, Name: "Alice Archer", PreferredUsername: "alice", Groups: []string{"staff"}},
		{Subject: "bob", Email: "bob@example.com", EmailVerified: true, Name: "Bob Baker", PreferredUsername: "bob", Groups: []string{"staff", "on-call"}},
		{Subject: "root", Email: "root@example.com", EmailVerified: true, Name: "Root Rivers", PreferredUsername: "root", Groups: []string{"admins"}},
	}
}

// DefaultClients are the clients of a Config without any: "mesh" with secret
// "mesh-secret" for logins and "machine" with secret "machine-secret", whose
// client_credentials tokens have the audience "api".
func DefaultClients() []Client {
	return []Client{
		{ID: "mesh", Secret: "mesh-secret"},
		{ID: "machine", Secret: "machine-secret", Audience: []string{"api"}, MachineOnly: true},
	}
}

// Provider is an OpenID Provider. It is safe for concurrent use.
type Provider struct {
	cfg Config

	mu       sync.Mutex // guards all below
	issuer   string
	users    []User
	clients  map[string]Client
	keys     []*key
	codes    map[string]*code
	signIns  []*grant // oldest first
	notices  []Notice
	refresh  map[string]*refresh
	access   map[string]*access // opaque and JWT access tokens of users
	secrets  []string
	hits     map[Endpoint]int
	grants   map[string]int // requests to the token endpoint, by grant_type
	reused   int
	requests map[Endpoint][]*http.Request
	next     map[Endpoint][]Script
	always   map[Endpoint]Script
}

// New makes a Provider with one RS256 and one ES256 key.
func New(cfg Config) (*Provider, error) {
	if cfg.Users == nil {
		cfg.Users = DefaultUsers()
	}
	if cfg.Clients == nil {
		cfg.Clients = DefaultClients()
	}
	if cfg.Alg == "" {
		cfg.Alg = "RS256"
	}
	if cfg.CodeTTL == 0 {
		cfg.CodeTTL = time.Minute
	}
	if cfg.AccessTTL == 0 {
		cfg.AccessTTL = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provider{
		cfg: cfg, issuer: cfg.Issuer, users: slices.Clone(cfg.Users),
		clients: map[string]Client{}, codes: map[string]*code{}, refresh: map[string]*refresh{}, access: map[string]*access{},
		hits: map[Endpoint]int{}, grants: map[string]int{}, requests: map[Endpoint][]*http.Request{}, next: map[Endpoint][]Script{}, always: map[Endpoint]Script{},
	}
	for _, c := range cfg.Clients {
		if c.ID == "" || c.MachineOnly && c.Secret == "" {
			return nil, fmt.Errorf("client %q needs an ID, and a secret when it is a machine", c.ID)
		}
		p.SetClient(c)
	}
	if cfg.AutoLogin != "" && p.user(cfg.AutoLogin) == nil {
		return nil, fmt.Errorf("AutoLogin: no user with subject %q", cfg.AutoLogin)
	}
	if cfg.Alg != "RS256" && cfg.Alg != "ES256" {
		return nil, fmt.Errorf("Alg %q: RS256 or ES256", cfg.Alg)
	}
	p.Rotate("RS256")
	p.Rotate("ES256")
	return p, nil
}

// Issuer returns the identifier, or "" while it is not known.
func (p *Provider) Issuer() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issuer
}

// SetUser adds a user or replaces the one with the same subject. What is
// already granted follows at the next refresh or userinfo call.
func (p *Provider) SetUser(u User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = slices.DeleteFunc(p.users, func(v User) bool { return v.Subject == u.Subject })
	p.users = append(p.users, u)
}

// RemoveUser forgets a user: refreshing and userinfo fail from now on.
func (p *Provider) RemoveUser(subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = slices.DeleteFunc(p.users, func(v User) bool { return v.Subject == subject })
}

// SetClient adds a client or replaces the one with the same ID: to give it a new
// secret, or an address that was not known before.
func (p *Provider) SetClient(c Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c.ID] = c
	if c.Secret != "" {
		p.secret(c.Secret)
	}
}

// ttl is the life of a client's tokens.
func (p *Provider) ttl(c Client) time.Duration {
	if c.AccessTTL > 0 {
		return c.AccessTTL
	}
	return p.cfg.AccessTTL
}

// user is called with mu held, or before p is shared.
func (p *Provider) user(subject string) *User {
	for i := range p.users {
		if p.users[i].Subject == subject {
			u := p.users[i]
			return &u
		}
	}
	return nil
}

// Secrets returns everything secret that was minted or received so far: client
// secrets, codes, tokens, PKCE verifiers. None of it belongs in any log.
func (p *Provider) Secrets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.secrets)
	slices.Sort(out)
	return slices.Compact(out)
}

// secret records s and returns it; called with mu held.
func (p *Provider) secret(s string) string {
	p.secrets = append(p.secrets, s)
	return s
}

// claims are what user says about himself to a client with scope.
func (u User) claims(scope string, leaveOut []string) map[string]any {
	out := map[string]any{"sub": u.Subject}
	scopes := strings.Fields(scope)
	if slices.Contains(scopes, "email") && u.Email != "" {
		out["email"], out["email_verified"] = u.Email, u.EmailVerified
	}
	if slices.Contains(scopes, "profile") {
		put(out, "name", u.Name)
		put(out, "preferred_username", u.PreferredUsername)
	}
	// Groups have no standard scope; most providers give them to everybody.
	if len(u.Groups) > 0 {
		out["groups"] = u.Groups
	}
	merge(out, u.Claims)
	for _, name := range leaveOut {
		delete(out, name)
	}
	return out
}

func put(m map[string]any, name, value string) {
	if value != "" {
		m[name] = value
	}
}

// merge copies extra into m; a nil value removes.
func merge(m, extra map[string]any) {
	for k, v := range extra {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
}

// ServeHTTP answers every endpoint below the issuer's path.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := p.strip(r)
	ep, known := endpoints[path]
	if !ok || !known {
		http.NotFound(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	formErr := r.ParseForm()
	script := p.arrive(ep, r)
	a := &Answer{Endpoint: ep, Request: r, Status: http.StatusOK, Header: http.Header{"Cache-Control": {"no-store"}}, JSON: map[string]any{}}
	if formErr != nil {
		a.fail(http.StatusBadRequest, "invalid_request", "the form cannot be read")
	} else {
		p.handle(ep, a)
	}
	if script != nil {
		script(a)
	}
	p.send(w, a)
}

func (p *Provider) handle(ep Endpoint, a *Answer) {
	switch ep {
	case Discovery:
		a.JSON = p.metadata()
	case JWKS:
		a.JSON = p.jwks()
	case Authorize:
		p.authorize(a)
	case Token:
		p.token(a)
	case Userinfo:
		p.userinfo(a)
	case EndSession:
		p.endSession(a)
	case Revocation:
		p.revocation(a)
	}
}

// strip returns the path below the issuer's. The first request names the issuer
// when nobody else did.
func (p *Provider) strip(r *http.Request) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.issuer == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		p.issuer = scheme + "://" + r.Host
	}
	u, err := url.Parse(p.issuer)
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(r.URL.Path, u.Path)
}

// metadata is the discovery document (OpenID Connect Discovery 1.0 section 3).
func (p *Provider) metadata() map[string]any {
	iss := p.Issuer()
	m := map[string]any{
		"issuer":                                iss,
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query"},
		"grant_types_supported":                 []string{"authorization_code", "refresh_token", "client_credentials"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "none"},
		"code_challenge_methods_supported":      []string{"S256"},
		"backchannel_logout_supported":          true,
		"backchannel_logout_session_supported":  true,
		"scopes_supported":                      []string{"openid", "email", "profile", "offline_access"},
		"claims_supported":                      []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "sid", "email", "email_verified", "name", "preferred_username", "groups"},
	}
	if !p.cfg.OmitIssParameter {
		m["authorization_response_iss_parameter_supported"] = true
	}
	for path, ep := range endpoints {
		if member := metadataMember[ep]; member != "" {
			m[member] = iss + path
		}
	}
	return m
}

var metadataMember = map[Endpoint]string{
	JWKS: "jwks_uri", Authorize: "authorization_endpoint", Token: "token_endpoint",
	Userinfo: "userinfo_endpoint", EndSession: "end_session_endpoint", Revocation: "revocation_endpoint",
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("oidctest: a claim or member that JSON cannot hold: %v", err))
	}
	return b
}
