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

// The store was away for both replicas while one of them had the provider's answer: the
// other does not send the old refresh token when the store is back.
func TestStoreReturnsToBoth(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			all := replicas(t, 3, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute, StoreGrace: 10 * time.Second})
			id := p.signIn(t, all[0].Manager)
			synctest.Wait()
			down := func(err error) {
				for _, r := range all {
					r.line.set(func(l *line) { l.err = err })
					r.line.alive(err == nil)
				}
			}
			p.set(func(p *provider) { p.during = func() { down(errors.New("down")) } })
			time.Sleep(p.life * 9 / 10)
			wantAllowed(t, all[0], id)
			time.Sleep(20 * time.Second)
			p.set(func(p *provider) { p.during = nil })
			down(nil)
			for range 100 {
				for _, r := range all[1:] {
					wantAllowed(t, r, id)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if n := p.count(t); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// What the provider gave outlives a store that is away or full for minutes.
func TestRenewalOutlivesLongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		r := replicas(t, 1, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute, StoreGrace: 10 * time.Second})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		p.set(func(p *provider) {
			p.during = func() { r.line.set(func(l *line) { l.err = session.ErrFull }) }
		})
		time.Sleep(p.life * 9 / 10)
		wantAllowed(t, r, id)
		time.Sleep(5 * time.Minute)
		p.set(func(p *provider) { p.during = nil })
		r.line.set(func(l *line) { l.err = nil })
		time.Sleep(5 * time.Second)
		if s, err := check(t, r, id, true); err != nil || s.Tokens.Refresh != "refresh-token-1" {
			t.Errorf("Load after five minutes: %v, %v", s, err)
		}
		p.count(t)
	})
}

// Who lost his lease and hears that the old token is refused does not end what another
// replica has renewed meanwhile.
func TestRefusedAfterAnotherRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		store := session.NewMemory(0)
		cfg := session.Config{Store: store, Ring: newRing(t), ProviderGrace: 5 * time.Minute}
		cfg.Renew = func(context.Context, *session.Session) (*session.Session, error) {
			time.Sleep(15 * time.Second)
			return nil, session.ErrRevoked
		}
		stalled := manager(t, session.Config{Store: noLease{store}, Ring: cfg.Ring, Renew: cfg.Renew})
		cfg.Renew = p.renew
		r := replicas(t, 1, cfg)[0]
		id := p.signIn(t, r.Manager)
		time.Sleep(p.life * 9 / 10)
		if _, err := stalled.Load(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantAllowed(t, r, id)
		time.Sleep(time.Minute)
		if s, err := check(t, r, id, true); err != nil || s.Tokens.Access != "access-1" {
			t.Errorf("Load: %v, %v", s, err)
		}
		if _, err := stalled.Load(t.Context(), id, false); err != nil {
			t.Errorf("Load where the token was refused: %v", err)
		}
	})
}

// noLease loses every lease.
type noLease struct{ session.Store }

func (s noLease) Put(_ context.Context, _ string, value []byte, _ time.Duration) ([]byte, error) {
	return value, nil
}

// Draining begins while requests still come.
func TestWaitWhileRequestsCome(t *testing.T) {
	p := newProvider()
	p.life = 0
	r := replicas(t, 1, session.Config{Renew: p.renew, ProviderGrace: time.Hour})[0]
	ids := make([]session.ID, 200)
	for i := range ids {
		ids[i] = p.signIn(t, r.Manager)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 1000 {
			r.Wait(time.Millisecond)
		}
	})
	for _, id := range ids {
		wg.Go(func() { _, _ = check(t, r, id, false) })
	}
	wg.Wait()
	r.Wait(5 * time.Second)
}

// Part of the store is down for long, so that endings may always be lost: what the rest
// holds is renewed all the same.
func TestRenewalWhileFeedIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		r := replicas(t, 1, session.Config{Renew: p.renew})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		r.line.alive(false)
		time.Sleep(p.life * 9 / 10)
		wantAllowed(t, r, id)
		time.Sleep(4 * time.Second)
		if n := p.count(t); n != 0 {
			t.Errorf("asked %d times at once", n)
		}
		time.Sleep(2 * time.Second)
		if s, err := check(t, r, id, true); err != nil || s.Tokens.Access != "access-1" {
			t.Errorf("Load: %v, %v", s, err)
		}
		p.count(t)
	})
}

// A replica that has just started waits for nobody.
func TestRenewalRightAfterStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.life = time.Second
		r := replicas(t, 1, session.Config{Renew: p.renew})[0]
		id := p.signIn(t, r.Manager)
		synctest.Wait()
		time.Sleep(time.Second)
		wantAllowed(t, r, id)
		if n := p.count(t); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Who has no deadline of his own does not wait for as long as an outage takes.
func TestNobodyWaitsForKeeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		m := manager(t, session.Config{Store: noRoom{session.NewMemory(0)}, Ring: newRing(t), Renew: p.renew})
		id := p.signIn(t, m)
		time.Sleep(p.life)
		begun := time.Now()
		if _, err := m.Load(t.Context(), id, true); err == nil || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load: %v", err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("waited %v", took)
		}
		time.Sleep(20 * time.Minute)
		p.count(t)
	})
}

// noRoom has none for what was renewed.
type noRoom struct{ session.Store }

func (noRoom) Replace(context.Context, session.Record, string) error { return session.ErrFull }
