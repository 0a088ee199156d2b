package login

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// start sends a browser to the provider. It is the only place that sets a pending
// cookie, and it does so for top-level navigations only.
func (l *Login) start(ctx context.Context, r *authz.Request) authz.Response {
	s := l.hosts[r.Host]
	if r.Caller != authz.Navigation {
		return Render(r, authz.Problem{Status: http.StatusUnauthorized, Challenge: authz.Challenge{WWWAuthenticate: s.gates[0].challenge}})
	}
	q, err := parseQuery(r.RawQuery)
	if err != nil {
		return l.refuse(r, "malformed_query", malformedPage())
	}
	g := s.gate(q["provider"])
	if g == nil {
		return l.refuse(r, "unknown_provider", l.againPage("There is no such way to sign in here", "The address names a provider that this host does not use.", "/"))
	}
	address, now := returnAddress(q["rd"], l.cfg.Prefix), l.cfg.Now()
	t, ok := parseTrail(q["again"])
	if !ok {
		t = trail{first: now}
	}
	if t.loops(now) {
		return l.refuse(r, "loop", l.loopPage(g, address))
	}
	a := newAttempt(g.provider.Name(), now)
	target, err := g.provider.AuthorizationURL(ctx, oidc.AuthRequest{
		RedirectURI: g.redirectURI,
		State:       l.sealState(r.Host, state{attempt: a.id, created: now, provider: a.provider, trail: t, address: address}),
		Nonce:       a.nonce,
		Verifier:    a.verifier,
		LoginAgain:  q["prompt"] == "login",
	})
	if err != nil {
		return l.refuse(r, "provider_unavailable", providerDownPage(g, address), slog.String("error", err.Error()))
	}
	cookies := append(l.room(r, now), setCookie(a.cookie(), l.sealAttempt(r.Host, a), attemptLife))
	return Redirect(http.StatusFound, target, cookies...)
}

// refuse shows why a login does not go on, and says it to the operator.
func (l *Login) refuse(r *authz.Request, reason string, p Page, more ...slog.Attr) authz.Response {
	attrs := append([]slog.Attr{slog.String("reason", reason), slog.String("host", r.Host), slog.String("request_id", r.ID)}, more...)
	l.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "login_refused", attrs...)
	return p.Response(r)
}

func malformedPage() Page {
	return Page{Status: http.StatusBadRequest, Title: "The request could not be understood", Text: []string{
		"Its parameters are malformed, or one of them was given twice. Go back to the application and try again.",
	}}
}

func providerDownPage(g *gate, address string) Page {
	return Page{Status: http.StatusServiceUnavailable, Title: "Signing in is not possible just now", Text: []string{
		"The sign-in service cannot be reached or did not answer as it should. Nothing is wrong with your account.",
		"Try again in a moment.",
	}, Actions: []Action{{Label: "Try again", Address: g.start + escape(address)}}, Header: []authz.Field{retryAfter(5 * time.Second)}}
}

// againPage refuses a login and offers to begin another one.
func (l *Login) againPage(title, text, address string) Page {
	return Page{Status: http.StatusBadRequest, Title: title, Text: []string{text, "You can start again."}, Actions: []Action{{Label: "Start again", Address: address}}}
}

func (l *Login) loopPage(g *gate, address string) Page {
	return Page{
		Status: http.StatusBadRequest, Title: "Signing in goes round in circles",
		Text: []string{"You were signed in several times within half a minute, but it does not last. The likely causes:"},
		Causes: []string{
			"Your browser does not keep cookies from this site. Allow cookies, then try again.",
			"The clock of this computer or of the server is wrong.",
			"For whoever runs this site: several replicas with a memory store do not share sessions, and a store that drops records ends them. Use a shared store.",
		},
		Actions: []Action{{Label: "Try again", Address: g.start + escape(address)}},
	}
}
