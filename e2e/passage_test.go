package e2e

import (
	"fmt"
	"testing"
)

// TestPassageIsTheLoginHostAlone: Envoy picks a virtual host by the very text of the
// authority. What it does not take for the login host must not pass for it either: an
// application behind a virtual host for everything would get it unjudged.
func TestPassageIsTheLoginHostAlone(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{login: true})
	for _, authority := range []string{
		loginHost, loginHost + ".", loginHost + ":1", fmt.Sprintf("%s.:%d", loginHost, s.port), loginHost + ":443", loginHost + ":080",
	} {
		for _, path := range []string{"/oauth2/refused", "/oauth2/start", "/oauth2"} {
			if a := get(t, s.port, authority, path); a.Status == 200 && a.Header.Get("set-cookie") != "" {
				t.Errorf("%s%s: %v", authority, path, a)
			}
		}
	}
	neverArrived(t, s.app, "/oauth2")
	if a := get(t, s.port, fmt.Sprintf("%s:%d", "AUTH.localhost", s.port), "/oauth2/no-such-page"); a.Status != 404 {
		t.Errorf("the login host in capitals: %v, want the HTTP listener's 404", a)
	}
}
