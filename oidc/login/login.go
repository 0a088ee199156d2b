// Package login signs browsers in: start, callback, hand-over, and the session cookie.
//
// A login that has not finished writes nothing on the server: it lives in a
// sealed state parameter and a sealed cookie that only together redeem a code.
// A finished login creates a record and gives the browser one sealed cookie, bound
// to host, provider, issuer and client. The browser never holds a token.
//
// With a login host the providers know one address only, and a login has three
// steps: (a) an application host remembers where the browser wants to go and sends it
// to the login host, (b) the login host finds or makes the session and offers it once
// under a code, (c) the application host takes it and sets a cookie of its own for it.
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

// Config is what a Login works with.
type Config struct {
	Prefix         string // "/oauth2"
	Hosts          []Host // each signs in by itself, or all with LoginHost
	LoginHost      *Host  // the one host whose callback the providers know; with every provider of Hosts, and none of them
	Providers      []*oidc.Provider
	Sessions       *session.Manager
	Ring           *seal.Ring
	CheckTimeout   time.Duration // how long an answer may take before the "still working" page; default 800 ms
	ReplacedLife   time.Duration // how long the session that a new login replaces lives on; default 5 s
	Reauthenticate bool          // a session without a refresh token ends with its access token, when its end is known
	Log            *slog.Logger  // events such as signed_in, login_refused: named scalars, never a secret; nil: none
	Now            func() time.Time
}

// Login serves the endpoints and recognises sessions. It is safe for concurrent use.
type Login struct {
	cfg       Config
	hosts     map[string]*site
	loginSite *site     // nil without a login host
	states    *seal.Box // the state parameter: a stranger makes as many as he likes
	pending   *seal.Box // cookies of pending logins, likewise
	errands   *seal.Box // cookies of logins that the login host does for us, likewise
	asks      *seal.Box // the req parameter, likewise
	sessions  *seal.Box // session cookies
	flights   *flights
	detached  sync.WaitGroup // code exchanges, and sessions about to be ended
	leave     sync.Once      // closes leaving
	leaving   chan struct{}
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
		errands:  cfg.Ring.WideBox("pending hand-over"),
		asks:     cfg.Ring.WideBox("hand-over request"),
		sessions: cfg.Ring.Box("session cookie"),
		flights:  newFlights(),
		leaving:  make(chan struct{}),
	}
	return l, l.addHosts()
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
	s := l.hosts[host]
	if s == nil {
		return nil
	}
	name, ok := strings.CutPrefix(path, l.cfg.Prefix)
	if !ok || name != "" && name[0] != '/' {
		return nil
	}
	switch {
	case name == "/start":
		return l.start
	case name == "/callback" && !s.handsOver:
		return l.callback
	case name == "/handoff" && s.handsOver:
		return l.handoff
	case name == "/userinfo":
		return l.userinfo
	default:
		return notFound
	}
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
