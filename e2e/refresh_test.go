package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// refreshes is a stack whose sessions are due soon after the login, at a provider that
// takes its time to answer a refresh. Refresh tokens rotate, and one that comes twice
// ends everything that came of it.
type refreshes struct {
	*stack
	asked atomic.Int64 // refreshes that oidctest was asked for
}

// shortLife is how long the access token of a login lives here, in seconds.
const shortLife = 2

const thinks = 3 * time.Second

func newRefreshes(t testing.TB, certified bool) *refreshes {
	t.Helper()
	r := &refreshes{}
	r.stack = newStack(t, fixture{certified: certified, redis: true, replicas: 3, offline: true, faults: certified, short: shortLife})
	if !certified {
		r.idp.Always(oidctest.Token, byGrant(lives(shortLife), counting(&r.asked, oidctest.Slow(thinks))))
	}
	return r
}

// expired signs alice in at host and returns her cookie when the access token is over.
func (r *refreshes) expired(t testing.TB, host string) (cookie string) {
	t.Helper()
	cookie = r.session(t, host, "alice")
	if r.certified != nil {
		r.provider.slow(thinks, 0)
	}
	time.Sleep(shortLife*time.Second + 300*time.Millisecond)
	return cookie
}

// count is how many refreshes the provider was asked for.
func (r *refreshes) count() int {
	if r.certified != nil {
		return r.certified.count("grant refresh_token")
	}
	return int(r.asked.Load())
}

var bothProviders = []struct {
	name      string
	certified bool
}{{"oidctest", false}, {"oidc-provider", true}}

// F1, F2: a hundred Checks at expiry over three replicas are one refresh at the
// provider, and everybody gets what came of it.
func TestRefreshHasOneOwner(t *testing.T) {
	for _, p := range bothProviders {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			r := newRefreshes(t, p.certified)
			cookie := "cookie: " + r.expired(t, tokensHost)
			var all tally
			var took spread
			var tokens sync.Map
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					begin := time.Now()
					v := r.replicas[i%3].checks.get(t.Context(), tokensHost, "/at-expiry", cookie)
					took.add(time.Since(begin))
					all.add(v)
					tokens.Store(v.Header.Get("x-auth-request-access-token"), v.user())
				})
			}
			wg.Wait()
			all.check(t, fmt.Sprintf("100 Checks at expiry (%v), %d refreshes", &took, r.count()), false)
			if n := all.count(allowed); n != 100 || r.count() != 1 {
				t.Errorf("%d of 100 were allowed by %d refreshes, want all by one", n, r.count())
			}
			n := 0
			tokens.Range(func(token, user any) bool {
				if n++; token == "" || user != "alice" {
					t.Errorf("a token of %d characters for %q", len(token.(string)), user)
				}
				note("access token", token.(string))
				return true
			})
			if n != 1 {
				t.Errorf("%d different access tokens were forwarded, want the new one alone", n)
			}
			r.lasting(t, cookie)
		})
	}
}

// lasting shows that the new tokens are everybody's and that no family was revoked.
func (r *refreshes) lasting(t *testing.T, cookie string) {
	for i, g := range r.replicas {
		if v := g.checks.get(t.Context(), tokensHost, "/after", cookie); v.outcome() != allowed {
			t.Errorf("replica %d afterwards: %v", i, v)
		}
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d refreshes in the end, want 1", n)
	}
	if r.certified != nil && r.certified.count("family revoked") != 0 {
		t.Error("the provider saw a refresh token twice")
	}
}

// F3, F9: the owner of a refresh dies half way. Nobody is sent away while that is
// unknown, and it costs one new login at most.
func TestRefreshOwnerDies(t *testing.T) {
	for _, p := range bothProviders {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			r := newRefreshes(t, p.certified)
			cookie := "cookie: " + r.expired(t, appHost)
			var all tally
			var wg sync.WaitGroup
			owner := r.gatehouse
			wg.Go(func() { owner.checks.get(t.Context(), appHost, "/owner", cookie) }) // its answer dies with it
			eventually(t, 5*time.Second, func() error {
				if n := len(r.redis.do(t, "KEYS", "gh:l:*")); n != 1 {
					return fmt.Errorf("%d leases, want that of the owner", n)
				}
				return nil
			})
			for i := range 99 {
				wg.Go(func() { all.add(r.replicas[1+i%2].checks.get(t.Context(), appHost, "/others", cookie)) })
			}
			time.Sleep(thinks / 2)
			_ = syscall.Kill(-owner.cmd.Process.Pid, syscall.SIGKILL)
			wg.Wait()
			all.check(t, "99 Checks while the owner died", false)
			logins, sent, left := r.goOn(t, cookie)
			t.Logf("afterwards: %v; %d new logins, %d refreshes of the first session", left, logins, sent)
			if logins > 1 {
				t.Errorf("%d new logins, want one at most", logins)
			}
			if left.count(failed)+left.count(refused) > 0 {
				t.Errorf("afterwards: %v, want nobody refused", left)
			}
			if sent > 2 {
				t.Errorf("%d refreshes of the session, want the dead owner's and one more at most", sent)
			}
		})
	}
}

// goOn is a person who keeps working for as long as a lease lives and signs in when
// sent to. It returns how often, and how many refreshes the provider was sent until then.
func (r *refreshes) goOn(t *testing.T, cookie string) (logins, sent int, c *tally) {
	c = &tally{}
	end := time.Now().Add(14 * time.Second)
	for i := 0; time.Now().Before(end); i++ {
		v := r.replicas[1+i%2].checks.get(t.Context(), appHost, "/on", cookie)
		c.add(v)
		if logins == 0 {
			sent = r.count()
		}
		if v.outcome() == signedOut {
			if logins++; logins > 3 {
				t.Fatal("signed out again and again")
			}
			cookie = "cookie: " + r.again(t)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return logins, sent, c
}

// again signs alice in where the first replica is gone.
func (r *refreshes) again(t *testing.T) string {
	t.Helper()
	if r.certified != nil {
		r.provider.heal()
		defer r.provider.slow(thinks, 0)
	}
	return r.session(t, appHost, "alice")
}
