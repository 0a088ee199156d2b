package logout

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
)

// askErase says what erasing means before it is done.
func (l *Logout) askErase(_ context.Context, r *authz.Request, accounts []*account) authz.Response {
	a := chosen(r, accounts)
	if a == nil {
		return login.Redirect(http.StatusSeeOther, l.address("sessions"))
	}
	return login.Page{
		Status: http.StatusOK, Title: "Erase what is stored about you?",
		Text: []string{
			fmt.Sprintf("This ends %s of %s, on every device, and deletes what is stored with them.", signIns(len(a.listed)), a.name()),
			"You can sign in again afterwards. Your account at the sign-in service and what this service has logged are not touched.",
		},
		Actions: []login.Action{
			{Label: "Erase and sign out everywhere", Address: at(l.address("sessions/erase"), "provider", a.identity().Provider), Post: true},
			{Label: "Keep everything", Address: l.address("sessions")},
		},
		Referrer: "same-origin",
	}.Response(r)
}

// erase ends every session of a user and so deletes his records.
func (l *Logout) erase(ctx context.Context, r *authz.Request, accounts []*account) authz.Response {
	a := chosen(r, accounts)
	if a == nil {
		return login.Render(r, authz.Problem{Status: http.StatusBadRequest})
	}
	n, err := l.eraseAll(ctx, r, a)
	if err != nil {
		l.note(ctx, r, slog.LevelError, "erase_failed", a, slog.Int("ended", n), slog.String("error", err.Error()))
		return l.notEnded(r)
	}
	l.note(ctx, r, slog.LevelInfo, "data_erased", a, slog.Int("ended", n))
	var clear []authz.Field
	for _, s := range a.here {
		clear = append(clear, s.Clear)
	}
	if !login.ByPerson(r) {
		return login.JSON(http.StatusOK, map[string]int{"ended": n}, clear...)
	}
	return login.Page{
		Status: http.StatusOK, Title: "It is erased",
		Text: []string{fmt.Sprintf("%s of %s ended on every device. Erased with them:", capital(signIns(n)), a.name())},
		Causes: []string{
			"who you are: name, e-mail address, groups and everything else the sign-in service said about you",
			"the tokens of the sign-in service",
			"device, address and time of each sign-in",
		},
		Actions: []login.Action{{Label: "Sign in again", Address: l.address("sessions")}},
		Header:  clear,
	}.Response(r)
}

// eraseAll ends all other sessions of a user, and this browser's last: as long as
// something is left to try again, he is signed in to do so. These end by their IDs,
// which open them and so lead to every place where they are listed. It returns how many
// ended.
func (l *Logout) eraseAll(ctx context.Context, r *authz.Request, a *account) (int, error) {
	var carried []login.Carried
	for _, s := range a.here {
		carried = append(carried, login.Carried{Provider: s.Provider, ID: s.ID})
	}
	tokens := l.tokens(ctx, carried)
	n, err := l.cfg.Sessions.EndUser(ctx, a.identity().Issuer, a.identity().Subject, a.handles()...)
	if err != nil {
		return n, err
	}
	for _, c := range carried {
		if err := l.cfg.Sessions.End(ctx, c.ID); err != nil {
			return n, fmt.Errorf("end own session: %w", err)
		}
		n++
		l.revoke(ctx, r, c.Provider, c.ID.Handle().Name(), tokens[c.ID])
	}
	return n, nil
}

// name is what a person calls the account.
func (a *account) name() string {
	id := a.identity()
	for _, name := range []string{id.PreferredUsername, id.Email, id.User} {
		if name != "" {
			return name
		}
	}
	return id.Subject
}

func signIns(n int) string {
	if n == 1 {
		return "1 sign-in"
	}
	return fmt.Sprintf("all %d sign-ins", n)
}

func capital(s string) string {
	if s[0] == 'a' {
		return "A" + s[1:]
	}
	return s
}
