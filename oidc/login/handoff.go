package login

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// handoff is step (c): an application host takes the session that the login host
// offers. Without the browser's own errand the code is not even looked at.
func (l *Login) handoff(ctx context.Context, r *authz.Request) authz.Response {
	if r.Method != http.MethodGet {
		return Render(r, authz.Problem{Status: http.StatusMethodNotAllowed})
	}
	if r.Caller != authz.Navigation {
		return Render(r, authz.Problem{Status: http.StatusBadRequest})
	}
	q, err := parseQuery(r.RawQuery)
	if err != nil {
		return l.refuse(r, "malformed_query", malformedPage())
	}
	e, ok := l.errandOf(r, q["a"])
	if !ok {
		return l.strayed(ctx, r, q)
	}
	st := state{created: e.created, trail: e.trail, address: e.address}
	if l.cfg.Now().Sub(e.created) >= attemptLife {
		return l.expired(r, st, e.cookie())
	}
	g := l.hosts[r.Host].gateOf(e.gate)
	if g == nil { // the configuration has changed meanwhile
		return l.refuse(r, "unknown_provider", drop(l.againPage("This way to sign in is gone", "The provider is no longer in use here.", e.address), e.cookie()))
	}
	o, reason, err := l.accept(ctx, r.Host, q["code"], e)
	switch {
	case err != nil:
		return l.refuse(r, "store_unavailable", storeDownPage(), slog.String("error", err.Error()))
	case reason != "":
		return l.missed(ctx, r, reason, g, st, clearCookie(e.cookie()))
	}
	return l.takeOver(ctx, r, g, e, o.made)
}

// accept takes what waits under a code if it is for this host and this browser. A
// reason says that it is not, an error that it cannot be told.
func (l *Login) accept(ctx context.Context, host, code string, e errand) (o offer, reason string, err error) {
	if !validAttemptID(code) { // codes are made as the names of attempts are
		return offer{}, "bad_code", nil
	}
	value, err := l.cfg.Sessions.Accept(ctx, code)
	if errors.Is(err, session.ErrNotFound) {
		return offer{}, "code_used_or_late", nil
	}
	if err != nil {
		return offer{}, "", err
	}
	o, ok := unpackOffer(value)
	switch {
	case !ok:
		return offer{}, "bad_offer", nil
	case o.host != host:
		return offer{}, "code_of_another_host", nil
	case subtle.ConstantTimeCompare([]byte(o.nonce), []byte(e.hash())) != 1:
		return offer{}, "code_of_another_browser", nil
	}
	return o, "", nil
}

// takeOver gives the browser this host's cookie for the session. The login host has
// ended what the session replaces; here may be an older one still that it did not know.
// A younger one stays: then this tab was only slower than another.
func (l *Login) takeOver(ctx context.Context, r *authz.Request, g *gate, e errand, m made) authz.Response {
	if old := l.cards(r, g); len(old) == 1 && old[0].expires.Before(m.expires) {
		ctx := context.WithoutCancel(ctx)
		l.detached.Go(func() { l.endOld(ctx, r, old, m) })
	}
	l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "handed_over",
		slog.String("provider", g.provider.Name()), slog.String("session", m.id.Handle().Name()), slog.String("host", r.Host), slog.String("request_id", r.ID))
	cookie := l.sealCard(g, card{m.id, m.expires, e.trail})
	return Redirect(http.StatusSeeOther, e.address, setCookie(g.cookie, cookie, 0), clearCookie(e.cookie()))
}

// strayed handles a hand-over whose errand is gone or was never here, so nobody knows
// where it should end.
func (l *Login) strayed(ctx context.Context, r *authz.Request, q query) authz.Response {
	now := l.cfg.Now()
	t, ok := parseTrail(q["again"])
	if !ok {
		t = trail{first: now}
	}
	return l.missed(ctx, r, "no_cookie", nil, state{created: now, trail: t, address: "/"})
}
