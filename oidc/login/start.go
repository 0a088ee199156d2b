package login

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// start begins a login, for top-level navigations only. Nothing else sets a pending
// cookie.
func (l *Login) start(ctx context.Context, r *authz.Request) authz.Response {
	s := l.hosts[r.Host]
	if r.Caller != authz.Navigation {
		return Render(r, authz.Problem{Status: http.StatusUnauthorized, Challenge: authz.Challenge{WWWAuthenticate: s.gates[0].challenge}})
	}
	q, err := parseQuery(r.RawQuery)
	if err != nil {
		return l.refuse(r, "malformed_query", malformedPage())
	}
	if req, ok := q["req"]; ok && s == l.loginSite {
		return l.startFor(ctx, r, req)
	}
	rd := askedFor(r, q)
	if to := l.siteOf(rd); s == l.loginSite && to != nil && to != s {
		// A proxy sent the browser here right away; the host that it comes from begins.
		return Redirect(http.StatusFound, to.Origin+l.StartAddress(strings.TrimPrefix(rd, to.Origin)))
	}
	st, again, now := state{address: l.startAddress(r.Host, rd)}, q["prompt"] == "login", l.cfg.Now()
	gates := s.choose(q["provider"])
	if len(gates) == 0 {
		return l.refuse(r, "unknown_provider", l.againPage("There is no such way to sign in here", "The address names a provider that this host does not use.", "/"))
	}
	var ok bool
	if st.trail, ok = parseTrail(q["again"]); !ok {
		st.trail = trail{first: now}
	}
	g := gates[0]
	switch {
	case len(gates) > 1:
		return chooser(r, gates, st, again)
	case st.trail.loops(now):
		return l.refuse(r, "loop", l.loopPage(l.anew(g, st)))
	case s.handsOver:
		return l.toLoginHost(r, g, st, again)
	default:
		return l.toProvider(ctx, r, g, st, again)
	}
}

// toProvider begins a login at the provider. again makes it ask for the password.
func (l *Login) toProvider(ctx context.Context, r *authz.Request, g *gate, st state, again bool) authz.Response {
	now := l.cfg.Now()
	a := newAttempt(g, now)
	st.attempt, st.created, st.gate = a.id, now, a.gate
	target, err := g.provider.AuthorizationURL(ctx, oidc.AuthRequest{
		RedirectURI: g.redirectURI,
		State:       l.sealState(r.Host, st),
		Nonce:       a.nonce,
		Verifier:    a.verifier,
		LoginAgain:  again,
	})
	if err != nil {
		return l.refuse(r, "provider_unavailable", providerDownPage(l.anew(g, st)), slog.String("error", err.Error()))
	}
	cookies := append(l.room(r, now), setCookie(a.cookie(), l.sealAttempt(r.Host, a), attemptLife))
	return Redirect(http.StatusFound, target, cookies...)
}

// toLoginHost is step (a): it remembers in a cookie where the browser wants to go, and
// sends it to the login host. It asks nobody.
func (l *Login) toLoginHost(r *authz.Request, g *gate, st state, again bool) authz.Response {
	now := l.cfg.Now()
	e := newErrand(g, st, now)
	req := l.sealAsk(ask{
		host: r.Host, errand: e.id, nonce: e.hash(), gate: g.key, expires: now.Add(attemptLife), again: again, trail: st.trail,
	})
	cookies := append(l.room(r, now), setCookie(e.cookie(), l.sealErrand(r.Host, e), attemptLife))
	return Redirect(http.StatusFound, l.loginSite.Origin+l.Address("start")+"?req="+req, cookies...)
}

// refuse shows why a login does not go on, and says it to the operator.
func (l *Login) refuse(r *authz.Request, reason string, p Page, more ...slog.Attr) authz.Response {
	l.refused(r, reason, more...)
	return p.Response(r)
}

func (l *Login) refused(r *authz.Request, reason string, more ...slog.Attr) {
	attrs := append([]slog.Attr{slog.String("reason", reason), slog.String("host", r.Host), slog.String("request_id", r.ID)}, more...)
	l.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "login_refused", attrs...)
}

func malformedPage() Page {
	return Page{Status: http.StatusBadRequest, Title: "The request could not be understood", Text: []string{
		"Its parameters are malformed, or one of them was given twice. Go back to the application and try again.",
	}}
}

func providerDownPage(again string) Page {
	return Page{Status: http.StatusServiceUnavailable, Title: "Signing in is not possible just now", Text: []string{
		"The sign-in service cannot be reached or did not answer as it should. Nothing is wrong with your account.",
		"Try again in a moment.",
	}, Actions: []Action{{Label: "Try again", Address: again}}, Header: []authz.Field{retryAfter(5 * time.Second)}}
}

// againPage refuses a login and offers to begin another one.
func (l *Login) againPage(title, text, address string) Page {
	return Page{Status: http.StatusBadRequest, Title: title, Text: []string{text, "You can start again."}, Actions: []Action{{Label: "Start again", Address: address}}}
}

func (l *Login) loopPage(again string) Page {
	return Page{
		Status: http.StatusBadRequest, Title: "Signing in goes round in circles",
		Text: []string{"You were signed in several times within half a minute, but it does not last. The likely causes:"},
		Causes: []string{
			"Your browser does not keep cookies from this site. Allow cookies, then try again.",
			"The clock of this computer or of the server is wrong.",
			"For whoever runs this site: several replicas with a memory store do not share sessions, and a store that drops records ends them. Use a shared store.",
		},
		Actions: []Action{{Label: "Try again", Address: again}},
	}
}
