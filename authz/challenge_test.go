package authz_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// speaks fails with err and says so in its challenge.
type speaks struct {
	name string
	err  error
	id   *authz.Identity
}

func (s *speaks) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	return s.id, s.err
}

func (s *speaks) Challenge(_ *authz.Request, err error) authz.Challenge {
	return authz.Challenge{WWWAuthenticate: fmt.Sprintf("Bearer realm=%q", s.name+": "+err.Error())}
}

// A token of another issuer says nothing: what the source of its issuer says counts,
// in the log and to the client.
func TestForeignCredentials(t *testing.T) {
	t.Parallel()
	expired := fmt.Errorf("%w: expired", authz.ErrBadCredentials)
	for _, tt := range []struct {
		name              string
		a, b              error
		detail, challenge string
	}{
		{"known to the second", authz.ErrForeign, expired, "bad credentials: expired", `Bearer realm="b: bad credentials: expired"`},
		{"known to the first", expired, authz.ErrForeign, "bad credentials: expired", `Bearer realm="a: bad credentials: expired"`},
		{"known to none", authz.ErrForeign, authz.ErrForeign, authz.ErrForeign.Error(), `Bearer realm="a: bad credentials: not of this source", Bearer realm="b: bad credentials: not of this source"`},
	} {
		rule := authz.Rule{Name: "app", Hosts: []string{"app.test"}, Require: authz.AnyUser(), Sources: []authz.Source{
			{Provider: "a", Authenticator: &speaks{name: "a", err: tt.a}}, {Provider: "b", Authenticator: &speaks{name: "b", err: tt.b}},
		}}
		d := decide(t, rule, field("authorization", "Bearer t"))
		if d.Response.Status != 401 || d.Detail != tt.detail || value(d.Response.Header, "www-authenticate") != tt.challenge {
			t.Errorf("%s: %d, %q, %v; want %q, %q", tt.name, d.Response.Status, d.Detail, d.Response.Header, tt.detail, tt.challenge)
		}
	}
}

// RFC 6750 section 3.1: insufficient_scope is the one refusal for which another token
// would help; every other 403 says nothing about tokens.
func TestInsufficientScopeIsChallenged(t *testing.T) {
	t.Parallel()
	failing := func(err error) authz.Condition {
		return authz.Condition{Text: "test", Check: func(*authz.Request, *authz.Identity) error { return err }}
	}
	scope := fmt.Errorf("scope write: %w", authz.ErrInsufficientScope)
	other := errors.New("group admins")
	for _, tt := range []struct {
		name    string
		require authz.Condition
		token   bool
		want    bool
	}{
		{"scope", failing(scope), true, true},
		{"scope or group", authz.Any(failing(scope), failing(other)), true, true},
		{"group", failing(other), true, false},
		{"scope, of a session", failing(scope), false, false},
	} {
		machine, browser := &speaks{name: "machine", id: alice()}, &speaks{name: "browser", id: alice()}
		rule := authz.Rule{Name: "app", Hosts: []string{"app.test"}, Require: tt.require, Sources: []authz.Source{
			{Provider: "machines", Authenticator: machine}, {Provider: "corp", Login: true, Authenticator: browser},
		}}
		var header []authz.Field
		if tt.token {
			header = append(header, field("authorization", "Bearer t"))
		}
		d := decide(t, rule, header...)
		if got := value(d.Response.Header, "www-authenticate"); d.Response.Status != 403 || (got != "") != tt.want {
			t.Errorf("%s: %d with challenge %q, want one: %v", tt.name, d.Response.Status, got, tt.want)
		}
	}
}
