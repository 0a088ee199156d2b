package login

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// offerLife is how long a session waits for the browser to fetch it.
const offerLife = 60 * time.Second

// offer is a session that waits for a browser at an application host. How the login
// came about (trail) is not in it: the browser's errand says so.
type offer struct {
	made
	host  string
	nonce string // hash of the errand's secret
}

func (o offer) pack() []byte { return pack(string(o.id[:]), packTime(o.expires), o.host, o.nonce) }

func unpackOffer(b []byte) (offer, bool) {
	f, ok := unpack(b, 4)
	if !ok || len(f[0]) != len(session.ID{}) {
		return offer{}, false
	}
	return offer{made{session.ID([]byte(f[0])), unpackTime(f[1])}, f[2], f[3]}, true
}

// startFor is step (b): the login host finds or makes the session that an application
// host asks for.
func (l *Login) startFor(ctx context.Context, r *authz.Request, req string) authz.Response {
	a, ok := l.openAsk(req)
	if !ok {
		return l.refuse(r, "bad_req", strayPage())
	}
	target, g := l.target(&a)
	if target == nil {
		return l.refuse(r, "unknown_host", strayPage())
	}
	st, now := state{trail: a.trail, ask: &a}, l.cfg.Now()
	switch {
	case !now.Before(a.expires):
		return l.expired(r, st, "")
	case a.trail.loops(now):
		return l.refuse(r, "loop", l.loopPage(l.anew(g, st)))
	case a.again:
		return l.toProvider(ctx, r, g, st, true)
	}
	switch c, err := l.live(ctx, r, g); {
	case err == nil:
		return l.handOver(ctx, r, &a, made{c.id, c.expires})
	case cannotTell(err):
		return l.refuse(r, "store_unavailable", storeDownPage(), slog.String("error", err.Error()))
	}
	return l.toProvider(ctx, r, g, st, false)
}

// handOver offers a session to the browser that holds the errand of a, whose target is
// there, and sends this one to fetch it. Cookies go with the answer only when the session
// waits there.
func (l *Login) handOver(ctx context.Context, r *authz.Request, a *ask, m made, cookies ...authz.Field) authz.Response {
	target, _ := l.target(a)
	code := rand.Text()
	switch err := l.cfg.Sessions.Offer(ctx, code, offer{m, a.host, a.nonce}.pack(), offerLife); {
	case errors.Is(err, session.ErrFull):
		return l.refuse(r, "store_full", busyPage())
	case err != nil:
		return l.refuse(r, "store_unavailable", storeDownPage(), slog.String("error", err.Error()))
	}
	// The trail is in the errand too. It is repeated for a browser that does not keep
	// cookies there, which would go round in circles for ever.
	to := target.Origin + l.Address("handoff") + "?code=" + code + "&a=" + a.errand + "&again=" + a.trail.String()
	return Redirect(http.StatusSeeOther, to, cookies...)
}

// live returns what a request carries at g if it is a live session.
func (l *Login) live(ctx context.Context, r *authz.Request, g *gate) (card, error) {
	if _, err := l.recognise(ctx, r, g, false); err != nil {
		return card{}, err
	}
	return l.cards(r, g)[0], nil // exactly one is recognised
}

// cannotTell: neither a session nor the certainty that there is none.
func cannotTell(err error) bool {
	return err != nil && !errors.Is(err, authz.ErrNoCredentials) && !errors.Is(err, authz.ErrBadCredentials)
}

// strayPage is for somebody whom no host of ours has sent. There is nothing to go on with.
func strayPage() Page {
	return Page{Status: http.StatusBadRequest, Title: "This sign-in was not started here", Text: []string{
		"The address does not come from an application that signs in here, or the application has changed.",
		"Go back to the application and open it again.",
	}}
}
