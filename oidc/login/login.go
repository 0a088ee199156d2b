// Package login signs browsers in: start, callback, and the session cookie.
//
// A login that has not finished writes nothing on the server: it lives in a
// sealed state parameter and a sealed cookie that only together redeem a code.
// A finished login creates a record and gives the browser one sealed cookie, bound
// to host, provider, issuer and client. The browser never holds a token.
package login

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// Host is an application host that signs in by itself.
type Host struct {
	Name      string   // as in authz.Request.Host
	Origin    string   // https://app.example.com, or http://app.localhost:10000
	Providers []string // names of providers that its rules use, in order
}

// Config is what a Login works with.
type Config struct {
	Prefix       string // "/oauth2"
	Hosts        []Host
	Providers    []*oidc.Provider
	Sessions     *session.Manager
	Ring         *seal.Ring
	CheckTimeout time.Duration // how long an answer may take before the "still working" page; default 800 ms
	ReplacedLife time.Duration // how long the session that a new login replaces lives on; default 5 s
	Log          *slog.Logger  // events such as signed_in, login_refused: named scalars, never a secret; nil: none
	Now          func() time.Time
}

// Login serves the endpoints and recognises sessions. It is safe for concurrent use.
type Login struct {
	cfg      Config
	hosts    map[string]*site
	states   *seal.Box // the state parameter: a stranger makes as many as he likes
	pending  *seal.Box // cookies of pending logins, likewise
	sessions *seal.Box // session cookies
	flights  *flights
	detached sync.WaitGroup // code exchanges, and sessions about to be ended
	leave    sync.Once      // closes leaving
	leaving  chan struct{}
}

// site is a host with its providers.
type site struct {
	Host
	gates []*gate
}

// gate is one provider on one host.
type gate struct {
	provider    *oidc.Provider
	host        string
	redirectURI string
	cookie      string // name of the session cookie
	bind        string // what the session cookie is bound to
	challenge   string // WWW-Authenticate
	start       string // address that starts a login, up to and with "rd="
}

// New checks cfg and prepares everything. It does no I/O.
func New(cfg Config) (*Login, error) {
	if cfg.Sessions == nil || cfg.Ring == nil {
		return nil, errors.New("login: Sessions and Ring are required")
	}
	if !validPrefix(cfg.Prefix) {
		return nil, fmt.Errorf("login: prefix %q is not a plain path such as /oauth2", cfg.Prefix)
	}
	if cfg.CheckTimeout <= 0 {
		cfg.CheckTimeout = 800 * time.Millisecond
	}
	if cfg.ReplacedLife <= 0 {
		cfg.ReplacedLife = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Login{
		cfg:      cfg,
		hosts:    make(map[string]*site),
		states:   cfg.Ring.WideBox("login state"),
		pending:  cfg.Ring.WideBox("pending login"),
		sessions: cfg.Ring.Box("session cookie"),
		flights:  newFlights(),
		leaving:  make(chan struct{}),
	}
	return l, l.addHosts()
}

func (l *Login) addHosts() error {
	providers := make(map[string]*oidc.Provider)
	for _, p := range l.cfg.Providers {
		if !validProvider(p.Name()) {
			return fmt.Errorf("login: provider name %q is not a lower-case name of up to 32 letters, digits and dashes, or is \"p\"", p.Name())
		}
		if p.ClientID() == "" {
			return fmt.Errorf("login: provider %q has no client, so nobody can sign in with it", p.Name())
		}
		providers[p.Name()] = p
	}
	for _, h := range l.cfg.Hosts {
		if err := checkOrigin(h); err != nil {
			return err
		}
		if l.hosts[h.Name] != nil {
			return fmt.Errorf("login: host %q is given twice", h.Name)
		}
		s := &site{Host: h}
		for _, name := range h.Providers {
			p := providers[name]
			if p == nil {
				return fmt.Errorf("login: host %q names provider %q, which is not there", h.Name, name)
			}
			s.gates = append(s.gates, l.gate(h, p))
		}
		if len(s.gates) == 0 {
			return fmt.Errorf("login: host %q has no provider", h.Name)
		}
		l.hosts[h.Name] = s
	}
	return nil
}

func (l *Login) gate(h Host, p *oidc.Provider) *gate {
	cookie := authz.CookiePrefix + p.Name()
	start := l.Address("start")
	query := "?rd="
	if len(h.Providers) > 1 {
		query = "?provider=" + p.Name() + "&rd="
	}
	return &gate{
		provider:    p,
		host:        h.Name,
		redirectURI: h.Origin + l.Address("callback"),
		cookie:      cookie,
		bind:        string(pack(h.Name, cookie, p.Issuer(), p.ClientID())),
		challenge:   fmt.Sprintf("Cookie form-action=%q, cookie-name=%q", start, cookie),
		start:       start + query,
	}
}

func validPrefix(prefix string) bool {
	return len(prefix) > 1 && prefix[len(prefix)-1] != '/' && localAddress(prefix) && !strings.ContainsAny(prefix, `?%;"`)
}

func validProvider(name string) bool {
	for i := range len(name) {
		c := name[i]
		if letter := 'a' <= c && c <= 'z'; !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 32 && name != "p"
}

// checkOrigin wants scheme://name[:port], with http on loopback names only: elsewhere
// a browser drops our cookies, and the code would travel in the clear.
func checkOrigin(h Host) error {
	scheme, rest, _ := strings.Cut(h.Origin, "://")
	port, ok := strings.CutPrefix(rest, h.Name)
	loopback := h.Name == "localhost" || h.Name == "127.0.0.1" || strings.HasSuffix(h.Name, ".localhost")
	switch {
	case h.Name == "" || !ok || port != "" && !validPort(port):
		return fmt.Errorf("login: origin %q is not https://%s with at most a port behind it", h.Origin, h.Name)
	case scheme == "https", scheme == "http" && loopback:
		return nil
	default:
		return fmt.Errorf("login: origin %q must begin with https:// (http is for loopback names only)", h.Origin)
	}
}

func validPort(s string) bool {
	if len(s) < 2 || len(s) > 6 || s[0] != ':' {
		return false
	}
	return strings.Trim(s[1:], "0123456789") == ""
}

// Address returns the path of one of our endpoints.
func (l *Login) Address(name string) string { return l.cfg.Prefix + "/" + name }

// Host returns what is configured for a host, if anything.
func (l *Login) Host(name string) (Host, bool) {
	s := l.hosts[name]
	if s == nil {
		return Host{}, false
	}
	return s.Host, true
}

// Endpoint returns the endpoint at host and path, or nil. Everything below Prefix
// on a known host is ours: what is not known there is a 404.
func (l *Login) Endpoint(host, path string) authz.Endpoint {
	if l.hosts[host] == nil {
		return nil
	}
	name, ok := strings.CutPrefix(path, l.cfg.Prefix)
	if !ok || name != "" && name[0] != '/' {
		return nil
	}
	switch name {
	case "/start":
		return l.start
	case "/callback":
		return l.callback
	case "/userinfo":
		return l.userinfo
	default:
		return notFound
	}
}

// gate finds a provider of a host; with an empty name the only one, or the first.
func (s *site) gate(provider string) *gate {
	for _, g := range s.gates {
		if provider == "" || g.provider.Name() == provider {
			return g
		}
	}
	return nil
}

// Wait returns when detached work (code exchanges, the end of replaced sessions) is
// done or the timeout passes. It is for the end of a Login's life: replaced sessions
// are ended at once from now on.
func (l *Login) Wait(timeout time.Duration) {
	l.leave.Do(func() { close(l.leaving) })
	done := make(chan struct{})
	go func() {
		l.detached.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}
