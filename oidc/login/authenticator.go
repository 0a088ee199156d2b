package login

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// Authenticator recognises the sessions of one provider; with tokens it loads them
// too. On a host that does not sign in with the provider it recognises nobody. choice
// are all providers of a rule that has several: who has no session chooses among them.
func (l *Login) Authenticator(provider string, tokens bool, choice ...string) authz.Authenticator {
	a := &recogniser{login: l, provider: provider, tokens: tokens}
	if len(choice) > 1 {
		a.chooser = l.Address("start") + "?provider=" + strings.Join(choice, ",") + "&rd="
	}
	return a
}

type recogniser struct {
	login    *Login
	provider string
	tokens   bool
	chooser  string // address that lets choose, up to and with "rd="; empty: there is no choice
}

// over is the error for a cookie of ours that is known to be good for nothing more.
type over struct {
	why   string
	trail trail // of the login that made it
}

func (e *over) Error() string { return e.why }
func (e *over) Unwrap() error { return authz.ErrBadCredentials }

func (a *recogniser) gate(r *authz.Request) *gate {
	if s := a.login.hosts[r.Host]; s != nil {
		return s.gate(a.provider)
	}
	return nil
}

// Authenticate implements authz.Authenticator.
func (a *recogniser) Authenticate(ctx context.Context, r *authz.Request) (*authz.Identity, error) {
	g := a.gate(r)
	if g == nil {
		return nil, authz.ErrNoCredentials
	}
	s, err := a.login.recognise(ctx, r, g, a.tokens)
	if err != nil {
		return nil, err
	}
	if !a.tokens || s.Tokens == nil {
		return s.Identity, nil
	}
	with := *s.Identity
	with.Tokens = &authz.Tokens{Access: s.Tokens.Access, ID: s.Tokens.ID, Expires: s.Tokens.AccessExpires}
	return &with, nil
}

// recognise returns the live session of a request at a gate. Nothing but a cookie
// that opens causes I/O.
func (l *Login) recognise(ctx context.Context, r *authz.Request, g *gate, tokens bool) (*session.Session, error) {
	cards := l.cards(r, g)
	switch len(cards) {
	case 0:
		return nil, authz.ErrNoCredentials
	case 1:
	default: // whose is it? Guessing could put one user into another's session
		return nil, &over{why: "two different session cookies", trail: cards[0].trail}
	}
	c := cards[0]
	if !l.cfg.Now().Before(c.expires) {
		return nil, &over{why: "session has reached its end", trail: c.trail}
	}
	s, err := l.cfg.Sessions.Load(ctx, c.id, tokens)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil, &over{why: "session is over", trail: c.trail}
	case errors.Is(err, session.ErrDamaged): // never loads again; a new login replaces it
		return nil, fmt.Errorf("%w: %w", authz.ErrBadCredentials, err)
	case err != nil:
		return nil, fmt.Errorf("load session: %w", err)
	case s.Identity == nil || s.Identity.Provider != g.provider.Name() || s.Identity.Issuer != g.provider.Issuer():
		return nil, fmt.Errorf("session is of another provider: %w", authz.ErrBadCredentials)
	}
	return s, nil
}

// Challenge implements authz.Authenticator. It does no I/O.
func (a *recogniser) Challenge(r *authz.Request, err error) authz.Challenge {
	g := a.gate(r)
	if g == nil {
		return authz.Challenge{}
	}
	c := authz.Challenge{WWWAuthenticate: g.challenge}
	start := g.start
	if a.chooser != "" {
		start = a.chooser
	}
	c.Location = start + escape(requestAddress(r, a.login.cfg.Prefix))
	if dead, ok := errors.AsType[*over](err); ok {
		if r.Caller == authz.Navigation {
			// Scripts of one tab still send what a login in another tab has just
			// replaced: the name is the same, and the new cookie would go.
			c.Clear = []authz.Field{clearCookie(g.cookie)}
		}
		c.Location += "&again=" + dead.trail.again(a.login.cfg.Now()).String()
	}
	return c
}

// requestAddress is where to return to after a login that r set off.
func requestAddress(r *authz.Request, prefix string) string {
	if r.Caller != authz.Navigation {
		return "/"
	}
	if r.RawQuery == "" {
		return returnAddress(r.Path, prefix)
	}
	query := strings.ReplaceAll(r.RawQuery, `\`, "%5C") // as it stands, browsers send it, and we take it for a slash
	if whole := r.Path + "?" + query; len(whole) <= maxAddress {
		return returnAddress(whole, prefix)
	}
	return returnAddress(r.Path, prefix)
}

func notFound(_ context.Context, r *authz.Request) authz.Response {
	return Render(r, authz.Problem{Status: 404})
}
