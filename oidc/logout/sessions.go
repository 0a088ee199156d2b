package logout

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// ownSessions are the endpoints of a user's page of his sign-ins, on the login host.
func (l *Logout) ownSessions(path string) authz.Endpoint {
	switch path {
	case l.address("sessions"):
		return l.show(l.page)
	case l.address("sessions/data"):
		return l.show(l.download)
	case l.address("sessions/end"):
		return l.act(l.endOne)
	case l.address("sessions/end_others"):
		return l.act(l.endOthers)
	case l.address("sessions/erase"):
		return l.erasing
	default:
		return nil
	}
}

type answer func(context.Context, *authz.Request, []*account) authz.Response

// show answers a GET of somebody who is signed in.
func (l *Logout) show(then answer) authz.Endpoint {
	return func(ctx context.Context, r *authz.Request) authz.Response {
		if r.Method != http.MethodGet {
			return wrongMethod(r, http.MethodGet)
		}
		return l.known(ctx, r, then)
	}
}

// act answers a POST of a page of this origin. Whoever leaves does not stop it.
func (l *Logout) act(then answer) authz.Endpoint {
	return func(ctx context.Context, r *authz.Request) authz.Response {
		if r.Method != http.MethodPost {
			return wrongMethod(r, http.MethodPost)
		}
		if host, _ := l.cfg.Login.Host(r.Host); !sameOrigin(r, host.Origin) {
			l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "session_action_refused", slog.String("reason", "cross_origin"), slog.String("path", r.Path),
				slog.String("host", r.Host), slog.String("client", r.Peer.Client), slog.String("request_id", r.ID))
			return login.Page{
				Status: http.StatusForbidden, Title: "Nothing was changed", Text: []string{"The request does not prove that it comes from the page of your sign-ins."},
				Actions: []login.Action{{Label: "My sign-ins", Address: l.address("sessions")}},
			}.Response(r)
		}
		ctx, cancel := stay(ctx)
		defer cancel()
		return l.known(ctx, r, then)
	}
}

// erasing asks when it is opened and erases when that is confirmed.
func (l *Logout) erasing(ctx context.Context, r *authz.Request) authz.Response {
	if r.Method == http.MethodPost {
		return l.act(l.erase)(ctx, r)
	}
	return l.show(l.askErase)(ctx, r)
}

// known lets those pass who are signed in.
func (l *Logout) known(ctx context.Context, r *authz.Request, then answer) authz.Response {
	accounts, err := l.accounts(ctx, r)
	if err != nil {
		return l.cannotTell(ctx, r, err)
	}
	if len(accounts) > 0 {
		return then(ctx, r, accounts)
	}
	return login.Render(r, authz.Problem{Status: http.StatusFound, Challenge: authz.Challenge{
		Location:        l.cfg.Login.StartAddress(l.address("sessions")),
		WWWAuthenticate: `Cookie form-action="` + l.address("start") + `"`,
	}})
}

// cannotTell says that nothing is known and nothing was changed.
func (l *Logout) cannotTell(ctx context.Context, r *authz.Request, err error) authz.Response {
	l.cfg.Log.LogAttrs(ctx, slog.LevelError, "sessions_unavailable", slog.String("path", r.Path), slog.String("host", r.Host),
		slog.String("client", r.Peer.Client), slog.String("request_id", r.ID), slog.String("error", err.Error()))
	return login.Page{
		Status: http.StatusServiceUnavailable, Title: "Your sign-ins cannot be shown just now",
		Text:    []string{"The place where they are kept cannot be reached. You have not been signed out, and nothing was changed."},
		Actions: []login.Action{{Label: "Try again", Address: l.address("sessions")}},
		Header:  []authz.Field{{Name: "retry-after", Value: "5"}},
	}.Response(r)
}

// notEnded says that somebody may still be signed in.
func (l *Logout) notEnded(r *authz.Request) authz.Response {
	return login.Page{
		Status: http.StatusServiceUnavailable, Title: "Not everything was ended",
		Text:    []string{"The change could not be written down, so what you wanted to end may still be signed in. Look at the list and try again in a moment."},
		Actions: []login.Action{{Label: "My sign-ins", Address: l.address("sessions")}},
		Header:  []authz.Field{{Name: "retry-after", Value: "5"}},
	}.Response(r)
}

// endOne ends the session that the query names by its handle, if it is one of the
// browser's users'. Everything else it does not know: it may have ended, or be
// somebody else's.
func (l *Logout) endOne(ctx context.Context, r *authz.Request, accounts []*account) authz.Response {
	text, err := only(r.RawQuery, "session")
	if err != nil {
		return login.Render(r, authz.Problem{Status: http.StatusBadRequest})
	}
	h, err := session.ParseHandle(text)
	if err != nil {
		return login.Render(r, authz.Problem{Status: http.StatusBadRequest})
	}
	a := ownerOf(accounts, h)
	if a == nil {
		l.note(ctx, r, slog.LevelInfo, "session_not_listed", accounts[0], slog.String("target", h.Name()))
		return l.changed(r, 0)
	}
	if err := l.cfg.Sessions.EndHandle(ctx, h); err != nil {
		l.note(ctx, r, slog.LevelError, "session_end_failed", a, slog.String("target", h.Name()), slog.String("error", err.Error()))
		return l.notEnded(r)
	}
	l.note(ctx, r, slog.LevelInfo, "session_ended", a, slog.String("target", h.Name()), slog.Int("ended", 1))
	var clear []authz.Field
	if own := a.own(h); own != nil {
		clear = append(clear, own.Clear)
	}
	return l.changed(r, 1, clear...)
}

func ownerOf(accounts []*account, h session.Handle) *account {
	for _, a := range accounts {
		for _, s := range a.listed {
			if s.Handle == h {
				return a
			}
		}
	}
	return nil
}

// endOthers ends every session of a user except this browser's.
func (l *Logout) endOthers(ctx context.Context, r *authz.Request, accounts []*account) authz.Response {
	a := chosen(r, accounts)
	if a == nil {
		return login.Render(r, authz.Problem{Status: http.StatusBadRequest})
	}
	n, err := l.cfg.Sessions.EndUser(ctx, a.identity().Issuer, a.identity().Subject, a.handles()...)
	if err != nil {
		l.note(ctx, r, slog.LevelError, "sessions_end_failed", a, slog.Int("ended", n), slog.String("error", err.Error()))
		return l.notEnded(r)
	}
	l.note(ctx, r, slog.LevelInfo, "other_sessions_ended", a, slog.Int("ended", n))
	return l.changed(r, n)
}

// chosen is the account that the query names by its provider.
func chosen(r *authz.Request, accounts []*account) *account {
	for _, a := range accounts {
		if a.uses(provider(r)) {
			return a
		}
	}
	return nil
}

// changed leads back to the list, which shows what has become of it.
func (l *Logout) changed(r *authz.Request, ended int, clear ...authz.Field) authz.Response {
	if !login.ByPerson(r) {
		return login.JSON(http.StatusOK, map[string]int{"ended": ended}, clear...)
	}
	return login.Redirect(http.StatusSeeOther, l.address("sessions"), clear...)
}

func wrongMethod(r *authz.Request, allowed string) authz.Response {
	out := login.Render(r, authz.Problem{Status: http.StatusMethodNotAllowed})
	out.Header = append(out.Header, authz.Field{Name: "allow", Value: allowed})
	return out
}

func at(address, name, value string) string {
	return address + "?" + name + "=" + url.QueryEscape(value)
}

func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
