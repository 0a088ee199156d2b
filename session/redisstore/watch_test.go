package redisstore_test

import (
	"context"
	"crypto/rand"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

// watch is a Watch that runs, and what it was told.
type watch struct {
	alive atomic.Bool
	lost  atomic.Int32 // how often Alive(false)
	mu    sync.Mutex   // guards ended
	ended map[session.Handle]time.Time
	end   func()
}

func newWatch(t testing.TB, s *redisstore.Store) *watch {
	t.Helper()
	w := &watch{ended: map[session.Handle]time.Time{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Watch(ctx, session.Watcher{
			Ended: func(h session.Handle) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.ended[h] = time.Now()
			},
			Alive: func(alive bool) {
				if again := w.alive.Swap(alive); again && alive {
					t.Error("Alive(true) again, which empties the cache")
				}
				if !alive {
					w.lost.Add(1)
				}
			},
		})
		if err != nil {
			t.Errorf("Watch = %v", err)
		}
	})
	w.end = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(w.end)
	return w
}

func (w *watch) want(t testing.TB, alive bool) {
	t.Helper()
	eventually(t, map[bool]string{true: "Alive(true)", false: "Alive(false)"}[alive], func() bool { return w.alive.Load() == alive })
}

func (w *watch) when(h session.Handle) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended[h]
}

func (w *watch) wantEnded(t testing.TB, h session.Handle) {
	t.Helper()
	eventually(t, "the ending is told", func() bool { return !w.when(h).IsZero() })
}

func (w *watch) endedWithin(h session.Handle, d time.Duration) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !w.when(h).IsZero() {
			return true
		}
	}
	return false
}

func newHandle() session.Handle {
	var id session.ID
	rand.Read(id[:])
	return id.Handle()
}

// G9: a server that goes, hangs, turns replica or cuts the subscription is noticed, and
// its return, too. What is no handle is nobody's ending.
func TestWatch(t *testing.T) {
	server := newTCPServer(t)
	var why atomic.Value
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}, Lost: func(err error) { why.Store(err.Error()) }})
	w := newWatch(t, store)
	w.want(t, true)
	for _, c := range []struct {
		name       string
		down, back func()
		why        string
	}{
		{"stopped", server.stop, func() { server.start(t) }, "redis: "},
		{"paused", func() { server.do(t, "CLIENT", "PAUSE", 2500, "ALL") }, func() {}, "redis: "},
		{
			"replica", func() { server.do(t, "REPLICAOF", "127.0.0.1", "1") },
			func() { server.do(t, "REPLICAOF", "NO", "ONE") }, "READONLY",
		},
		{"cut", func() { server.do(t, "CLIENT", "KILL", "TYPE", "pubsub") }, func() {}, "subscription"},
	} {
		lost := w.lost.Load()
		c.down()
		eventually(t, c.name+": Alive(false)", func() bool { return w.lost.Load() > lost })
		if got, _ := why.Load().(string); !strings.Contains(got, c.why) {
			t.Errorf("%s: lost because of %q, want %q", c.name, got, c.why)
		}
		c.back()
		w.want(t, true)
		h := newHandle()
		if err := store.End(t.Context(), h, nil); err != nil {
			t.Errorf("%s: End: %v", c.name, err)
		}
		w.wantEnded(t, h)
	}
	w.mu.Lock()
	before := len(w.ended)
	w.mu.Unlock()
	for _, payload := range []string{"", "~", "~/1", "x", strings.Repeat("A", 44), strings.Repeat("*", 43), strings.Repeat("x", 100_000)} {
		server.do(t, "PUBLISH", "gh:ended", payload)
	}
	h := newHandle()
	if err := store.End(t.Context(), h, nil); err != nil {
		t.Error(err)
	}
	w.wantEnded(t, h)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ended) != before+1 || !w.alive.Load() {
		t.Errorf("junk on the channel: %d endings more, alive %v", len(w.ended)-before, w.alive.Load())
	}
}

// A user who may not publish, or not subscribe, is not trusted either.
func TestWatchNeedsRights(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	w := newWatch(t, store)
	w.want(t, true)
	server.do(t, "ACL", "SETUSER", "default", "-publish")
	w.want(t, false)
	server.do(t, "ACL", "SETUSER", "default", "+publish")
	w.want(t, true)
	server.do(t, "ACL", "SETUSER", "default", "-subscribe")
	server.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
	w.want(t, false)
	server.do(t, "ACL", "SETUSER", "default", "+subscribe")
	w.want(t, true)
}

// A Watch leaves nothing behind, wherever it is stopped.
func TestWatchEnds(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	if err := store.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for i := range 20 {
		w := newWatch(t, store)
		if i%2 == 0 {
			w.want(t, true)
		}
		w.end()
	}
	server.stop()
	for range 5 {
		w := newWatch(t, store)
		w.want(t, false)
		w.end()
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// Promise 6: from the End at one replica to the word at another.
func TestWatchLatency(t *testing.T) {
	server := newTCPServer(t)
	cfg := redisstore.Config{Addresses: []string{server.address}}
	store, w := newStore(t, cfg), newWatch(t, newStore(t, cfg))
	w.want(t, true)
	took := make([]time.Duration, 500)
	for i := range took {
		h := newHandle()
		begin := time.Now()
		if err := store.End(t.Context(), h, nil); err != nil {
			t.Fatal(err)
		}
		if !w.endedWithin(h, 20*time.Second) {
			t.Fatal("an ending is not told")
		}
		took[i] = w.when(h).Sub(begin)
	}
	beats := server.calls(t)["publish"]
	eventually(t, "two beats have come", func() bool { return server.calls(t)["publish"] >= beats+2 })
	slices.Sort(took)
	t.Logf("End to Ended: p50 %v, p99 %v, max %v", took[250], took[495], took[499])
	if took[495] > 50*time.Millisecond {
		t.Errorf("p99 is %v, more than 50ms", took[495])
	}
}
