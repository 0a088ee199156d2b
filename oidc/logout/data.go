package logout

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
)

// data is what is stored about a user, except tokens: they are keys, no data, and
// nobody but us may hold them.
type data struct {
	Written  time.Time     `json:"written"`
	Accounts []accountData `json:"accounts"`
}

type accountData struct {
	Issuer   string         `json:"issuer"`
	Subject  string         `json:"subject"`
	Sessions []identityData `json:"this_browser"` // with what the provider said at the login
	SignIns  []signInData   `json:"sign_ins"`
}

type identityData struct {
	Session           string       `json:"session"`
	Provider          string       `json:"provider"`
	User              string       `json:"user"`
	Email             string       `json:"email,omitempty"`
	EmailVerified     bool         `json:"email_verified"`
	PreferredUsername string       `json:"preferred_username,omitempty"`
	Groups            []string     `json:"groups,omitempty"`
	Audience          []string     `json:"audience,omitempty"`
	Claims            authz.Claims `json:"claims,omitempty"`
	Created           time.Time    `json:"created"`
	Expires           time.Time    `json:"expires"`
}

type signInData struct {
	Session string    `json:"session"`
	Device  string    `json:"device"`
	Address string    `json:"address"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"`
	Here    bool      `json:"this_browser"`
}

// download hands out all of it, every sign-in included. What the provider said at a
// login on another device opens only with that device's cookie, so it is not there.
func (l *Logout) download(ctx context.Context, r *authz.Request, accounts []*account) authz.Response {
	d := data{Written: utc(time.Now())}
	for _, a := range accounts {
		d.Accounts = append(d.Accounts, a.data())
		l.note(ctx, r, slog.LevelInfo, "data_downloaded", a, slog.Int("sign_ins", len(a.listed)))
	}
	return login.JSON(http.StatusOK, d,
		authz.Field{Name: "content-disposition", Value: `attachment; filename="sign-ins.json"`},
		authz.Field{Name: "cross-origin-resource-policy", Value: "same-origin"})
}

func (a *account) data() accountData {
	d := accountData{Issuer: a.identity().Issuer, Subject: a.identity().Subject}
	for _, s := range a.here {
		i := s.Session.Identity
		d.Sessions = append(d.Sessions, identityData{
			Session: i.Session, Provider: i.Provider, User: i.User, Email: i.Email, EmailVerified: i.EmailVerified, PreferredUsername: i.PreferredUsername,
			Groups: i.Groups, Audience: i.Audience, Claims: i.Claims, Created: utc(s.Session.Created), Expires: utc(s.Session.Expires),
		})
	}
	for _, s := range a.listed {
		d.SignIns = append(d.SignIns, signInData{
			Session: s.Handle.Name(), Device: s.Summary.Device, Address: s.Summary.Address,
			Created: utc(s.Created), Seen: utc(s.Seen), Here: a.isHere(s.Handle),
		})
	}
	return d
}
