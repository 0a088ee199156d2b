package logout

import (
	"context"
	"errors"
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// signedOut is where a sign-out ends. It looks before it says so: the address can be
// opened by anybody at any time.
func (l *Logout) signedOut(ctx context.Context, r *authz.Request) authz.Response {
	s, known := l.came(r)
	if !known {
		s = state{host: r.Host, address: l.home(r.Host)}
	}
	for _, c := range l.cfg.Login.Carried(r) {
		// Who has signed out is told about that sign-in, not of what else the browser
		// has, on the login host above all.
		if s.provider != "" && c.Provider.Name() != s.provider {
			continue
		}
		if _, err := l.cfg.Sessions.Load(ctx, c.ID, false); err == nil || !errors.Is(err, session.ErrNotFound) {
			return login.Page{
				Status: http.StatusOK, Title: "You are still signed in", Text: []string{"This site still has a session for this browser."},
				Actions:  []login.Action{{Label: "Sign out", Address: l.address("sign_out"), Post: true}, {Label: "Go on", Address: l.link(r.Host, s)}},
				Referrer: "same-origin", FormTargets: l.targets([]login.Carried{c}),
			}.Response(r)
		}
	}
	return login.Page{
		Status: http.StatusOK, Title: "You are signed out",
		Text:    []string{"This site has ended your session. On a shared computer, close the browser too: the sign-in service or other sites may still know you."},
		Actions: []login.Action{{Label: "Sign in again", Address: l.link(r.Host, s)}},
	}.Response(r)
}
