package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
)

const (
	exchangeTimeout = 30 * time.Second
	maxCode         = 4096
	maxQuote        = 300
	repeatParam     = "gh_repeat" // how often the "still working" page has loaded itself
	maxRepeats      = 35          // seconds, about: longer than exchangeTimeout
)

// callback receives the browser back from the provider. State and cookie must
// agree before anything else is looked at; a code is redeemed only then.
func (l *Login) callback(ctx context.Context, r *authz.Request) authz.Response {
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
	st, ok := l.openState(r.Host, q["state"])
	if !ok {
		return l.refuse(r, "bad_state", l.againPage("This sign-in was not started here", "The answer of the sign-in service does not belong to a sign-in of this site.", "/"))
	}
	if st.ask != nil {
		if target, _ := l.target(st.ask); target == nil { // the configuration has changed meanwhile
			return l.refuse(r, "unknown_host", strayPage())
		}
	}
	a, ok := l.attemptOf(r, st)
	if !ok {
		return l.missed(ctx, r, "no_cookie", l.hosts[r.Host].gateOf(st.gate), st)
	}
	if age := l.cfg.Now().Sub(a.created); age >= attemptLife {
		return l.expired(r, st, a.cookie())
	}
	g := l.hosts[r.Host].gateOf(a.gate)
	if a.gate != st.gate || g == nil { // the configuration has changed meanwhile
		return l.refuse(r, "unknown_provider", drop(l.againPage("This way to sign in is gone", "The provider is no longer in use here.", l.back(st)), a.cookie()))
	}
	repeats, _ := strconv.ParseUint(q[repeatParam], 10, 8) // of a stranger: at worst no code is sent
	return l.answer(ctx, r, q, &arrival{state: st, attempt: a, gate: g, repeats: int(repeats)})
}

// arrival is a browser that has come back with a state and the cookie that
// belongs to it.
type arrival struct {
	state   state
	attempt attempt
	gate    *gate
	repeats int
}

// answer looks at what the provider says.
func (l *Login) answer(ctx context.Context, r *authz.Request, q query, in *arrival) authz.Response {
	count := 0
	if _, ok := q["iss"]; ok {
		count = 1
	}
	if err := in.gate.provider.CheckIssuer(q["iss"], count); err != nil { // RFC 9207 section 2.4, for errors too
		if errors.Is(err, oidc.ErrUnavailable) {
			return l.refuse(r, "provider_unavailable", providerDownPage(l.anew(in.gate, in.state)))
		}
		return l.refuse(r, "wrong_issuer", drop(l.againPage("The sign-in was refused", "The answer comes from another sign-in service than the one you were sent to.", l.back(in.state)), in.attempt.cookie()))
	}
	if code, failed := q["error"]; failed {
		return l.denied(r, in, code, q["error_description"])
	}
	code := q["code"]
	if code == "" || len(code) > maxCode || !printable(code) { // RFC 6749 appendix A.11
		return l.refuse(r, "bad_code", drop(l.againPage("The sign-in was refused", "The answer of the sign-in service is incomplete.", l.back(in.state)), in.attempt.cookie()))
	}
	if c, ok := l.overtaken(ctx, r, in); ok {
		l.refused(r, "overtaken")
		return l.handOver(ctx, r, in.state.ask, made{c.id, c.expires}, clearCookie(in.attempt.cookie()))
	}
	return l.land(ctx, r, code, in)
}

// overtaken returns the session that another tab has made for another application since
// this login began: with one in place it would not have begun. A second session would
// end the first, and sign that application out.
func (l *Login) overtaken(ctx context.Context, r *authz.Request, in *arrival) (card, bool) {
	if in.state.ask == nil || in.state.ask.again {
		return card{}, false
	}
	c, err := l.live(ctx, r, in.gate)
	return c, err == nil
}

func (l *Login) expired(r *authz.Request, st state, cookie string) authz.Response {
	p := l.againPage("The sign-in took too long", "More than ten minutes have passed since it began.", l.back(st))
	if cookie != "" {
		p.Header = append(p.Header, clearCookie(cookie))
	}
	return l.refuse(r, "expired", p)
}

// drop deletes a pending cookie with the answer: it is used up.
func drop(p Page, cookie string) Page {
	p.Header = append(p.Header, clearCookie(cookie))
	return p
}

// denied shows an error response (RFC 6749 section 4.1.2.1). The words are the
// provider's: bounded here, escaped by the page.
func (l *Login) denied(r *authz.Request, in *arrival, code, description string) authz.Response {
	code, description = clip(code, 64), clip(description, maxQuote)
	p := Page{Status: http.StatusForbidden, Title: "The sign-in service said no", Quote: strings.TrimSuffix(code+": "+description, ": ")}
	switch code {
	case "temporarily_unavailable", "server_error":
		p = providerDownPage(l.anew(in.gate, in.state))
	case "access_denied":
		p.Text = []string{"The sign-in was cancelled there, or your account may not use this application. It says:"}
	default:
		p.Text = []string{"The sign-in could not be completed. Tell whoever runs this site what it says:"}
	}
	p.Actions = []Action{{Label: "Start again", Address: l.anew(in.gate, in.state)}}
	return l.refuse(r, "provider_error", drop(p, in.attempt.cookie()), slog.String("error", code), slog.String("error_description", description))
}

// land redeems the code, or joins the redemption that is under way, and answers
// within the time of a Check.
func (l *Login) land(ctx context.Context, r *authz.Request, code string, in *arrival) authz.Response {
	fl, owner, err := l.flights.join(in.attempt.mark, l.cfg.Now())
	switch {
	case errors.Is(err, errUsed):
		return l.refuse(r, "replayed", drop(l.againPage("This sign-in is finished", "Its answer was used before.", l.back(in.state)), in.attempt.cookie()))
	case err != nil:
		return l.refuse(r, "overloaded", busyPage())
	case owner:
		old := l.cards(r, in.gate)
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeTimeout)
		l.detached.Go(func() {
			defer cancel()
			l.fly(detached, r, code, in, fl.again, old)
		})
	default:
		l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "callback_replayed", slog.String("host", r.Host), slog.String("request_id", r.ID))
	}
	limit := time.NewTimer(l.cfg.CheckTimeout)
	defer limit.Stop()
	select {
	case <-fl.done:
		return l.landed(ctx, r, in, fl)
	case <-limit.C:
	case <-ctx.Done():
	}
	return l.working(r, in)
}

// working shows a page that loads the callback again. Another replica may get that
// request, so it says which one it is.
func (l *Login) working(r *authz.Request, in *arrival) authz.Response {
	if in.repeats >= maxRepeats {
		return l.refuse(r, "too_slow", drop(l.againPage("The sign-in took too long", "The sign-in service did not answer in time.", l.anew(in.gate, in.state)), in.attempt.cookie()))
	}
	query := r.RawQuery
	if i := strings.LastIndex(query, "&"+repeatParam+"="); i >= 0 {
		query = query[:i]
	}
	return stillWorkingPage(fmt.Sprintf("%s?%s&%s=%d", l.Address("callback"), query, repeatParam, in.repeats+1)).Response(r)
}

// fly is the detached part of a login: it goes on when the browser or the Check
// has given up, since a code that was sent cannot be taken back.
func (l *Login) fly(ctx context.Context, r *authz.Request, code string, in *arrival, again bool, old []card) {
	m, err := l.redeemSafely(ctx, r, code, in, again)
	outage := err != nil && !errors.Is(err, oidc.ErrRejected) && !errors.Is(err, session.ErrNotFound)
	l.flights.land(in.attempt.mark, m, err, outage, l.cfg.Now())
	if err == nil {
		l.endOld(ctx, r, old, m)
	}
}

func (l *Login) redeemSafely(ctx context.Context, r *authz.Request, code string, in *arrival, again bool) (m made, err error) {
	defer func() {
		if v := recover(); v != nil {
			l.cfg.Log.LogAttrs(ctx, slog.LevelError, "login_panic", slog.String("request_id", r.ID))
			m, err = made{}, errors.New("login panicked")
		}
	}()
	return l.redeem(ctx, r, code, in, again)
}

// redeem asks the store first: another replica may have finished this attempt, and
// while the store is down a code would be spent for nothing. A repeated request that
// is the first here belongs to a replica that has sent the code already: sent twice, a
// provider takes it for stolen (RFC 6749 section 4.1.2).
func (l *Login) redeem(ctx context.Context, r *authz.Request, code string, in *arrival, again bool) (made, error) {
	m, err := l.madeBefore(ctx, in.attempt)
	if !errors.Is(err, session.ErrNotFound) {
		return m, err
	}
	if in.repeats > 0 && !again {
		return made{}, errElsewhere
	}
	grant, err := in.gate.provider.Exchange(ctx, code, in.attempt.verifier, in.gate.redirectURI, in.attempt.nonce)
	if errors.Is(err, oidc.ErrRejected) { // perhaps because another replica was faster
		if m, again := l.madeBefore(ctx, in.attempt); again == nil {
			return m, nil
		}
	}
	if err != nil {
		return made{}, fmt.Errorf("exchange: %w", err)
	}
	id, s, err := l.cfg.Sessions.Create(ctx, in.attempt.mark, session.Session{
		Identity: grant.Identity, Begun: in.attempt.created, Until: l.until(grant),
		Tokens:  tokensOf(grant),
		Summary: session.Summary{Device: device(r), Address: clip(r.Peer.Client, 64)},
	})
	if err != nil {
		return made{}, fmt.Errorf("create session: %w", err)
	}
	l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "signed_in",
		slog.String("provider", in.gate.provider.Name()), slog.String("issuer", s.Identity.Issuer), slog.String("subject", s.Identity.Subject),
		slog.String("session", s.Handle.Name()), slog.String("host", r.Host), slog.String("request_id", r.ID))
	return made{id, s.Expires}, nil
}

// until is the end of a session that nothing can renew, where the operator wants users
// to sign in again rather than live on with what was true at their login.
func (l *Login) until(g *oidc.Grant) time.Time {
	if !l.cfg.Reauthenticate || g.Refresh != "" {
		return time.Time{}
	}
	return g.AccessExpires
}

func tokensOf(g *oidc.Grant) *session.Tokens {
	return &session.Tokens{
		Access: g.Access, Refresh: g.Refresh, ID: g.IDToken,
		AccessExpires: g.AccessExpires, ProviderSession: providerSession(g),
	}
}

func (l *Login) madeBefore(ctx context.Context, a attempt) (made, error) {
	id, s, err := l.cfg.Sessions.Made(ctx, a.mark)
	if err != nil {
		return made{}, fmt.Errorf("look for the attempt's session: %w", err)
	}
	return made{id, s.Expires}, nil
}

// endOld ends the session that the browser had before: whoever knew it must not
// share what comes after the login. With two different ones it cannot be told which
// was his, and nothing is ended.
//
// It waits a little: when several tabs sign in at once, each replaces the session of
// the one before, whose requests may still be on their way with the earlier cookie.
func (l *Login) endOld(ctx context.Context, r *authz.Request, old []card, m made) {
	if len(old) != 1 || old[0].id == m.id {
		return
	}
	select {
	case <-time.After(l.cfg.ReplacedLife):
	case <-l.leaving:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeTimeout)
	defer cancel()
	if err := l.cfg.Sessions.End(ctx, old[0].id); err != nil {
		l.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "old_session_not_ended", slog.String("session", old[0].id.Handle().Name()), slog.String("request_id", r.ID), slog.String("error", err.Error()))
	}
}

// landed answers with the result of a flight.
func (l *Login) landed(ctx context.Context, r *authz.Request, in *arrival, fl *flight) authz.Response {
	switch err := fl.err; {
	case err == nil:
		return l.signedIn(ctx, r, in, fl.made)
	case errors.Is(err, errElsewhere):
		return l.working(r, in)
	case errors.Is(err, session.ErrNotFound):
		p := l.againPage("You were signed out meanwhile", "Your account was signed out while you were signing in, so this sign-in does not count.", l.anew(in.gate, in.state))
		return l.refuse(r, "signed_out_meanwhile", drop(p, in.attempt.cookie()))
	case errors.Is(err, oidc.ErrRejected):
		p := l.againPage("The sign-in was refused", "The answer of the sign-in service did not pass the checks, or was used before.", l.anew(in.gate, in.state))
		return l.refuse(r, "rejected", drop(p, in.attempt.cookie()), slog.String("error", err.Error()))
	case errors.Is(err, oidc.ErrUnavailable):
		return l.refuse(r, "provider_unavailable", providerDownPage(l.anew(in.gate, in.state)), slog.String("error", err.Error()))
	case errors.Is(err, session.ErrFull):
		return l.refuse(r, "store_full", busyPage())
	default:
		return l.refuse(r, "store_unavailable", storeDownPage(), slog.String("error", err.Error()))
	}
}

// signedIn gives the browser its cookie and sends it where the login was for. On the
// login host that cookie saves the way to the provider for the next application.
func (l *Login) signedIn(ctx context.Context, r *authz.Request, in *arrival, m made) authz.Response {
	cookies := []authz.Field{
		setCookie(in.gate.cookie, l.sealCard(in.gate, card{m.id, m.expires, in.state.trail}), 0),
		clearCookie(in.attempt.cookie()),
	}
	if in.state.ask != nil {
		return l.handOver(ctx, r, in.state.ask, m, cookies...)
	}
	return Redirect(http.StatusSeeOther, in.state.address, cookies...)
}

func busyPage() Page {
	return Page{Status: http.StatusServiceUnavailable, Title: "Too many people are signing in", Text: []string{
		"There is no room for another session just now. Try again in a moment.",
	}, Header: []authz.Field{retryAfter(5 * time.Second)}}
}

func storeDownPage() Page {
	return Page{Status: http.StatusServiceUnavailable, Title: "Signing in is not possible just now", Text: []string{
		"The place where sign-ins are kept cannot be reached. Nothing is wrong with your account.",
		"Load this page again in a moment.",
	}, Header: []authz.Field{retryAfter(5 * time.Second)}}
}

// stillWorkingPage loads itself again until the exchange is done, without a script.
func stillWorkingPage(next string) Page {
	return Page{Status: http.StatusOK, Title: "Signing you in", Text: []string{
		"The sign-in service takes a little longer than usual. This page goes on by itself; there is nothing to do.",
	}, Header: []authz.Field{{Name: "refresh", Value: "1; url=" + next}}}
}

// device is what the list of sessions will call this browser.
func device(r *authz.Request) string {
	agent, _ := r.Header.Get("user-agent")
	return clip(agent, 200)
}

// clip keeps the printable ASCII of s, at most n bytes.
func clip(s string, n int) string {
	b := make([]byte, 0, min(n, len(s)))
	for i := 0; i < len(s) && len(b) < n; i++ {
		if s[i] >= ' ' && s[i] < 0x7f {
			b = append(b, s[i])
		}
	}
	return string(b)
}

func printable(s string) bool { return clip(s, len(s)) == s }
