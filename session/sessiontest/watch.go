package sessiontest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// patience is more than any store needs that works.
const patience = 20 * time.Second

// heard is what one Watcher was told.
type heard struct {
	mu    sync.Mutex // guards what follows
	alive bool
	lost  int // how often Alive(false)
	ended map[session.Handle]bool
}

// watch runs a Watch until the returned function ends it, or t does.
func watch(t *testing.T, s session.Store) (*heard, func() error) {
	t.Helper()
	h := &heard{ended: map[session.Handle]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, session.Watcher{
			Ended: func(e session.Handle) {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.ended[e] = true
			},
			Alive: func(alive bool) {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.alive = alive; !alive {
					h.lost++
				}
			},
		})
	}()
	stop := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Error("Watch does not end with its context")
			return nil
		}
	})
	t.Cleanup(func() { _ = stop() })
	wait(t, "Alive(true)", h.isAlive)
	return h, stop
}

func (h *heard) isAlive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alive
}

func (h *heard) hasEnded(e session.Handle) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended[e]
}

func (h *heard) losses() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// wait polls until a Watcher was told something.
func wait(t *testing.T, what string, told func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !told(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the Watcher was not told %s", what)
		}
	}
}

// end ends a session and waits until all were told of it. Who was told Alive(false) may
// have missed it: then it is repeated, as a replica would.
func end(t *testing.T, s session.Store, r session.NewRecord, all ...*heard) {
	t.Helper()
	for _, h := range all {
		for again := true; again; {
			wait(t, "Alive(true)", h.isAlive)
			before := h.losses()
			if err := s.End(t.Context(), r.Handle, r.Index); err != nil {
				t.Fatalf("End: %v", err)
			}
			wait(t, "of an ending, nor Alive(false)", func() bool { return h.hasEnded(r.Handle) || h.losses() > before })
			again = !h.hasEnded(r.Handle)
		}
	}
}

// What ends at one replica is told at all, also what was not there: it may live in a cache.
func checkWatch(t *testing.T, a, b session.Store) {
	atA, _ := watch(t, a)
	atB, _ := watch(t, b)
	r, stays, never := create(t, a, record(time.Minute, time.Hour)), create(t, a, record(time.Minute, time.Hour)), record(time.Minute, time.Hour)
	end(t, a, r, atA, atB)
	end(t, a, never, atA, atB)
	if atA.hasEnded(stays.Handle) || atB.hasEnded(stays.Handle) {
		t.Error("the Watcher was told of a session that is alive")
	}
}

func checkWatchEnds(t *testing.T, s session.Store) {
	h, stop := watch(t, s)
	other, _ := watch(t, s)
	if err := stop(); err != nil {
		t.Errorf("Watch = %v", err)
	}
	r := create(t, s, record(time.Minute, time.Hour))
	end(t, s, r, other)
	if h.hasEnded(r.Handle) {
		t.Error("a Watch that has ended tells")
	}
}
