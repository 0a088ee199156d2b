package logout

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// account is a user as this browser knows him, with everything that is signed in as
// him. Two entries of the configuration may name one provider: then both sessions of
// the browser are his.
type account struct {
	here   []login.Recognised // this browser's, at least one
	listed []session.Listed   // everywhere; this browser's first, then the one seen last
}

func (a *account) identity() *authz.Identity { return a.here[0].Session.Identity }

// own returns this browser's session h, or nil.
func (a *account) own(h session.Handle) *login.Recognised {
	for i := range a.here {
		if a.here[i].ID.Handle() == h {
			return &a.here[i]
		}
	}
	return nil
}

func (a *account) isHere(h session.Handle) bool { return a.own(h) != nil }

func (a *account) handles() []session.Handle {
	var all []session.Handle
	for _, s := range a.here {
		all = append(all, s.ID.Handle())
	}
	return all
}

// uses reports whether this browser signed in to a with a provider of the configuration.
func (a *account) uses(provider string) bool {
	return slices.ContainsFunc(a.here, func(s login.Recognised) bool { return s.Provider.Name() == provider })
}

// accounts returns whom the browser is signed in as. None is nobody; an error means
// that it cannot be told.
func (l *Logout) accounts(ctx context.Context, r *authz.Request) ([]*account, error) {
	recognised, err := l.cfg.Login.Recognised(ctx, r, false)
	if err != nil {
		return nil, err
	}
	var all []*account
next:
	for _, s := range recognised {
		for _, a := range all {
			if a.identity().Issuer == s.Session.Identity.Issuer && a.identity().Subject == s.Session.Identity.Subject {
				a.here = append(a.here, s)
				continue next
			}
		}
		all = append(all, &account{here: []login.Recognised{s}})
	}
	for _, a := range all {
		if a.listed, err = l.cfg.Sessions.List(ctx, a.identity().Issuer, a.identity().Subject); err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		slices.SortStableFunc(a.listed, func(x, y session.Listed) int { return order(a.isHere(y.Handle)) - order(a.isHere(x.Handle)) })
	}
	return all, nil
}

func order(first bool) int {
	if first {
		return 1
	}
	return 0
}

// note logs what a user did on the page of his sign-ins.
func (l *Logout) note(ctx context.Context, r *authz.Request, level slog.Level, event string, a *account, more ...slog.Attr) {
	id := a.identity()
	attrs := append([]slog.Attr{
		slog.String("provider", id.Provider), slog.String("issuer", id.Issuer), slog.String("subject", id.Subject), slog.String("session", id.Session),
		slog.String("host", r.Host), slog.String("client", r.Peer.Client), slog.String("request_id", r.ID),
	}, more...)
	l.cfg.Log.LogAttrs(ctx, level, event, attrs...)
}
