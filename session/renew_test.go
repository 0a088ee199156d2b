package session_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// F1, F2: 100 requests at expiry over three replicas, a provider that takes 3 s: it is
// asked once, and everybody passes.
func TestF1OneOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.takes = 3 * time.Second
		all := replicas(t, 3, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		time.Sleep(p.life + time.Second) // nobody asked meanwhile
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if _, err := check(t, all[i%3], id, false); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		if n := p.count(t); n != 1 {
			t.Errorf("the provider was asked %d times", n)
		}
		for i, r := range all {
			if s, err := check(t, r, id, true); err != nil || s.Tokens.Access != "access-1" {
				t.Errorf("replica %d: %v, %v", i, s, err)
			}
		}
	})
}

// While the access token is good, nobody waits for a renewal, and one replica asks.
func TestSoftRenewalIsBehindTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.takes = 20 * time.Second
		all := replicas(t, 2, session.Config{Renew: p.renew})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		askedAt := func(at time.Duration, want int) {
			t.Helper()
			time.Sleep(at - time.Since(signedIn(t, all[0], id)))
			begun := time.Now()
			for _, r := range all {
				wantAllowed(t, r, id)
			}
			if took := time.Since(begun); took > 0 {
				t.Errorf("requests waited %v", took)
			}
			synctest.Wait()
			if n := p.count(t); n != want {
				t.Errorf("asked %d times after %v, want %d", n, at, want)
			}
		}
		askedAt(6*time.Minute+59*time.Second, 0) // 70 to 80 % of its life is due
		askedAt(8*time.Minute+time.Second, 1)
		time.Sleep(30 * time.Second)
		if s, err := check(t, all[1], id, true); err != nil || s.Tokens.Access != "access-1" {
			t.Errorf("after the renewal: %v, %v", s, err)
		}
		if n := p.count(t); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func signedIn(t testing.TB, r replica, id session.ID) time.Time {
	t.Helper()
	return wantAllowed(t, r, id).Created
}

// F7: what the provider says at a renewal counts from then on, on every replica.
func TestF7GroupsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		all := replicas(t, 2, session.Config{Renew: p.renew})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		wantAllowed(t, all[1], id)
		p.set(func(p *provider) { p.groups = nil })
		time.Sleep(p.life + time.Second)
		made := wantAllowed(t, all[0], id)
		if len(made.Identity.Groups) != 0 || made.Identity.Session != id.Handle().Name() {
			t.Errorf("groups %q of session %q", made.Identity.Groups, made.Identity.Session)
		}
		time.Sleep(5 * time.Second)
		if s := wantAllowed(t, all[1], id); len(s.Identity.Groups) != 0 {
			t.Errorf("groups on the other replica: %q", s.Identity.Groups)
		}
	})
}

// F4: an outage of the provider signs nobody out: served until ProviderGrace after the
// access token's end, then refused; never with its tokens. It is not asked all the time.
func TestF4ProviderDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.err = errors.New("502")
		r := replicas(t, 1, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		end := time.Now().Add(p.life)
		for time.Now().Before(end.Add(299 * time.Second)) {
			wantAllowed(t, r, id)
			if _, err := check(t, r, id, true); time.Now().After(end) && (err == nil || errors.Is(err, session.ErrNotFound)) {
				t.Fatalf("Load with tokens: %v", err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		wantUnknown(t, r, id)
		if n := p.count(t); n < 5 || n > 20 {
			t.Errorf("asked %d times in eight minutes, want 5 to 20", n)
		}
		p.set(func(p *provider) { p.err = nil })
		time.Sleep(time.Minute)
		wantAllowed(t, r, id)
	})
}

// F4, F5: the provider's word that it is over ends the session everywhere.
func TestF4Revoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		all := replicas(t, 2, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		p.set(func(p *provider) { p.err = session.ErrRevoked })
		time.Sleep(p.life * 9 / 10)
		wantAllowed(t, all[0], id) // the token is still good; the renewal begins
		synctest.Wait()
		for _, r := range all {
			wantOver(t, r, id)
		}
		if n := p.count(t); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if held, err := all[0].List(t.Context(), "https://idp.test", "alice-17"); err != nil || len(held) != 0 {
			t.Errorf("List: %v, %v", held, err)
		}
	})
}

// F8: a sign-out while the provider works wins.
func TestF8SignOutDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.takes = 3 * time.Second
		all := replicas(t, 3, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		time.Sleep(p.life * 9 / 10)
		wantAllowed(t, all[0], id)
		time.Sleep(time.Second)
		if err := all[1].End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 10 {
			for _, r := range all {
				wantOver(t, r, id)
			}
			time.Sleep(time.Second)
		}
		if _, _, err := all[0].line.Store.Load(t.Context(), id.Handle(), 0); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the renewal wrote the record again: %v", err)
		}
	})
}

// F3, F9: the owner dies with the answer of the provider. The lease ends, the next
// owner sends the old token, the provider refuses it: one new login, and no loop.
func TestF3OwnerDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.takes = time.Second
		all := replicas(t, 2, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		time.Sleep(p.life + time.Second)
		go func() { _, _ = check(t, all[0], id, false) }()
		synctest.Wait()
		all[0].line.set(func(l *line) { l.err = errors.New("killed") })
		allowed := 0
		for range 100 {
			_, err := check(t, all[1], id, false)
			if errors.Is(err, session.ErrNotFound) {
				break
			}
			if err != nil {
				t.Fatalf("before the lease ends: %v", err)
			}
			allowed++
			time.Sleep(200 * time.Millisecond)
		}
		wantOver(t, all[1], id)
		if allowed == 0 {
			t.Error("nobody passed while the lease of the dead lived")
		}
		p.set(func(p *provider) { p.reused = false })
		if n := p.count(t); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		time.Sleep(20 * time.Minute) // until the dead one gives up
	})
}

// What the provider gave is kept although the store is away for a while: it will not
// give it again.
func TestRenewalOutlivesOutageOfStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		all := replicas(t, 2, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute, StoreGrace: 10 * time.Second})
		id := p.signIn(t, all[0].Manager)
		synctest.Wait()
		p.set(func(p *provider) {
			p.during = func() { all[0].line.set(func(l *line) { l.err = errors.New("down") }) }
		})
		time.Sleep(p.life * 9 / 10)
		wantAllowed(t, all[0], id)
		time.Sleep(20 * time.Second)
		all[0].line.set(func(l *line) { l.err = nil })
		time.Sleep(5 * time.Second)
		if s, err := check(t, all[1], id, true); err != nil || s.Tokens.Refresh != "refresh-token-1" {
			t.Errorf("the other replica: %v, %v", s, err)
		}
		time.Sleep(p.life)
		wantAllowed(t, all[1], id)
		p.count(t)
	})
}

// A provider that hangs slows nobody down for long: who can go on waits in the first
// second of the first try only, who wants tokens until shortly before his deadline.
func TestX6ProviderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.takes = 30 * time.Second
		p.err = context.DeadlineExceeded
		r := replicas(t, 1, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		time.Sleep(p.life + time.Second)
		waits := func(want time.Duration, tokens bool) {
			t.Helper()
			begun := time.Now()
			if _, err := check(t, r, id, tokens); (err == nil) == tokens || errors.Is(err, session.ErrNotFound) {
				t.Errorf("Load: %v", err)
			}
			if took := time.Since(begun); took != want {
				t.Errorf("waited %v, want %v", took, want)
			}
		}
		waits(850*time.Millisecond, false)
		waits(150*time.Millisecond, false)
		waits(0, false)
		waits(850*time.Millisecond, true)
		time.Sleep(28*time.Second + 150*time.Millisecond)
		waits(0, true) // it has just failed, and is left alone
		waits(0, false)
		time.Sleep(2 * time.Second)
		waits(0, false) // the second try is under way
		waits(850*time.Millisecond, true)
		time.Sleep(time.Minute)
	})
}

// Without a refresh token a session lives to its own limits, or to an end it was given.
func TestNoRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		r := replicas(t, 1, session.Config{Renew: p.renew})[0]
		s := alice(t)
		s.Tokens.Refresh, s.Tokens.AccessExpires = "", time.Now().Add(10*time.Minute)
		id, _, err := r.Create(t.Context(), attempt, s)
		if err != nil {
			t.Fatal(err)
		}
		s.Until = s.Tokens.AccessExpires
		short, made, err := r.Create(t.Context(), attempt+"2", s)
		if err != nil || !made.Expires.Equal(s.Until) {
			t.Fatalf("Create: %v, ends %v, want %v", err, made.Expires, s.Until)
		}
		time.Sleep(9 * time.Minute)
		wantAllowed(t, r, short)
		time.Sleep(2 * time.Minute)
		wantOver(t, r, short)
		wantAllowed(t, r, id)
		if p.calls != 0 {
			t.Errorf("the provider was asked %d times", p.calls)
		}
	})
}

// F6: a provider that does not say how long its token lives is asked every few minutes.
func TestF6UnknownLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		r := replicas(t, 1, session.Config{Renew: p.renew})[0]
		s := alice(t)
		s.Tokens.Refresh, s.Tokens.AccessExpires = p.token, time.Time{}
		id, _, err := r.Create(t.Context(), attempt, s)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(6 * time.Minute)
		wantAllowed(t, r, id)
		if n := p.count(t); n != 1 {
			t.Errorf("asked %d times in six minutes, want once", n)
		}
	})
}

// A renewal never moves the absolute end, and the summary stays readable.
func TestRenewalKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		r := replicas(t, 1, session.Config{Renew: p.renew})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		first := wantAllowed(t, r, id)
		for range 10 {
			time.Sleep(p.life + time.Second)
			s := wantAllowed(t, r, id)
			if !s.Expires.Equal(first.Expires) || !s.Created.Equal(first.Created) {
				t.Fatalf("the session is now of %v to %v", s.Created, s.Expires)
			}
		}
		if n := p.count(t); n != 10 {
			t.Errorf("asked %d times, want 10", n)
		}
		list, err := r.List(t.Context(), "https://idp.test", "alice-17")
		if err != nil || len(list) != 1 || list[0].Summary.Device != "Firefox" {
			t.Errorf("List: %v, %v", list, err)
		}
	})
}

// A panic of the provider's code ends neither the process nor the session.
func TestRenewalPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		r := replicas(t, 1, session.Config{ProviderGrace: 5 * time.Minute, Renew: func(context.Context, *session.Session) (*session.Session, error) {
			panic("a mistake of ours")
		}})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		time.Sleep(p.life + time.Second)
		wantAllowed(t, r, id)
		time.Sleep(10 * time.Minute)
		wantUnknown(t, r, id)
	})
}

// Draining waits for the provider.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.takes = 5 * time.Second
		r := replicas(t, 1, session.Config{Renew: p.renew})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		time.Sleep(p.life * 9 / 10)
		wantAllowed(t, r, id)
		begun := time.Now()
		if r.Wait(time.Second); time.Since(begun) != time.Second {
			t.Errorf("Wait(1s) took %v", time.Since(begun))
		}
		if r.Wait(time.Minute); time.Since(begun) < 5*time.Second || time.Since(begun) > 6*time.Second {
			t.Errorf("Wait took %v, the provider 5 s", time.Since(begun))
		}
	})
}
