package login

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// missed handles a callback or hand-over that is good for nothing, or for nothing
// more: nothing is redeemed. Who has a live session was only late (a reload, the back
// button) and goes where the login was to end; everybody else starts again, unless it
// cannot be told who has one. g is nil when nobody knows which provider it was.
func (l *Login) missed(ctx context.Context, r *authz.Request, reason string, g *gate, st state, cookies ...authz.Field) authz.Response {
	c, err := l.liveAt(ctx, r, g)
	switch {
	case cannotTell(err):
		return l.refuse(r, "store_unavailable", storeDownPage(), slog.String("error", err.Error()))
	case err == nil && st.ask != nil:
		l.refused(r, reason)
		return l.handOver(ctx, r, st.ask, made{c.id, c.expires}, cookies...)
	case err == nil:
		l.refused(r, reason)
		return Redirect(http.StatusSeeOther, st.address, cookies...)
	case l.cfg.Now().Sub(st.created) >= attemptLife:
		return l.expired(r, st, "")
	}
	l.refused(r, reason)
	return Redirect(http.StatusSeeOther, l.again(g, st), cookies...)
}

// liveAt is live at one gate, or at the first of the host's that has a live session.
func (l *Login) liveAt(ctx context.Context, r *authz.Request, g *gate) (card, error) {
	if g != nil {
		return l.live(ctx, r, g)
	}
	var outage error
	for _, g := range l.hosts[r.Host].gates {
		c, err := l.live(ctx, r, g)
		if err == nil {
			return c, nil
		}
		if cannotTell(err) {
			outage = err
		}
	}
	if outage != nil {
		return card{}, outage
	}
	return card{}, authz.ErrNoCredentials
}

// anew is the address at which a person can begin the login st again.
func (l *Login) anew(g *gate, st state) string {
	if st.ask != nil {
		a := *st.ask
		a.trail = trail{first: l.cfg.Now()}
		return l.Address("start") + "?req=" + l.sealAsk(a)
	}
	if g == nil {
		return l.Address("start") + "?rd=" + escape(st.address)
	}
	return g.start + escape(st.address)
}

// again is anew for a restart that nobody asked for.
func (l *Login) again(g *gate, st state) string {
	t := st.trail.again(l.cfg.Now())
	if st.ask == nil {
		return l.anew(g, st) + "&again=" + t.String()
	}
	a := *st.ask
	a.trail = t
	return l.Address("start") + "?req=" + l.sealAsk(a)
}

// back is where a login that failed leaves the browser: at its application, which
// sends it here again.
func (l *Login) back(st state) string {
	if st.ask == nil {
		return st.address
	}
	target, _ := l.target(st.ask)
	return target.Origin + "/"
}
