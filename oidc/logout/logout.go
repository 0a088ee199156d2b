// Package logout ends sign-ins.
package logout

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// Config is what a Logout works with.
type Config struct {
	Login    *login.Login
	Sessions *session.Manager
	Log      *slog.Logger // the event signed_out; nil: none
}

// Logout serves the endpoints that end a browser's sessions. It is safe for
// concurrent use.
type Logout struct{ cfg Config }

// New does no I/O.
func New(cfg Config) (*Logout, error) {
	if cfg.Login == nil || cfg.Sessions == nil {
		return nil, errors.New("logout: Login and Sessions are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Logout{cfg}, nil
}

// Endpoint returns the endpoint at host and path, or nil. It is asked before
// login's, which answers for everything else below the prefix.
func (l *Logout) Endpoint(host, path string) authz.Endpoint {
	if _, ok := l.cfg.Login.Host(host); !ok {
		return nil
	}
	switch path {
	case l.cfg.Login.Address("sign_out"):
		return l.signOut
	case l.cfg.Login.Address("signed_out"):
		return l.signedOut
	default:
		return nil
	}
}

// signOut ends every session that the browser has on this host. Check sees no body,
// so the proof that our own page or the application asked is in the headers; without
// it we ask the person.
func (l *Logout) signOut(ctx context.Context, r *authz.Request) authz.Response {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return login.Render(r, authz.Problem{Status: http.StatusMethodNotAllowed})
	}
	host, _ := l.cfg.Login.Host(r.Host)
	sessions := l.cfg.Login.Carried(r)
	if len(sessions) == 0 {
		return l.done(r, "")
	}
	if !sameOrigin(r, host.Origin) || !clicked(r) {
		return l.ask(r, sessions)
	}
	ctx, cancel := stay(ctx)
	defer cancel()
	hint := l.idToken(ctx, sessions[0])
	clear, err := l.end(ctx, r, sessions)
	if err != nil {
		return l.failed(r, clear)
	}
	back := host.Origin + l.cfg.Login.Address("signed_out")
	return l.done(r, sessions[0].Provider.EndSessionURL(hint, back, ""), clear...)
}

// stay keeps the deadline of ctx, but not the cancellation of a browser that left:
// a sign-out that was asked for is carried out.
func stay(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(5 * time.Second)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// idToken finds the hint for the provider; signing out works without.
func (l *Logout) idToken(ctx context.Context, c login.Carried) string {
	s, err := l.cfg.Sessions.Load(ctx, c.ID, true)
	if err != nil || s.Tokens == nil {
		return ""
	}
	return s.Tokens.ID
}

// end ends sessions one after the other. It returns what clears the cookies of
// those that are known to be over, also with an error.
func (l *Logout) end(ctx context.Context, r *authz.Request, sessions []login.Carried) ([]authz.Field, error) {
	var clear []authz.Field
	var failed error
	for _, c := range sessions {
		if err := l.cfg.Sessions.End(ctx, c.ID); err != nil {
			failed = err
			l.cfg.Log.LogAttrs(ctx, slog.LevelError, "sign_out_failed", slog.String("session", c.ID.Handle().Name()), slog.String("request_id", r.ID), slog.String("error", err.Error()))
			continue
		}
		l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "signed_out", slog.String("provider", c.Provider.Name()), slog.String("session", c.ID.Handle().Name()), slog.String("host", r.Host), slog.String("request_id", r.ID))
		clear = append(clear, c.Clear)
	}
	if failed != nil && len(sessions) > 1 { // two cookies may share a name: keep them all rather than lose the live one
		clear = nil
	}
	return clear, failed
}

// done sends the browser on to the provider's end_session_endpoint (OpenID Connect
// RP-Initiated Logout section 2), or to our last page.
func (l *Logout) done(r *authz.Request, provider string, clear ...authz.Field) authz.Response {
	if !login.ByPerson(r) {
		return login.JSON(http.StatusOK, map[string]bool{"signed_out": true}, clear...)
	}
	if provider == "" {
		provider = l.cfg.Login.Address("signed_out")
	}
	return login.Redirect(http.StatusSeeOther, provider, clear...)
}

func (l *Logout) failed(r *authz.Request, clear []authz.Field) authz.Response {
	return login.Page{
		Status: http.StatusServiceUnavailable, Title: "You are not signed out",
		Text:    []string{"The sign-out could not be written down, so your session is still alive. Try again in a moment.", "If this is not your own computer, do not leave it yet."},
		Actions: []login.Action{{Label: "Try again", Address: l.cfg.Login.Address("sign_out"), Post: true}},
		// Without a same-origin referrer the button's request would say "Origin: null".
		Referrer: "same-origin",
		Header:   append([]authz.Field{{Name: "retry-after", Value: "5"}}, clear...),
	}.Response(r)
}

// ask lets the person confirm. The form may end up at the provider, which browsers
// count as a target of the form.
func (l *Logout) ask(r *authz.Request, sessions []login.Carried) authz.Response {
	p := login.Page{
		Status: http.StatusOK, Title: "Sign out?",
		Text:     []string{"Another site or a typed address asked to sign you out of this one. Do you want that?"},
		Actions:  []login.Action{{Label: "Sign out", Address: l.cfg.Login.Address("sign_out"), Post: true}, {Label: "Stay signed in", Address: "/"}},
		Referrer: "same-origin",
	}
	if r.Caller != authz.Navigation {
		p.Status, p.Title = http.StatusForbidden, "Not signed out"
		p.Text = []string{"The request does not prove that it comes from this site."}
	}
	for _, c := range sessions {
		if origin := originOf(c.Provider.EndSessionURL("", "", "")); origin != "" {
			p.FormTargets = append(p.FormTargets, origin)
		}
	}
	return p.Response(r)
}

// signedOut is where a sign-out ends. It looks before it says so: the address can be
// opened by anybody at any time.
func (l *Logout) signedOut(ctx context.Context, r *authz.Request) authz.Response {
	for _, c := range l.cfg.Login.Carried(r) {
		if _, err := l.cfg.Sessions.Load(ctx, c.ID, false); err == nil || !errors.Is(err, session.ErrNotFound) {
			return login.Page{
				Status: http.StatusOK, Title: "You are still signed in", Text: []string{"This site still has a session for this browser."},
				Actions:  []login.Action{{Label: "Sign out", Address: l.cfg.Login.Address("sign_out"), Post: true}, {Label: "Go on", Address: "/"}},
				Referrer: "same-origin", FormTargets: targets(c),
			}.Response(r)
		}
	}
	return login.Page{
		Status: http.StatusOK, Title: "You are signed out",
		Text:    []string{"This site has ended your session. On a shared computer, close the browser too: the sign-in service or other sites may still know you."},
		Actions: []login.Action{{Label: "Sign in again", Address: "/"}},
	}.Response(r)
}

func targets(c login.Carried) []string {
	if origin := originOf(c.Provider.EndSessionURL("", "", "")); origin != "" {
		return []string{origin}
	}
	return nil
}

// sameOrigin reports whether the browser itself says that a page of this origin sent
// the request. Every witness that speaks must agree, and one must speak. "Origin:
// null" is what a page without referrer sends: it proves nothing either way.
func sameOrigin(r *authz.Request, origin string) bool {
	site, sites := r.Header.Get("sec-fetch-site")
	from, froms := r.Header.Get("origin")
	if sites > 1 || froms > 1 || sites == 1 && site != "same-origin" || froms == 1 && from != origin && from != "null" {
		return false
	}
	return sites == 1 || froms == 1 && from == origin
}

// clicked: a page can be made to load an address of its own origin without
// anybody's will, by an image in a comment or a link that is fetched ahead. A GET
// counts only when a person goes there; scripts can POST.
func clicked(r *authz.Request) bool {
	return r.Method == http.MethodPost || r.Caller == authz.Navigation
}

// originOf cuts an address of the provider's metadata down to scheme://host:port.
func originOf(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if rest == "" || strings.ContainsAny(rest, " ;,'\"@") {
		return ""
	}
	return scheme + "://" + rest
}
