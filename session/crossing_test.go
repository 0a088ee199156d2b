package session_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// An ending that arrives while a request waits for a store that hangs, or for a
// provider that does, is not answered with what was known before it.
func TestEndingWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		name string
		hang func(*provider, replica)
	}{
		{"for the store", func(p *provider, r replica) {
			time.Sleep(6 * time.Second) // it has to be proven again
			r.line.set(func(l *line) { l.delay = time.Hour })
		}},
		{"for the provider", func(p *provider, _ replica) {
			p.set(func(p *provider) { p.takes = 30 * time.Second })
			time.Sleep(p.life)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				all := replicas(t, 2, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute, StoreGrace: 10 * time.Second})
				id := p.signIn(t, all[0].Manager)
				synctest.Wait()
				wantAllowed(t, all[0], id)
				c.hang(p, all[0])
				go func() {
					time.Sleep(50 * time.Millisecond)
					if err := all[1].End(t.Context(), id); err != nil {
						t.Error(err)
					}
				}()
				wantOver(t, all[0], id)
				time.Sleep(time.Minute)
			})
		})
	}
}

// N9: a clock that is set back does not make the store look down until the moment when
// it failed comes again.
func TestN9StoreFailedBeforeClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var back time.Duration
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(-back)
		}
		r := replicas(t, 1, session.Config{StoreGrace: 10 * time.Second, Now: now})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		r.line.set(func(l *line) { l.err = errors.New("down") })
		wantUnknown(t, r, id)
		r.line.set(func(l *line) { l.err = nil })
		mu.Lock()
		back = time.Hour
		mu.Unlock()
		wantAllowed(t, r, id)
		r.line.set(func(l *line) { l.deaf = true })
		if err := r.line.Store.End(t.Context(), id.Handle(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		r.line.set(func(l *line) { l.delay = 10 * time.Millisecond })
		wantOver(t, r, id)
	})
}

// Who needs the tokens gets them, also when somebody who does not was here before.
func TestTokensAfterCachedWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		wantAllowed(t, r, id)
		if s, err := check(t, r, id, true); err != nil || s.Tokens == nil || s.Tokens.Access == "" {
			t.Errorf("Load with tokens: %v, %v", s, err)
		}
	})
}

// The absolute end counts in the cache, too, and no grace prolongs it.
func TestCachedSessionReachesItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{StoreGrace: time.Minute})[0]
		s := alice(t)
		s.Until = time.Now().Add(time.Second)
		id, _, err := r.Create(t.Context(), attempt, s)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantAllowed(t, r, id)
		r.line.set(func(l *line) { l.err = errors.New("down") })
		time.Sleep(time.Second)
		wantOver(t, r, id)
	})
}

// While the store fails slowly, one request waits for it, and not each.
func TestStoreFailsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{StoreGrace: 10 * time.Second})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		wantAllowed(t, r, id)
		r.line.set(func(l *line) { l.err, l.delay = errors.New("down"), 100*time.Millisecond })
		r.line.alive(false)
		begun := time.Now()
		for range 2 {
			wantAllowed(t, r, id)
		}
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("two requests waited %v, want 100ms", took)
		}
		time.Sleep(time.Second)
	})
}

// The same at one moment: they do not share a round trip that brings no tokens.
func TestTokensBesideWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		r.line.set(func(l *line) { l.delay = 100 * time.Millisecond })
		go func() { _, _ = check(t, r, id, false) }()
		synctest.Wait()
		if s, err := check(t, r, id, true); err != nil || s.Tokens == nil {
			t.Errorf("Load with tokens: %v, %v", s, err)
		}
	})
}
