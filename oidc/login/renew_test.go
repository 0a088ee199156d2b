package login_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// renewable signs alice in at a provider that gives refresh tokens, and returns her
// session with its tokens.
func renewable(t *testing.T) (*world, *session.Session) {
	t.Helper()
	w := newWorld(t)
	w.idp = oidctest.Start(t, oidctest.Config{AutoLogin: "alice", AlwaysRefresh: true})
	w.provider = w.newProvider("corp", w.idp.Issuer())
	w.assemble(w.config())
	b := w.browser()
	b.signIn("/x")
	r := check(authz.NewRequest(authz.Raw{Method: "GET", Authority: host, Target: "/", Header: authz.Header{{Name: "cookie", Value: b.cookies()}}}))(t)
	s := check(w.sessions.Load(t.Context(), w.login.Carried(r)[0].ID, true))(t)
	return w, s
}

func TestRenew(t *testing.T) {
	t.Parallel()
	w, s := renewable(t)
	renew := login.Renew(func(name string) *oidc.Provider {
		if name != "corp" {
			t.Errorf("provider %q was looked for", name)
		}
		return w.provider
	}, nil)
	before := *s.Tokens
	renewed := check(renew(t.Context(), s))(t)
	if renewed.Tokens.Access == before.Access || renewed.Tokens.Refresh == before.Refresh || renewed.Tokens.ID == "" || renewed.Identity.Subject != "alice" || renewed.Expires != s.Expires {
		t.Errorf("the session was not renewed as it should: %+v", renewed)
	}
	if *s.Tokens != before {
		t.Error("the session that was given has changed")
	}
}

// F4: only the provider's word that the grant is over ends a session.
func TestF4RenewFails(t *testing.T) {
	t.Parallel()
	w, s := renewable(t)
	for name, c := range map[string]struct {
		script  oidctest.Script
		find    func(string) *oidc.Provider
		session func(*session.Session)
		revoked bool
	}{
		"invalid_grant":    {script: oidctest.OAuthError("invalid_grant"), revoked: true},
		"500":              {script: oidctest.Status(500)},
		"down":             {script: oidctest.Down},
		"nonsense":         {script: oidctest.Garbage},
		"not configured":   {find: func(string) *oidc.Provider { return nil }},
		"another issuer":   {find: func(string) *oidc.Provider { return w.newProvider("corp", "https://other.example.com") }},
		"no refresh token": {session: func(s *session.Session) { s.Tokens = &session.Tokens{Access: "a"} }},
		"no tokens":        {session: func(s *session.Session) { s.Tokens = nil }},
		"no identity":      {session: func(s *session.Session) { s.Identity = nil }},
	} {
		hits := w.idp.Hits(oidctest.Token)
		if c.script != nil {
			w.idp.Next(oidctest.Token, c.script)
		}
		if c.find == nil { // a new one each: after an outage a provider is left alone for a while
			p := w.newProvider("corp", w.idp.Issuer())
			c.find = func(string) *oidc.Provider { return p }
		}
		one := *s
		if c.session != nil {
			c.session(&one)
		}
		renewed, err := login.Renew(c.find, nil)(t.Context(), &one)
		if err == nil || renewed != nil || errors.Is(err, session.ErrRevoked) != c.revoked {
			t.Errorf("%s: %v, %v; want ErrRevoked %v", name, renewed, err, c.revoked)
		}
		if asked := w.idp.Hits(oidctest.Token) > hits; asked != (c.script != nil) {
			t.Errorf("%s: the provider was asked %v", name, asked)
		}
	}
}
