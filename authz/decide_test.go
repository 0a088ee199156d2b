package authz_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// source is an Authenticator that answers what the test says.
type source struct {
	identity  *authz.Identity
	err       error
	challenge authz.Challenge
	asked     int
}

func (s *source) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	s.asked++
	return s.identity, s.err
}

func (s *source) Challenge(*authz.Request, error) authz.Challenge { return s.challenge }

func alice() *authz.Identity {
	return &authz.Identity{
		Provider: "corp", Issuer: "https://idp.test", Subject: "alice", User: "alice",
		Email: "alice@good.test", EmailVerified: true, Groups: []string{"staff"},
	}
}

func policy(t testing.TB, rules ...authz.Rule) *authz.Policy {
	t.Helper()
	p, err := authz.NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func login(s *source) []authz.Source {
	return []authz.Source{{Provider: "corp", Login: true, Authenticator: s}}
}

func request(t *testing.T, method, host, target string, header ...authz.Field) *authz.Request {
	t.Helper()
	r, err := authz.NewRequest(authz.Raw{Method: method, Authority: host, Target: target, Header: header})
	if err != nil {
		t.Fatalf("NewRequest(%s %s%s): %v", method, host, target, err)
	}
	return r
}

var navigation = []authz.Field{{Name: "sec-fetch-mode", Value: "navigate"}, {Name: "sec-fetch-dest", Value: "document"}}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	noCreds := fmt.Errorf("no cookie: %w", authz.ErrNoCredentials)
	signIn := authz.Challenge{Location: "/oauth2/start?rd=%2F", Clear: []authz.Field{{Name: "set-cookie", Value: "__Host-gh_corp=; Max-Age=0"}}}
	for _, tt := range []struct {
		name    string
		src     source
		require authz.Condition
		header  []authz.Field
		outcome authz.Outcome
		status  int
		reason  string
	}{
		{"known", source{identity: alice()}, authz.AnyUser(), nil, authz.Allow, 0, "allowed"},
		{"application's own token", source{identity: alice()}, authz.AnyUser(), []authz.Field{{Name: "authorization", Value: "Bearer t"}}, authz.Allow, 0, "allowed"},
		{"condition", source{identity: alice()}, authz.Groups("admins"), nil, authz.Deny, 403, "condition_failed"},
		{"fetch", source{err: noCreds, challenge: signIn}, authz.AnyUser(), nil, authz.Deny, 401, "no_credentials"},
		{"navigation", source{err: noCreds, challenge: signIn}, authz.AnyUser(), navigation, authz.Deny, 302, "no_credentials"},
		{"bad", source{err: authz.ErrBadCredentials, challenge: signIn}, authz.AnyUser(), navigation, authz.Deny, 302, "bad_credentials"},
		{"open redirect", source{err: noCreds, challenge: authz.Challenge{Location: "//evil"}}, authz.AnyUser(), navigation, authz.Deny, 401, "no_credentials"},
		{"outage", source{err: context.DeadlineExceeded, challenge: signIn}, authz.AnyUser(), navigation, authz.Deny, 503, "unavailable"},
		{"nothing at all", source{}, authz.AnyUser(), nil, authz.Deny, 503, "unavailable"},
		{"no user E6", source{identity: &authz.Identity{Subject: "s", User: "\u00a0 "}}, authz.AnyUser(), nil, authz.Deny, 403, "condition_failed"},
		{"nobody E6", source{identity: &authz.Identity{Subject: " ", User: "x"}}, authz.AnyUser(), nil, authz.Deny, 403, "condition_failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			observed := 0
			a, err := authz.New(authz.Config{
				Policy:  policy(t, authz.Rule{Name: "app", Hosts: []string{"app.test"}, Sources: login(&tt.src), Require: tt.require}),
				Observe: func(*authz.Request, *authz.Decision, time.Duration) { observed++ },
			})
			if err != nil {
				t.Fatal(err)
			}
			d := a.Authorize(t.Context(), request(t, "GET", "app.test", "/", tt.header...))
			if d.Outcome != tt.outcome || d.Response.Status != tt.status || d.Reason != tt.reason {
				t.Errorf("Authorize = %v %d %s (%s), want %v %d %s", d.Outcome, d.Response.Status, d.Reason, d.Detail, tt.outcome, tt.status, tt.reason)
			}
			if observed != 1 {
				t.Errorf("observed %d times, want once", observed)
			}
			if d.Outcome == authz.Deny && value(d.Response.Header, "cache-control") != "no-store" {
				t.Error("denial may be cached")
			}
			if _, cleared := authz.Header(d.Response.Header).Get("set-cookie"); tt.status == 503 && cleared > 0 {
				t.Error("an outage clears cookies")
			}
			if tt.status == 503 && value(d.Response.Header, "retry-after") == "" {
				t.Error("503 without Retry-After")
			}
			if want := "/oauth2/start?rd=%2F"; tt.status == 302 && value(d.Response.Header, "location") != want {
				t.Errorf("location = %q, want %q", value(d.Response.Header, "location"), want)
			}
		})
	}
}

func value(h []authz.Field, name string) string {
	v, _ := authz.Header(h).Get(name)
	return v
}
