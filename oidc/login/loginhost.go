package login

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// LoginHost returns the host that signs in for all others, if there is one.
func (l *Login) LoginHost() (Host, bool) {
	if l.loginSite == nil {
		return Host{}, false
	}
	return l.loginSite.Host, true
}

// ReturnAddress returns s when it is an address of an application that a browser may
// be sent back to, and "/" otherwise: what start does with rd.
func (l *Login) ReturnAddress(s string) string { return returnAddress(s, l.cfg.Prefix) }

// startAddress is where a login at host returns to. Our own addresses are refused,
// since returning there would loop or sign the user out, but for one: on the login
// host there is no application, and its users come for the page of their sessions.
func (l *Login) startAddress(host, rd string) string {
	if own, ok := l.LoginHost(); ok && host == own.Name && rd == l.Address("sessions") {
		return rd
	}
	if s := l.siteOf(rd); s != nil && s.Name == host {
		rd = strings.TrimPrefix(rd, s.Origin)
	}
	return l.ReturnAddress(rd)
}

// siteOf is the host that a whole URL leads to, such as ingress-nginx sends. nil: it is no
// URL, or leads to where nobody signs in.
func (l *Login) siteOf(rd string) *site {
	for _, s := range l.hosts {
		if rest, ok := strings.CutPrefix(rd, s.Origin); ok && strings.HasPrefix(rest, "/") {
			return s
		}
	}
	return nil
}

// askedFor is where a login returns to: rd, or what a proxy that leads here by itself
// names in a header. Whoever writes it may choose among addresses of applications.
func askedFor(r *authz.Request, q query) string {
	if rd, ok := q["rd"]; ok {
		return rd
	}
	if rd, n := r.Header.Get("x-auth-request-redirect"); n == 1 {
		return rd
	}
	return ""
}

// StartAddress is the address of a login at this host that returns to rd.
func (l *Login) StartAddress(rd string) string { return l.Address("start") + "?rd=" + escape(rd) }

// Recognised is a live session of a request, and the lines that delete its cookie.
type Recognised struct {
	Provider *oidc.Provider
	ID       session.ID
	Session  *session.Session // as Manager.Load returned it
	Clear    authz.Field
}

// Recognised returns the live sessions of a request on its host, at most one of each
// provider. It recognises whom an Authenticator does. An error means "cannot tell"
// about at least one of them.
func (l *Login) Recognised(ctx context.Context, r *authz.Request, tokens bool) ([]Recognised, error) {
	s := l.hosts[r.Host]
	if s == nil {
		return nil, nil
	}
	var all []Recognised
	for _, g := range s.gates {
		found, err := l.recognise(ctx, r, g, tokens)
		if errors.Is(err, authz.ErrNoCredentials) || errors.Is(err, authz.ErrBadCredentials) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("recognise at %s: %w", g.provider.Name(), err)
		}
		all = append(all, Recognised{g.provider, l.cards(r, g)[0].id, found, clearCookie(g.cookie)})
	}
	return all, nil
}
