package authz_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func passing(t *testing.T) *authz.Authorizer {
	t.Helper()
	a, err := authz.New(authz.Config{
		Passage: authz.Passage{Authority: "auth.test", Prefix: "/oauth2"},
		Policy: policy(t,
			authz.Rule{Name: "portal", Hosts: []string{"auth.test"}, Paths: []string{"/portal/**"}, Anonymous: true},
			authz.Rule{Name: "app", Hosts: []string{"app.test"}, Anonymous: true},
			authz.Rule{Name: "wide", Hosts: []string{"*.wide.test"}, Anonymous: true}),
		Endpoints: func(host, path string) authz.Endpoint {
			if strings.HasPrefix(path, "/oauth2/") && (host == "auth.test" || host == "app.test") {
				return echo
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Exactly the prefix on exactly the login host is let through, under every reading
// of the path (P*, H*).
func TestPassage(t *testing.T) {
	t.Parallel()
	a := passing(t)
	for _, c := range []struct {
		host, target string
		outcome      authz.Outcome
		status       int
		reason       string
	}{
		{"auth.test", "/oauth2", authz.Allow, 0, "passage"},
		{"auth.test", "/oauth2/", authz.Allow, 0, "passage"},
		{"auth.test", "/oauth2/start?req=x", authz.Allow, 0, "passage"},
		{"AUTH.test", "/oauth2/callback?code=a%2Fb", authz.Allow, 0, "passage"},
		{"auth.test.", "/oauth2/start", authz.Answer, 200, "endpoint"},
		{"auth.test:8443", "/oauth2/start", authz.Answer, 200, "endpoint"},
		{"auth.test:443", "/oauth2", authz.Deny, 403, "no_rule"},
		{"auth.test", "/oauth2/a%20b", authz.Allow, 0, "passage"},
		{"auth.test", "/portal/x", authz.Allow, 0, "anonymous"},
		{"auth.test", "/", authz.Deny, 403, "no_rule"},
		{"auth.test", "/oauth2x", authz.Deny, 403, "no_rule"},
		{"auth.test", "/OAUTH2/start", authz.Deny, 403, "no_rule"},
		{"auth.test", "/oauth2/..%2fadmin", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "/oauth2/../admin", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "/oauth2%2fstart", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "/oauth2;x/start", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "//oauth2/start", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "/portal/../oauth2/start", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "/portal/%252e%252e/oauth2/start", authz.Deny, 400, "ambiguous_path"},
		{"auth.test", "/oauth2/a%2fb;x//c", authz.Allow, 0, "passage"}, // below the prefix whatever one does
		{"auth.test", "/oauth2/" + strings.Repeat(`%255c..%252f;x/%2e/`, 200), authz.Deny, 400, "ambiguous_path"},
		{"app.test", "/oauth2/start", authz.Answer, 200, "endpoint"},
		{"x.auth.test", "/oauth2/start", authz.Deny, 403, "no_rule"},
		{"auth.wide.test", "/oauth2/start", authz.Allow, 0, "anonymous"},
	} {
		d := a.Authorize(t.Context(), request(t, "GET", c.host, c.target))
		if d.Outcome != c.outcome || d.Response.Status != c.status || d.Reason != c.reason {
			t.Errorf("GET %s%.60s = %v %d %s, want %v %d %s", c.host, c.target, d.Outcome, d.Response.Status, d.Reason, c.outcome, c.status, c.reason)
		}
	}
}

// Our listener gets our cookies; nobody's word for an identity travels along (S*).
func TestPassageKeepsCookiesAndRemovesIdentities(t *testing.T) {
	t.Parallel()
	d := passing(t).Authorize(t.Context(), request(t, "POST", "auth.test", "/oauth2/backchannel-logout",
		authz.Field{Name: "cookie", Value: "__Host-gh_corp=abc; other=1"}, authz.Field{Name: "x_auth_request_user", Value: "root"}))
	if d.Outcome != authz.Allow || len(d.Set) != 0 || slices.Contains(d.Remove, "cookie") || d.Identity != nil {
		t.Errorf("Authorize = %v, set %v, remove %q, identity %v; want the request unchanged", d.Outcome, d.Set, d.Remove, d.Identity)
	}
	for _, name := range []string{"x-auth-request-user", "x-auth-request-access-token", "x-forwarded-user", "x_auth_request_user"} {
		if !slices.Contains(d.Remove, name) {
			t.Errorf("%s goes through", name)
		}
	}
}
