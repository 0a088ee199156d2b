// Package logout ends sign-ins: one browser's at its user's wish, or those that the
// provider or the user's own page of sign-ins names.
//
// Nobody is told that he is signed out before the store has it in writing: what could
// not be written down is a 503, to a browser and to a provider alike. Who asks is
// proven first, by origin for a person and by a logout token for a provider.
package logout

import (
	"errors"
	"log/slog"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// Config is what a Logout works with.
type Config struct {
	Login     *login.Login
	Sessions  *session.Manager
	Ring      *seal.Ring
	Providers []*oidc.Provider    // whose logout tokens count: those that Login signs in with
	Client    authz.ClientAddress // finds the sender of a logout token, for the log; nil: the connection's other end
	Log       *slog.Logger        // events such as signed_out, backchannel_refused: named scalars, never a secret; nil: none
}

// Logout serves the endpoints that end sessions. It is safe for concurrent use.
type Logout struct {
	cfg       Config
	states    *seal.Box     // what a sign-out takes to the provider and back: strangers make as many as they like
	revoking  chan struct{} // one place for each token being revoked
	verifying chan struct{} // one for each logout token being looked at
}

// New does no I/O.
func New(cfg Config) (*Logout, error) {
	if cfg.Login == nil || cfg.Sessions == nil || cfg.Ring == nil {
		return nil, errors.New("logout: Login, Sessions and Ring are required")
	}
	for _, p := range cfg.Providers {
		if p.ClientID() == "" {
			return nil, errors.New("logout: provider " + p.Name() + " has no client, so no logout token is for us")
		}
	}
	if cfg.Client == nil {
		cfg.Client = authz.PeerAddress()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Logout{
		cfg:       cfg,
		states:    cfg.Ring.WideBox("logout state"),
		revoking:  make(chan struct{}, maxRevoking),
		verifying: make(chan struct{}, maxVerifying),
	}, nil
}

// Endpoint returns the endpoint at host and path, or nil. It is asked before
// login's, which answers for everything else below the prefix.
func (l *Logout) Endpoint(host, path string) authz.Endpoint {
	if _, ok := l.cfg.Login.Host(host); !ok {
		return nil
	}
	switch path {
	case l.address("sign_out"):
		return l.signOut
	case l.address("signed_out"):
		return l.signedOut
	}
	if l.atLoginHost(host) {
		return l.ownSessions(path)
	}
	return nil
}

// Wait returns when tokens that are being revoked are, or the timeout passes. Requests
// may still be answered meanwhile, as after a reload: a sync.WaitGroup forbids that,
// and would panic.
func (l *Logout) Wait(timeout time.Duration) {
	over := time.After(timeout)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for len(l.revoking) > 0 {
		select {
		case <-look.C:
		case <-over:
			return
		}
	}
}

func (l *Logout) address(name string) string { return l.cfg.Login.Address(name) }

func (l *Logout) atLoginHost(host string) bool {
	h, ok := l.cfg.Login.LoginHost()
	return ok && h.Name == host
}
