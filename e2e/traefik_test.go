//go:build traefik

package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// With this tag the tests of forward auth know one proxy: the others are tested without it.
func init() { asking = []string{"traefik"} }

// Traefik is asked for what the other proxies are, and for what its middleware alone promises.
func TestETraefik(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"C1_C2": TestForwardAuth_C1_C2, "Method": TestForwardAuth_Method, "A1_A3": TestForwardAuth_A1_A3,
		"P12": TestForwardAuth_P12, "D8_E4": TestForwardAuth_D8_E4, "G3": TestForwardAuth_G3,
	} {
		t.Run(name, test)
	}
	t.Run("deep link", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, fixture{proxy: "traefik"})
		a := get(t, s.port, s.authority(appHost), "/deep?a=1&b=2", navigation...)
		if want := s.url(appHost, "/oauth2/start?rd="); a.Status != http.StatusFound || !strings.HasPrefix(a.Header.Get("location"), want) {
			t.Errorf("anonymous navigation: %v, want 302 to %s", a, want)
		}
		neverArrived(t, s.app, "/deep")
	})
	// Whatever a client sends under a name of Gatehouse's is taken away, however often it
	// comes. Who spells one so that an application may read it as another is refused.
	t.Run("forged", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, fixture{proxy: "traefik"})
		var own []string
		for _, name := range []string{
			"x-auth-request-user", "X-AUTH-REQUEST-USER", "x-auth-request-email", "x-auth-request-groups", "x-auth-request-access-token",
			"x-auth-request-anything", "x-forwarded-user", "X-Forwarded-Groups", "x-forwarded-access-token",
		} {
			own = append(own, name+": spoof")
		}
		cookie := "cookie: " + s.session(t, appHost, "alice")
		for _, c := range []struct {
			host, user string
			lines      []string
		}{
			{openHost, "", nil},
			{apiHost, "machine", bearer(s.idp.Bearer(nil))},
			{s.authority(appHost), "alice", []string{cookie}},
			// Else the client had what is set for it removed again.
			{s.authority(appHost), "alice", []string{cookie, "connection: close, x-auth-request-user, x-auth-request-groups"}},
		} {
			got := get(t, s.port, c.host, "/x", append(c.lines, own...)...).seen(t)
			for _, line := range got.Lines {
				if line[1] == "spoof" {
					t.Errorf("%s: %q arrived", c.host, line)
				}
			}
			if user := strings.Join(got.values("x-auth-request-user"), "|"); user != c.user {
				t.Errorf("%s with %q: user %q, want %q", c.host, c.lines, user, c.user)
			}
		}
		for _, name := range []string{"x_auth_request_user", "X-Auth_Request-User", "x.auth.request.user", "x_auth_request_groups", "x_forwarded_user"} {
			if a := get(t, s.port, openHost, "/refused", name+": spoof"); a.Status != http.StatusBadRequest {
				t.Errorf("%s: %v, want 400", name, a)
			}
		}
		neverArrived(t, s.app, "/refused")
	})
}
