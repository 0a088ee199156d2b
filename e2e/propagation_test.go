package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// ending is one sign-out at the first replica while the others are asked all the time.
type ending struct {
	s      *stack
	cookie string
	pause  time.Duration // between the Checks at one replica
	bound  time.Duration // after which an allow is too late
	late   *spread       // how long after the sign-out was answered the last Check was sent that was allowed
	all    *tally
	whole  *spread // the same since the sign-out was sent; nil: not measured
}

// watch asks the second and third replica until each has refused, while act signs out
// and returns when that was sent and answered.
func (e ending) watch(t testing.TB, act func(ctx context.Context) (sent, answered time.Time)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var out sync.WaitGroup
	done := make(chan struct{})
	var begun, answered time.Time // written before done is closed
	isDone := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	for _, g := range e.s.replicas[1:3] {
		out.Go(func() {
			var last, ended time.Time
			g.checks.repeat(ctx, e.pause, appHost, "/loop", []string{"cookie: " + e.cookie}, func(sent time.Time, v verdict) bool {
				e.all.add(v)
				switch {
				case v.outcome() == allowed:
					last = sent
				case v.outcome() == signedOut && ended.IsZero():
					ended = sent
				}
				// A while longer than the end: it must stay one.
				return !isDone() || time.Since(answered) < e.bound && (ended.IsZero() || time.Since(ended) < 20*e.pause)
			})
			<-done
			e.late.add(max(0, last.Sub(answered)))
			if e.whole != nil {
				e.whole.add(max(0, last.Sub(begun)))
			}
			if ended.IsZero() || ended.Before(last) {
				t.Errorf("replica %d: allowed %v after the sign-out, refused at %v", g.grpc, last.Sub(answered), ended.Sub(answered))
			}
		})
	}
	begun, answered = act(ctx)
	close(done)
	out.Wait()
}

// out signs out at the first replica and returns when that was sent and answered.
func (e ending) out(t testing.TB) (sent, answered time.Time) {
	t.Helper()
	sent = time.Now()
	v := e.s.signOut(t, e.s.gatehouse.checks, appHost, e.cookie)
	if !wentOut(v) {
		t.Errorf("sign-out: %v, want 303 and the cookie cleared", v)
	}
	return sent, time.Now()
}

// signOuts are many sign-outs, each by a user of its own while a refresh of the session
// is in flight.
type signOuts struct {
	*stack
	late, whole spread
	all         tally

	mu       sync.Mutex
	arrived  map[string]chan struct{} // closed when this user's refresh is at the provider; guarded by mu
	cookies  []string                 // of sessions that have ended; guarded by mu
	inFlight int                      // sign-outs that were answered before the refresh was; guarded by mu
}

// A login's access token lives for tokenLife: from 80 % of it every session is renewed
// behind the requests, which the provider takes its time to answer.
const (
	tokenLife   = 8 * time.Second
	renewalDue  = tokenLife * 8 / 10
	flightTime  = 400 * time.Millisecond
	signOutSlot = 3 // sign-outs at a time, so that the Checks around them do not fill the machine
)

// flight runs at the provider when a refresh arrives.
func (o *signOuts) flight(a *oidctest.Answer) {
	a.Delay = flightTime
	if a.IDToken == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	user, _ := a.IDToken.Claims["sub"].(string)
	if c := o.arrived[user]; c != nil {
		close(c)
		delete(o.arrived, user)
	}
}

// expect returns a channel that is closed when user's next refresh arrives.
func (o *signOuts) expect(user string) chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := make(chan struct{})
	o.arrived[user] = c
	return c
}

// once is one of them, from the login on.
func (o *signOuts) once(t testing.TB, user string, slots chan struct{}) {
	due := time.Now().Add(renewalDue + 50*time.Millisecond)
	e := ending{s: o.stack, cookie: o.session(t, appHost, user), pause: 4 * time.Millisecond, bound: 6 * time.Second, late: &o.late, whole: &o.whole, all: &o.all}
	time.Sleep(until(due))
	slots <- struct{}{}
	defer func() { <-slots }()
	arrived := o.expect(user)
	e.watch(t, func(ctx context.Context) (sent, answered time.Time) {
		flying := false
		select {
		case <-arrived:
			flying = true
		case <-time.After(2 * time.Second):
		}
		since := time.Now()
		sent, answered = e.out(t)
		if flying && answered.Sub(since) < flightTime/2 {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.inFlight++
		}
		return sent, answered
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cookies = append(o.cookies, e.cookie)
}

// C7, F8, G9: signed out at one replica is signed out at every other within 50 ms,
// also while a refresh is in flight there, and stays so when the refresh comes back.
func TestSignOutIsTrueEverywhere(t *testing.T) {
	const lanes = 40
	var users []oidctest.User
	for i := range lanes {
		users = append(users, oidctest.User{Subject: fmt.Sprintf("lane-%02d", i)})
	}
	o := &signOuts{arrived: map[string]chan struct{}{}}
	o.stack = newStack(t, fixture{redis: true, replicas: 3, offline: true, users: users, access: "none"})
	o.idp.Always(oidctest.Token, byGrant(lives(int(tokenLife/time.Second)), o.flight))
	n := size(500, 120)
	turns, slots := make(chan struct{}, n), make(chan struct{}, signOutSlot)
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	var wg sync.WaitGroup
	for i, user := range users {
		wg.Go(func() {
			time.Sleep(tokenLife / lanes * time.Duration(i)) // one after the other, or all are due at once
			for range turns {
				o.once(t, user.Subject, slots)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sign-outs, %d answered while a refresh was in flight; revoke to deny at the two other replicas, since the sign-out was answered: %v; since it was sent: %v; %v",
		n, o.inFlight, &o.late, &o.whole, &o.all)
	if o.inFlight < n*3/4 {
		t.Errorf("only %d of %d refreshes were in flight: the test shows less than it should", o.inFlight, n)
	}
	if p99 := o.late.at(0.99); p99 >= 50*time.Millisecond || o.late.at(1) >= 5*time.Second {
		t.Errorf("revoke to deny: %v, want p99 under 50 ms and never 5 s", &o.late)
	}
	o.stayOut(t, o.cookies)
}

// stayOut waits until every refresh is back and asks about sessions that ended.
func (s *stack) stayOut(t testing.TB, cookies []string) {
	t.Helper()
	time.Sleep(time.Second)
	for _, cookie := range cookies {
		for i, g := range s.replicas {
			if v := g.checks.get(t.Context(), appHost, "/refused", "cookie: "+cookie); v.outcome() != signedOut {
				t.Errorf("replica %d, after everything: %v, want 401", i, v)
			}
		}
	}
}

// G9: when the message of an ending is lost, and nothing else, the end comes with the
// next round trip to the store, within 5 s.
func TestSignOutWithoutMessage(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, faults: true})
	var late spread
	var all tally
	var wg sync.WaitGroup
	for range size(20, 6) {
		e := ending{s: s, pause: 20 * time.Millisecond, bound: 8 * time.Second, late: &late, all: &all}
		key := s.redis.fresh(t, func() { e.cookie = s.session(t, appHost, "alice") })
		s.replicas[1].redis.drop(handle(key))
		s.replicas[2].redis.drop(handle(key))
		wg.Go(func() {
			e.watch(t, func(ctx context.Context) (sent, answered time.Time) {
				time.Sleep(300 * time.Millisecond) // the other replicas have it in their caches now
				return e.out(t)
			})
		})
	}
	wg.Wait()
	t.Logf("message lost: revoke to deny %v; %v", &late, &all)
	if late.at(1) >= 5*time.Second {
		t.Errorf("revoke to deny without a message: %v, want less than 5 s", &late)
	}
	if late.at(1) < 100*time.Millisecond {
		t.Errorf("revoke to deny without a message: %v: were the messages lost at all?", &late)
	}
}

// G9: with every message lost the replicas notice, though the connection answers PING,
// and ask the store each time.
func TestSignOutWithoutAnyMessage(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, faults: true})
	s.replicas[1].redis.drop("")
	s.replicas[2].redis.drop("")
	var late spread
	var all tally
	begin := time.Now()
	for time.Since(begin) < 8*time.Second {
		e := ending{s: s, cookie: s.session(t, appHost, "alice"), pause: 5 * time.Millisecond, bound: 8 * time.Second, late: &late, all: &all}
		e.watch(t, func(ctx context.Context) (sent, answered time.Time) { return e.out(t) })
	}
	t.Logf("subscription mute: revoke to deny %v; %v", &late, &all)
	if late.at(1) >= 5*time.Second {
		t.Errorf("revoke to deny with a mute subscription: %v, want less than 5 s", &late)
	}
	all.check(t, "subscription mute", true)
}

// D6, G9: after a failover subscriptions can hang on the old master while endings are
// published on the new one.
func TestSignOutAfterFailover(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{sentinel: true, replicas: 3})
	var late spread
	var all tally
	var wg sync.WaitGroup
	moved := make(chan struct{})
	for i := range 10 {
		e := ending{s: s, cookie: s.session(t, appHost, "alice"), pause: 20 * time.Millisecond, bound: 12 * time.Second, late: &late, all: &all}
		wg.Go(func() {
			e.watch(t, func(ctx context.Context) (sent, answered time.Time) {
				<-moved
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				var v verdict
				for ctx.Err() == nil { // until it says that it is true
					sent = time.Now()
					if v = s.signOut(t, s.gatehouse.checks, appHost, e.cookie); wentOut(v) {
						break
					}
					if v.outcome() != refused {
						t.Errorf("sign-out during a failover: %v, want done or 503", v)
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
				return sent, time.Now()
			})
		})
	}
	time.Sleep(time.Second)
	s.sentinels.failover(t)
	close(moved)
	wg.Wait()
	t.Logf("failed over: revoke to deny %v; %v", &late, &all)
	if late.at(1) >= 5*time.Second {
		t.Errorf("revoke to deny after a failover: %v, want less than 5 s", &late)
	}
}
