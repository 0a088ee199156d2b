package logout

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// maxHint is the longest ID token that is sent as id_token_hint: many servers refuse
// an address above 8 KiB. Without it the provider knows us by client_id, and may ask.
const maxHint = 4 << 10

// signOut ends every session that the browser has on this host, or that of the provider
// that the query names; on other hosts the record is the same, so they are signed out
// with it. Check sees no body, so the proof
// that our own page or the application asked is in the headers; without it we ask the
// person.
func (l *Logout) signOut(ctx context.Context, r *authz.Request) authz.Response {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return login.Render(r, authz.Problem{Status: http.StatusMethodNotAllowed})
	}
	host, _ := l.cfg.Login.Host(r.Host)
	carried := l.carried(r)
	if name := provider(r); name != "" && !l.uses(r.Host, name) && !login.ByPerson(r) {
		return login.Render(r, authz.Problem{Status: http.StatusBadRequest}) // a person is shown what he still has
	}
	if len(carried) == 0 {
		return l.done(r, nil, "")
	}
	if !sameOrigin(r, host.Origin) || !clicked(r) {
		return l.ask(r, carried)
	}
	ctx, cancel := stay(ctx)
	defer cancel()
	tokens := l.tokens(ctx, carried)
	clear, err := l.end(ctx, r, carried, tokens)
	if err != nil {
		return l.failed(r, clear)
	}
	hint := ""
	if t := tokens[carried[0].ID]; t != nil {
		hint = t.ID
	}
	return l.done(r, carried[0].Provider, hint, clear...)
}

// carried are the sessions that a sign-out is about.
func (l *Logout) carried(r *authz.Request) []login.Carried {
	all := l.cfg.Login.Carried(r)
	if name := provider(r); name != "" {
		all = slices.DeleteFunc(all, func(c login.Carried) bool { return c.Provider.Name() != name })
	}
	return all
}

// provider is the one that the query of r names, or empty.
func provider(r *authz.Request) string {
	name, err := only(r.RawQuery, "provider")
	if err != nil {
		return ""
	}
	return name
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

// tokens finds what the provider is to be told; signing out works without. It takes at
// most a third of the time there is: the ending needs the rest.
func (l *Logout) tokens(ctx context.Context, carried []login.Carried) map[session.ID]*session.Tokens {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)/3)
	defer cancel()
	found := map[session.ID]*session.Tokens{}
	for _, c := range carried {
		if s, err := l.cfg.Sessions.Stored(ctx, c.ID); err == nil {
			found[c.ID] = s.Tokens
		}
	}
	return found
}

// end ends sessions one after the other. It returns what clears the cookies of
// those that are known to be over, also with an error.
func (l *Logout) end(ctx context.Context, r *authz.Request, carried []login.Carried, tokens map[session.ID]*session.Tokens) ([]authz.Field, error) {
	var clear []authz.Field
	var failed error
	for _, c := range carried {
		name := c.ID.Handle().Name()
		if err := l.cfg.Sessions.End(ctx, c.ID); err != nil {
			failed = err
			l.cfg.Log.LogAttrs(ctx, slog.LevelError, "sign_out_failed", slog.String("session", name), slog.String("request_id", r.ID), slog.String("error", err.Error()))
			continue
		}
		l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "signed_out", slog.String("provider", c.Provider.Name()), slog.String("session", name),
			slog.String("host", r.Host), slog.String("client", r.Peer.Client), slog.String("request_id", r.ID))
		l.revoke(ctx, r, c.Provider, name, tokens[c.ID])
		clear = append(clear, c.Clear)
	}
	if failed != nil && len(carried) > 1 { // two cookies may share a name: keep them all rather than lose the live one
		clear = nil
	}
	return clear, failed
}

// done sends the browser on to the provider's end_session_endpoint (OpenID Connect
// RP-Initiated Logout 1.0 section 2), or to our last page. The provider knows one
// address to return to for each client, as it does for logins: with a login host, it
// is there.
func (l *Logout) done(r *authz.Request, p *oidc.Provider, hint string, clear ...authz.Field) authz.Response {
	if !login.ByPerson(r) {
		return login.JSON(http.StatusOK, map[string]bool{"signed_out": true}, clear...)
	}
	if len(hint) > maxHint {
		hint = ""
	}
	last, s := l.address("signed_out"), state{host: r.Host, address: l.back(r)}
	if p != nil {
		s.provider = p.Name()
		at, ok := l.cfg.Login.LoginHost()
		if !ok {
			at, _ = l.cfg.Login.Host(r.Host)
		}
		if to := p.EndSessionURL(hint, at.Origin+last, l.seal(at.Name, s)); to != "" {
			return login.Redirect(http.StatusSeeOther, to, clear...)
		}
	}
	if s.address != l.home(r.Host) || provider(r) != "" {
		last += "?state=" + url.QueryEscape(l.seal(r.Host, s))
	}
	return login.Redirect(http.StatusSeeOther, last, clear...)
}

// again is the address of a sign-out like r's, with what was understood of it.
func (l *Logout) again(r *authz.Request) string {
	q := url.Values{}
	if back := l.back(r); back != l.home(r.Host) {
		q.Set("rd", back)
	}
	if name := provider(r); l.uses(r.Host, name) {
		q.Set("provider", name)
	}
	if len(q) == 0 {
		return l.address("sign_out")
	}
	return l.address("sign_out") + "?" + q.Encode()
}

func (l *Logout) uses(host, provider string) bool {
	h, _ := l.cfg.Login.Host(host)
	return slices.Contains(h.Providers, provider)
}

func (l *Logout) failed(r *authz.Request, clear []authz.Field) authz.Response {
	return login.Page{
		Status: http.StatusServiceUnavailable, Title: "You are not signed out",
		Text:    []string{"The sign-out could not be written down, so your session is still alive. Try again in a moment.", "If this is not your own computer, do not leave it yet."},
		Actions: []login.Action{{Label: "Try again", Address: l.again(r), Post: true}},
		// Without a same-origin referrer the button's request would say "Origin: null".
		Referrer: "same-origin",
		Header:   append([]authz.Field{{Name: "retry-after", Value: "5"}}, clear...),
	}.Response(r)
}

// ask lets the person confirm.
func (l *Logout) ask(r *authz.Request, carried []login.Carried) authz.Response {
	p := login.Page{
		Status: http.StatusOK, Title: "Sign out?",
		Text:     []string{"Another site or a typed address asked to sign you out of this one. Do you want that?"},
		Actions:  []login.Action{{Label: "Sign out", Address: l.again(r), Post: true}, {Label: "Stay signed in", Address: l.back(r)}},
		Referrer: "same-origin", FormTargets: l.targets(carried),
	}
	if r.Caller != authz.Navigation {
		p.Status, p.Title = http.StatusForbidden, "Not signed out"
		p.Text = []string{"The request does not prove that it comes from this site."}
	}
	return p.Response(r)
}

// targets are the origins that a form with a sign-out leads through: browsers count
// every redirect as a target of the form.
func (l *Logout) targets(carried []login.Carried) []string {
	var all []string
	for _, c := range carried {
		if origin := originOf(c.Provider.EndSessionURL("", "", "")); origin != "" {
			all = append(all, origin)
		}
	}
	if h, ok := l.cfg.Login.LoginHost(); ok && len(all) > 0 {
		all = append(all, h.Origin)
	}
	return all
}
