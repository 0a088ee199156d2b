package e2e

import (
	"net/http"
	"testing"
)

// TestConditions: a rule in CEL with a condition under not, headers made of claims,
// and nobody else's word for them, behind a real Envoy.
func TestConditions(t *testing.T) {
	s := newStack(t, fixture{listeners: []listener{{normalise: true, rawHeaders: true}, {}}})
	alice, mallory := "cookie: "+s.session(t, appHost, "alice"), "cookie: "+s.session(t, appHost, "mallory")
	forged := []string{"x-badge: root", "x_badge: root", "X-None: root", "X.None: root"}
	for _, l := range s.listeners {
		got := get(t, l.port, appHost, "/composed/x", append(forged, alice)...).seen(t)
		for name, want := range map[string]string{"x-badge": "alice/alice@good.test", "x-auth-request-groups": "staff"} {
			if v := got.values(name); len(v) != 1 || v[0] != want {
				t.Errorf("%v: %s is %q, want %q", l, name, v, want)
			}
		}
		elsewhere := get(t, l.port, openHost, "/x", forged...).seen(t)
		for _, line := range append(got.Lines, elsewhere.Lines...) {
			if line[1] == "root" {
				t.Errorf("%v: S1: the forged %s arrived", l, line[0])
			}
		}
		if a := get(t, l.port, appHost, "/composed/x", mallory); a.Status != http.StatusForbidden {
			t.Errorf("%v: mallory, for whom the expression is false: %v, want 403", l, a)
		}
		if a := get(t, l.port, appHost, "/composed/x"); a.Status != http.StatusUnauthorized {
			t.Errorf("%v: nobody: %v, want 401", l, a)
		}
	}
}
