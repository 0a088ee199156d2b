package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// The table of outages, row "provider": whatever it does short of saying "over", who is
// signed in stays so. Served until the token's end plus provider_grace, then 503; who
// gets tokens forwarded has 503 from the token's end.
func TestProviderFaults(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name   string
		script oidctest.Script
		logins bool // a login is refused at once, so it can be shown
	}{
		{"down", oidctest.Down, true},
		{"slow", oidctest.Slow(20 * time.Second), false},
		{"500", oidctest.Status(http.StatusInternalServerError), true},
		{"429", oidctest.Status(http.StatusTooManyRequests), true},
		{"nonsense", oidctest.Scripts(oidctest.Garbage, func(a *oidctest.Answer) { a.Undo = true }), true}, // else the refresh token is spent
		{"another error", oidctest.OAuthError("temporarily_unavailable"), true},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			const life, grace = 3, 4
			s := newStack(t, fixture{redis: true, replicas: 2, offline: true, checkTimeout: "1s", sessions: []string{fmt.Sprintf("provider_grace: %ds", grace)}})
			s.idp.Always(oidctest.Token, byGrant(lives(life), nil))
			begin := time.Now()
			app := s.gather(t, appHost, 2)
			tokens := s.gather(t, tokensHost, 1)
			s.idp.Always(oidctest.Token, f.script)
			in := func(seconds float64) time.Duration {
				return until(begin.Add(time.Duration(seconds * float64(time.Second))))
			}
			app.during(t, "token alive", false, in(life-0.3), nil).only(t, "token alive", allowed)
			if f.logins {
				s.loginFails(t, f.name, providerDown)
			}
			s.ready(t, f.name, "ready")
			time.Sleep(in(life + 1))
			forwarded := tokens.during(t, "token over, forwarded", false, 0, func() {
				app.during(t, "token over, within provider_grace", false, in(life+grace-1.2), nil).only(t, "within provider_grace", allowed)
			})
			forwarded.only(t, "token over, forwarded", refused)
			time.Sleep(in(life + grace + 1.5))
			app.during(t, "after provider_grace", false, time.Second, nil).only(t, "after provider_grace", refused)
			s.idp.Always(oidctest.Token, nil)
			app.settle(t, 60*time.Second)
			tokens.settle(t, 60*time.Second)
		})
	}
}

// F4: "invalid_grant" is the one answer that ends a session, everywhere.
func TestProviderSaysOver(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, offline: true})
	s.idp.Always(oidctest.Token, byGrant(lives(1), oidctest.OAuthError("invalid_grant")))
	cookie := s.session(t, appHost, "alice")
	time.Sleep(1300 * time.Millisecond)
	for i, g := range s.replicas {
		if v := g.checks.get(t.Context(), appHost, "/refused", "cookie: "+cookie); v.outcome() != signedOut {
			t.Errorf("replica %d: %v, want signed out", i, v)
		}
	}
	if keys := s.redis.sessions(t); len(keys) != 0 {
		t.Errorf("records %q are left", keys)
	}
}

// A replica that starts while the provider is down serves who has a session.
func TestStartWithoutProvider(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 2, faults: true})
	cookie := "cookie: " + s.session(t, appHost, "alice")
	s.provider.down()
	s.gatehouse.terminate(t, 20*time.Second)
	s.gatehouse.up(t)
	if v := s.gatehouse.checks.get(t.Context(), appHost, "/late", cookie); v.user() != "alice" {
		t.Errorf("started without a provider: %v, want alice served", v)
	}
	if v := s.gatehouse.checks.get(t.Context(), openHost, "/open"); v.outcome() != allowed {
		t.Errorf("anonymous rule: %v", v)
	}
	v := s.gatehouse.checks.get(t.Context(), appHost, "/oauth2/start?rd=%2F", navigation...)
	if v.outcome() != refused || v.Header.Get("retry-after") == "" || !strings.Contains(v.Body, providerDown) {
		t.Errorf("login without a provider: %v, want 503 with Retry-After and %q", v, providerDown)
	}
	v = s.gatehouse.checks.get(t.Context(), apiHost, "/refused", bearer(s.idp.Bearer(nil))...)
	if v.outcome() != refused || v.Header.Get("retry-after") == "" {
		t.Errorf("bearer token without keys: %v, want 503 with Retry-After", v)
	}
	s.provider.up()
	eventually(t, 45*time.Second, func() error {
		if v := s.gatehouse.checks.get(t.Context(), apiHost, "/now", bearer(s.idp.Bearer(nil))...); v.outcome() != allowed {
			return fmt.Errorf("provider back: %v", v)
		}
		return nil
	})
}
