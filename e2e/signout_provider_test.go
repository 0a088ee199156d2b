package e2e

import (
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// G1: the local session dies first and at once, also when its access token is over and
// the provider is down or does not answer.
func TestSignOutWithoutProvider(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]oidctest.Script{"down": oidctest.Down, "slow": oidctest.Slow(20 * time.Second)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, fixture{redis: true, replicas: 3, offline: true, checkTimeout: "1s"})
			s.idp.Always(oidctest.Token, byGrant(lives(2), nil))
			cookie := s.session(t, appHost, "alice")
			s.idp.AlwaysAll(script)
			time.Sleep(2200 * time.Millisecond)
			begin := time.Now()
			if v := s.signOut(t, s.gatehouse.checks, appHost, cookie); !wentOut(v) {
				t.Errorf("sign-out: %v, want 303 and the cookie cleared", v)
			}
			t.Logf("the sign-out took %v", time.Since(begin).Round(time.Millisecond))
			s.everywhere(t, cookie, signedOut)
			if keys := s.redis.sessions(t); len(keys) != 0 {
				t.Errorf("records %q are left", keys)
			}
		})
	}
}
