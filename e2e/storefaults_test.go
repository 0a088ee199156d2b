package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// The table of outages, row "store": a server that dies. D8.
func TestRedisKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, checkTimeout: "1s", sessions: []string{"store_grace: 8s"}})
	c := s.gather(t, appHost, 3)
	c.during(t, "before", false, time.Second, nil).only(t, "before", allowed)
	killed := time.Now()
	c.during(t, "killed, within store_grace", false, 2*time.Second, s.redis.down).only(t, "killed, within store_grace", allowed)
	s.loginFails(t, "killed", storeDown)
	s.ready(t, "killed", "ready, degraded: store")
	for i, g := range s.replicas {
		if v := s.signOut(t, g.checks, appHost, strings.TrimPrefix(c.cookies[0], "cookie: ")); v.outcome() != refused {
			t.Errorf("replica %d: a sign-out that cannot be written: %v, want 503", i, v)
		}
	}
	time.Sleep(until(killed.Add(8500 * time.Millisecond)))
	c.during(t, "killed, after store_grace", false, time.Second, nil).only(t, "killed, after store_grace", refused)
	s.redis.up(t)
	c.settle(t, 10*time.Second)
	c.during(t, "back", false, time.Second, nil).only(t, "back", allowed)
	s.session(t, appHost, "root")
}

// D9: a server that is there and does not answer.
func TestRedisPaused(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, checkTimeout: "1s", sessions: []string{"store_grace: 10s"}})
	cold, g := "cookie: "+s.session(t, appHost, "alice"), s.replicas[2]
	g.terminate(t, 20*time.Second) // it has nobody in its cache now
	g.up(t)
	s.envoy.awaitHealthy(t, 3)
	c := s.gather(t, appHost, 3)
	p := c.during(t, "paused", false, 4*time.Second, func() {
		s.redis.do(t, "CLIENT", "PAUSE", "3500", "ALL")
		begin := time.Now()
		v := g.checks.get(t.Context(), appHost, "/refused", cold) // who is in no cache
		if took := time.Since(begin); v.outcome() != refused || took > 1200*time.Millisecond {
			t.Errorf("paused, not cached: %v after %v, want 503 within the Check's second", v, took)
		}
	})
	p.only(t, "paused", allowed)
	if most := p.took.at(1); most > 1200*time.Millisecond {
		t.Errorf("paused: a Check took %v, longer than check_timeout 1s", most)
	}
	c.settle(t, 10*time.Second)
	if v := g.checks.get(t.Context(), appHost, "/back", cold); v.outcome() != allowed {
		t.Errorf("after the pause: %v", v)
	}
}

// A replica whose connections hang serves what it verified for store_grace and no
// longer, also somebody who has signed out elsewhere (promise 6).
func TestReplicaCutOff(t *testing.T) {
	t.Parallel()
	const grace = 3 * time.Second
	s := newStack(t, fixture{redis: true, replicas: 3, faults: true, checkTimeout: "1s", sessions: []string{"store_grace: 3s"}})
	var late spread
	var all tally
	e := ending{s: s, cookie: s.session(t, appHost, "alice"), pause: 20 * time.Millisecond, bound: 10 * time.Second, late: &late, all: &all}
	cut := s.replicas[1]
	for range 20 {
		cut.checks.get(t.Context(), appHost, "/warm", "cookie: "+e.cookie)
	}
	cut.redis.hold()
	e.out(t)
	gone := time.Now()
	var last time.Duration
	for time.Since(gone) < grace+3*time.Second {
		sent := time.Since(gone)
		switch v := cut.checks.get(t.Context(), appHost, "/cut", "cookie: "+e.cookie); v.outcome() {
		case allowed:
			last = sent
		case refused:
		default:
			t.Fatalf("cut off: %v, want an allow or 503", v)
		}
		time.Sleep(e.pause)
	}
	t.Logf("cut off: the last allow was sent %v after the sign-out elsewhere, store_grace is %v", last, grace)
	if last > grace+500*time.Millisecond {
		t.Errorf("cut off: allowed for %v, want at most store_grace %v", last, grace)
	}
	cut.redis.heal()
	eventually(t, 10*time.Second, func() error {
		if v := cut.checks.get(t.Context(), appHost, "/refused", "cookie: "+e.cookie); v.outcome() != signedOut {
			return fmt.Errorf("connected again: %v", v)
		}
		return nil
	})
}

// D5: a server without room keeps whom it has, also when their tokens end, and takes
// nobody in; it still lets go.
func TestRedisFull(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, offline: true})
	var renewed atomic.Int64
	s.idp.Always(oidctest.Token, byGrant(lives(3), counting(&renewed, lives(3))))
	c := s.gather(t, tokensHost, 3)
	leaver := s.session(t, appHost, "alice")
	s.redis.do(t, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
	before := renewed.Load()
	c.during(t, "full", false, 6*time.Second, func() {
		s.loginFails(t, "full", storeFull)
		if v := s.signOut(t, s.gatehouse.checks, appHost, leaver); !wentOut(v) {
			t.Errorf("sign-out from a full store: %v, want it done", v)
		}
	}).only(t, "full", allowed)
	if n := renewed.Load() - before; n < 3 || n > 12 {
		t.Errorf("full: %d renewals of 3 sessions whose tokens live for 3 s", n)
	}
	s.redis.do(t, "CONFIG", "SET", "maxmemory", "0")
	s.session(t, appHost, "root")
}

// D14: a server that lost everything has ended every session, and that is all.
func TestRedisFlushed(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3})
	c := s.gather(t, appHost, 3)
	c.during(t, "flushed", true, 5500*time.Millisecond, func() { s.redis.do(t, "FLUSHALL") })
	c.during(t, "flushed, after 5.5 s", true, time.Second, nil).only(t, "flushed, after 5.5 s", signedOut)
	cookie := "cookie: " + s.session(t, appHost, "root")
	for i, g := range s.replicas {
		if v := g.checks.get(t.Context(), appHost, "/again", cookie); v.user() != "root" {
			t.Errorf("replica %d, signed in again: %v", i, v)
		}
	}
}

// D7: a backup brings back who has signed out since. Endings of the last minute are
// repeated; older ones are removed by not_before.
func TestRedisRestored(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3})
	c := s.gather(t, appHost, 2)
	var early, late string // sign out after the backup, long ago and just now
	earlyKey := s.redis.fresh(t, func() { early = s.session(t, appHost, "alice") })
	lateKey := s.redis.fresh(t, func() { late = s.session(t, appHost, "alice") })
	backup := s.redis.snapshot(t)
	if v := s.signOut(t, s.gatehouse.checks, appHost, early); !wentOut(v) {
		t.Fatalf("sign-out: %v", v)
	}
	for _, g := range s.replicas { // nobody remembers that ending
		g.terminate(t, 20*time.Second)
		g.up(t)
	}
	if v := s.signOut(t, s.gatehouse.checks, appHost, late); !wentOut(v) {
		t.Fatalf("sign-out: %v", v)
	}
	c.settle(t, 10*time.Second)
	c.during(t, "restored", false, 0, func() {
		s.redis.down()
		s.redis.restore(t, backup)
		begin := time.Now()
		eventually(t, 10*time.Second, func() error {
			if n := s.redis.do(t, "EXISTS", lateKey)[0]; n != "0" {
				return fmt.Errorf("who signed out a moment ago is back in the store")
			}
			return nil
		})
		t.Logf("restored: the ending of the last minute was repeated after %v", time.Since(begin).Round(time.Millisecond))
	})
	c.settle(t, 10*time.Second)
	s.ready(t, "restored", "ready")
	s.isOut(t, "repeated ending", late)
	s.saidReturned(t)
	if v := s.gatehouse.checks.get(t.Context(), appHost, "/back", "cookie: "+early); v.outcome() != allowed || s.redis.do(t, "EXISTS", earlyKey)[0] != "1" {
		t.Errorf("who signed out before anybody's memory: %v; it should be back, or not_before below proves nothing", v)
	}
	s.notBefore(t, time.Now())
	eventually(t, 10*time.Second, func() error {
		for i, g := range s.replicas {
			if v := g.checks.get(t.Context(), appHost, "/refused", "cookie: "+early); v.outcome() != signedOut {
				return fmt.Errorf("replica %d after not_before: %v", i, v)
			}
		}
		return nil
	})
	s.session(t, appHost, "root")
}

// saidReturned fails unless a replica says in its log that a session was back. Lines are
// buffered.
func (s *stack) saidReturned(t testing.TB) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		for _, g := range s.replicas {
			if strings.Contains(g.output(), `"session_returned"`) {
				return nil
			}
		}
		return fmt.Errorf("no log says that a session was back that had ended")
	})
}

// notBefore writes sessions.not_before into every configuration; it is read while they run.
func (s *stack) notBefore(t testing.TB, moment time.Time) {
	t.Helper()
	for _, g := range s.replicas {
		file := g.launch.args[len(g.launch.args)-1]
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		line := "\nsessions:\n  not_before: " + moment.UTC().Format(time.RFC3339) + "\n"
		replace(t, file, []byte(strings.Replace(string(text), "\nsessions:\n", line, 1)))
	}
}

// isOut fails unless every replica has this cookie's session ended.
func (s *stack) isOut(t testing.TB, what, cookie string) {
	t.Helper()
	for i, g := range s.replicas {
		if v := g.checks.get(t.Context(), appHost, "/refused", "cookie: "+cookie); v.outcome() != signedOut {
			t.Errorf("%s, replica %d: %v, want signed out", what, i, v)
		}
	}
}

// A failover, on purpose and by death, signs nobody out.
func TestRedisFailedOver(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{sentinel: true, replicas: 3, checkTimeout: "1s"})
	c := s.gather(t, appHost, 3)
	s.sentinels.master(t).do(t, "WAIT", "2", "1000")
	c.during(t, "failed over", false, time.Second, func() { s.sentinels.failover(t) })
	c.settle(t, 15*time.Second)
	// Until the old master has become a replica it takes writes and loses them again:
	// replication is asynchronous, so a sign-in of that moment may not last.
	eventually(t, 20*time.Second, func() error { return s.sentinels.settled(2) })
	s.session(t, appHost, "root")
	dead := s.sentinels.master(t)
	dead.do(t, "WAIT", "2", "1000")
	c.during(t, "master killed", false, time.Second, func() {
		dead.down()
		eventually(t, 30*time.Second, func() error {
			if s.sentinels.master(t) == dead {
				return fmt.Errorf("no new master yet")
			}
			return nil
		})
	})
	c.settle(t, 15*time.Second)
	c.during(t, "afterwards", false, time.Second, nil).only(t, "afterwards", allowed)
	s.session(t, appHost, "root")
}

// A Cluster of three masters serves sessions of every slot; without one of them it
// cannot tell, and nobody is signed out.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{cluster: true, replicas: 3, checkTimeout: "1s", sessions: []string{"store_grace: 4s"}})
	c := s.gather(t, appHost, 9)
	c.during(t, "cluster", false, 2*time.Second, nil).only(t, "cluster", allowed)
	out := s.session(t, appHost, "alice")
	if v := s.signOut(t, s.gatehouse.checks, appHost, out); !wentOut(v) {
		t.Errorf("sign-out: %v", v)
	}
	time.Sleep(100 * time.Millisecond)
	s.isOut(t, "signed out", out)
	node := s.cluster[2]
	c.during(t, "one of three killed", false, 9*time.Second, node.down)
	node.up(t)
	c.settle(t, 20*time.Second)
	c.during(t, "back", false, time.Second, nil).only(t, "back", allowed)
}
