package login

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// userinfo tells the application's scripts who is signed in. Never a token.
func (l *Login) userinfo(ctx context.Context, r *authz.Request) authz.Response {
	if r.Method != http.MethodGet {
		return Render(r, authz.Problem{Status: http.StatusMethodNotAllowed})
	}
	q, err := parseQuery(r.RawQuery)
	if err != nil {
		return Render(r, authz.Problem{Status: http.StatusBadRequest})
	}
	refused := authz.Problem{Status: http.StatusUnauthorized}
	for _, g := range l.hosts[r.Host].gates {
		if name := q["provider"]; name != "" && name != g.provider.Name() {
			continue
		}
		s, err := l.recognise(ctx, r, g, false)
		if err == nil {
			return JSON(http.StatusOK, describe(s.Identity, s.Expires), authz.Field{Name: "cross-origin-resource-policy", Value: "same-origin"})
		}
		if !errors.Is(err, authz.ErrNoCredentials) && !errors.Is(err, authz.ErrBadCredentials) {
			return Render(r, authz.Problem{Status: http.StatusServiceUnavailable, RetryAfter: time.Second})
		}
		if refused.Challenge.WWWAuthenticate == "" {
			refused.Challenge.WWWAuthenticate = g.challenge
		}
	}
	return Render(r, refused)
}

type userinfoAnswer struct {
	Provider          string    `json:"provider"`
	Issuer            string    `json:"issuer"`
	Subject           string    `json:"sub"`
	User              string    `json:"user"`
	Email             string    `json:"email,omitempty"`
	EmailVerified     bool      `json:"email_verified"`
	PreferredUsername string    `json:"preferred_username,omitempty"`
	Groups            []string  `json:"groups,omitempty"`
	Expires           time.Time `json:"expires"`
}

func describe(id *authz.Identity, expires time.Time) userinfoAnswer {
	return userinfoAnswer{
		Provider: id.Provider, Issuer: id.Issuer, Subject: id.Subject, User: id.User, Email: id.Email, EmailVerified: id.EmailVerified,
		PreferredUsername: id.PreferredUsername, Groups: id.Groups, Expires: expires.UTC(),
	}
}
