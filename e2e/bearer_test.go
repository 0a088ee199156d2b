package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// A script with a JWT gets through without a login; everything that is not
// exactly such a token does not.
func TestBearer(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{})
	good := s.idp.Bearer(nil)
	a := get(t, s.port, apiHost, "/v1/x?q=1", "authorization: Bearer "+good)
	arrived := a.seen(t)
	if got := arrived.values("x-auth-request-user"); !slices.Equal(got, []string{"machine"}) {
		t.Errorf("user header = %q, want machine", got)
	}
	if arrived.Target != "/v1/x?q=1" {
		t.Errorf("target = %q", arrived.Target)
	}
	get(t, s.port, apiHost, "/v1/x", "authorization: bearer "+good).seen(t) // S8: the scheme is case-insensitive

	stranger, err := oidctest.New(oidctest.Config{Issuer: s.idp.Issuer()})
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour).Unix()
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"none", nil},
		{"J11 wrong audience", bearer(s.idp.Bearer(map[string]any{"aud": "other"}))},
		{"no audience", bearer(s.idp.Bearer(map[string]any{"aud": nil}))},
		{"expired", bearer(s.idp.Bearer(map[string]any{"iat": old - 300, "exp": old}))},
		{"no expiry", bearer(s.idp.Bearer(map[string]any{"exp": nil}))},
		{"other issuer", bearer(s.idp.Bearer(map[string]any{"iss": "https://c.test"}))},
		{"other key", bearer(stranger.Bearer(nil))},
		{"J1 none", bearer(s.idp.Bearer(nil, func(j *oidctest.JWT) { j.Alg = "none" }))},
		{"J2 HS256", bearer(s.idp.Bearer(nil, func(j *oidctest.JWT) { j.Alg, j.Secret = "HS256", []byte(s.client.secret) }))},
		{"flipped signature", bearer(oidctest.FlipSignature(good))},
		{"id token", bearer(s.idp.IDToken("root", s.client.id, "n"))},
		{"garbage", bearer("garbage")},
		{"three garbage parts", bearer("a.b.c")},
		{"16 KiB of garbage", bearer(strings.Repeat("a.", 8<<10))},
		{"scheme only", []string{"authorization: Bearer"}},
		{"S7 two lines", append(bearer(good), bearer(good)...)},
		{"S7 joined", bearer(good + ", Bearer " + good)},
		{"trailing comma", bearer(good + ",")},
		{"basic", []string{"authorization: Basic bWVzaDpzZWNyZXQ="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := get(t, s.port, apiHost, "/refused", append(c.lines, navigation...)...)
			if a.Status != http.StatusUnauthorized && (a.Status != http.StatusBadRequest || !strings.Contains(c.name, "S7") && c.name != "trailing comma") {
				t.Errorf("answer %v, want 401", a)
			}
			if a.Status == http.StatusUnauthorized && !strings.HasPrefix(a.Header.Get("www-authenticate"), "Bearer") {
				t.Errorf("www-authenticate = %q", a.Header.Get("www-authenticate"))
			}
			if a.Header.Get("cache-control") != "no-store" || a.Header.Get("location") != "" {
				t.Errorf("header %v, want no-store and no location", a.Header)
			}
		})
	}
	// S12: a token in the query is no credential.
	if a := get(t, s.port, apiHost, "/refused?access_token="+good); a.Status != http.StatusUnauthorized {
		t.Errorf("token in the query: %v, want 401", a)
	}
	// Who is recognised and not allowed is 403.
	if a := get(t, s.port, apiHost, "/refused", bearer(s.idp.Bearer(map[string]any{"sub": "other"}))...); a.Status != http.StatusForbidden {
		t.Errorf("other subject: %v, want 403", a)
	}
	neverArrived(t, s.app, "/refused")
}

// S9: on a rule with both, a bearer token is judged alone, also beside a good cookie.
func TestBearerBesideCookie(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{})
	cookie := "cookie: " + s.session(t, bothHost, "root")
	if got := get(t, s.port, bothHost, "/x", cookie).seen(t).values("x-auth-request-user"); !slices.Equal(got, []string{"root"}) {
		t.Errorf("cookie alone: user %q, want root", got)
	}
	arrived := get(t, s.port, bothHost, "/x", append(bearer(s.idp.Bearer(nil)), cookie)...).seen(t)
	if got := arrived.values("x-auth-request-user"); !slices.Equal(got, []string{"machine"}) {
		t.Errorf("token and cookie: user %q, want machine", got)
	}
	if got := arrived.values("x-auth-request-groups"); got != nil {
		t.Errorf("token and cookie: groups %q are the cookie's", got)
	}
	if a := get(t, s.port, bothHost, "/refused", append(bearer("a.b.c"), cookie)...); a.Status != http.StatusUnauthorized {
		t.Errorf("bad token beside a good cookie: %v, want 401", a)
	}
	neverArrived(t, s.app, "/refused")
}

func bearer(token string) []string {
	note("bearer token", token)
	return []string{"authorization: Bearer " + token}
}

// neverArrived fails when the application received a request whose target begins with prefix.
func neverArrived(t testing.TB, a *app, prefix string) {
	t.Helper()
	for _, s := range a.requests() {
		if strings.HasPrefix(s.Target, prefix) {
			t.Errorf("the application received %s %s", s.Method, s.Target)
		}
	}
}
