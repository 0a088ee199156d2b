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

// A record that came back damaged is ended as well, and keeps nobody from ending those
// after it. A store that is away brought nothing back.
func TestDamagedRecordReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		returned := map[string]int{}
		store := session.NewMemory(0)
		damaged := &damagedRecord{Store: store}
		r := replicas(t, 1, session.Config{Store: damaged, Event: func(e session.Event) {
			mu.Lock()
			defer mu.Unlock()
			returned[e.Kind]++
		}})[0]
		copied := &copies{Store: store}
		m := manager(t, session.Config{Store: copied, Ring: r.ring})
		first, _ := create(t, m)
		second, _, err := m.Create(t.Context(), attempt+"2", alice(t))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, id := range []session.ID{first, second} {
			if err := r.End(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		copied.bringBack(t) // the second
		damaged.set(first.Handle())
		r.line.set(func(l *line) { l.err = errors.New("down") })
		r.line.alive(true)
		synctest.Wait()
		mu.Lock()
		if n := returned[session.EventReturned]; n != 0 {
			t.Errorf("%d events about what could not be looked at", n)
		}
		mu.Unlock()
		r.line.set(func(l *line) { l.err = nil })
		r.line.alive(true)
		synctest.Wait()
		if _, _, err := store.Load(t.Context(), second.Handle(), 0); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("what comes after a damaged record is still there: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if n := returned[session.EventReturned]; n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
}

// A manager that follows another repeats the endings that the other knew.
func TestInherit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ring := session.NewMemory(0), newRing(t)
		before := replicas(t, 1, session.Config{Store: store, Ring: ring})[0]
		copied := &copies{Store: store}
		id, _ := create(t, manager(t, session.Config{Store: copied, Ring: ring}))
		synctest.Wait()
		if err := before.End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		after := replicas(t, 1, session.Config{Store: store, Ring: ring})[0]
		synctest.Wait()
		after.Inherit(before.Manager)
		copied.bringBack(t)
		wantOver(t, after, id)
		after.line.alive(true)
		synctest.Wait()
		if _, _, err := store.Load(t.Context(), id.Handle(), 0); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the record that came back is still there: %v", err)
		}
	})
}

// damagedRecord has one record that does not load.
type damagedRecord struct {
	session.Store
	mu sync.Mutex // guards h
	h  session.Handle
}

func (d *damagedRecord) set(h session.Handle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.h = h
}

func (d *damagedRecord) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h == d.h {
		return session.Record{}, 0, session.ErrDamaged
	}
	return d.Store.Load(ctx, h, f)
}
