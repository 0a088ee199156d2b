package session_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// Steady state: one round trip per session and replica every 4 to 5 seconds.
func TestCacheSavesRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		before := r.line.loads.Load()
		for range 600 {
			wantAllowed(t, r, id)
			time.Sleep(100 * time.Millisecond)
		}
		if n := r.line.loads.Load() - before; n < 12 || n > 18 {
			t.Errorf("%d round trips in a minute of ten requests a second, want 12 to 18", n)
		}
	})
}

// Without Run nobody tells of endings, so nothing is served from the cache.
func TestNoCacheWithoutRun(t *testing.T) {
	l := &line{Store: session.NewMemory(0)}
	m := newManager(t, l)
	id, _ := create(t, m)
	for range 10 {
		if _, err := m.Load(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.loads.Load(); n != 10 {
		t.Errorf("%d round trips for 10 requests", n)
	}
}

// Requests of one session at one moment share a round trip, and it outlives the one
// that began it.
func TestProofIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		r.line.set(func(l *line) { l.delay = 100 * time.Millisecond })
		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Load(leaving, id, false); err == nil || errors.Is(err, session.ErrNotFound) {
				t.Errorf("Load of a request that leaves: %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() { wantAllowed(t, r, id) })
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if n := r.line.loads.Load(); n != 1 {
			t.Errorf("%d round trips for 51 requests at once", n)
		}
	})
}

// Promise 6: an ending is true on every replica when its message arrives, and within
// 5 s when it does not.
func TestEndingIsTrueEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := replicas(t, 3, session.Config{StoreGrace: 10 * time.Second})
		id, _ := create(t, all[0].Manager)
		synctest.Wait()
		for _, r := range all {
			wantAllowed(t, r, id)
		}
		all[2].line.set(func(l *line) { l.deaf = true })
		if err := all[0].End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantOver(t, all[0], id)
		wantOver(t, all[1], id)
		wantAllowed(t, all[2], id) // this is what the bound is for
		time.Sleep(5 * time.Second)
		wantOver(t, all[2], id)
	})
}

// What was proven before messages may have been lost counts no more; while they may be,
// every request is a round trip.
func TestFeedLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		wantAllowed(t, r, id)
		for _, alive := range []bool{false, true} {
			r.line.alive(alive)
			before := r.line.loads.Load()
			for range 5 {
				wantAllowed(t, r, id)
			}
			want := int64(1)
			if !alive {
				want = 5
			}
			synctest.Wait()
			if n := r.line.loads.Load() - before; n < want || n > want+1 { // and one to repeat endings
				t.Errorf("alive %v: %d round trips for 5 requests, want %d", alive, n, want)
			}
		}
		r.line.set(func(l *line) { l.deaf = true })
		if err := r.line.Store.End(t.Context(), id.Handle(), nil); err != nil { // by somebody else
			t.Fatal(err)
		}
		wantAllowed(t, r, id)
		r.line.alive(true) // again: something may have been lost in between
		wantOver(t, r, id)
	})
}

// A fill and an ending cannot cross: whoever read the record before the ending must not
// put it into the cache after it.
func TestFillDoesNotCrossEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		slow := &lateLoad{Store: r.line, read: make(chan struct{}), answer: make(chan struct{})}
		m := manager(t, session.Config{Store: slow, Ring: r.ring})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = m.Run(ctx) }()
		synctest.Wait()
		first := make(chan error)
		go func() {
			_, err := m.Load(t.Context(), id, false)
			first <- err
		}()
		<-slow.read // the record was read, and is on its way
		if err := r.End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(slow.answer)
		<-first // either answer is right: the two were at the same time
		if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load after the ending: %v", err)
		}
		end()
		<-done
	})
}

// lateLoad holds the answer of a Load back.
type lateLoad struct {
	session.Store
	read, answer chan struct{}
}

func (l *lateLoad) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	r, left, err := l.Store.Load(ctx, h, f)
	select {
	case <-l.read:
	default:
		close(l.read)
	}
	<-l.answer
	return r, left, err
}

// Dead cookies do not hammer the store.
func TestDeadCookiesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		if err := r.line.Store.End(t.Context(), id.Handle(), nil); err != nil {
			t.Fatal(err)
		}
		before := r.line.loads.Load()
		for range 100 {
			wantOver(t, r, id)
		}
		if n := r.line.loads.Load() - before; n > 1 {
			t.Errorf("%d round trips for 100 requests with a dead cookie", n)
		}
	})
}

// Design section 6, "store": served from the cache for StoreGrace after the last proof,
// then refused without signing anybody out; it works again as soon as the store does.
func TestStoreGrace(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(*line)
	}{
		{"refuses", func(l *line) { l.err = errors.New("connection refused") }},
		{"hangs", func(l *line) { l.delay = time.Hour }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := replicas(t, 1, session.Config{StoreGrace: 10 * time.Second})[0]
				id, _ := create(t, r.Manager)
				cold, _ := create(t, r.Manager)
				synctest.Wait()
				wantAllowed(t, r, id)
				r.line.set(c.fail)
				r.line.alive(false)
				start := time.Now()
				for time.Since(start) < 9*time.Second {
					wantAllowed(t, r, id)
					time.Sleep(500 * time.Millisecond)
				}
				wantUnknown(t, r, cold)
				time.Sleep(2 * time.Second)
				wantUnknown(t, r, id)
				r.line.set(func(l *line) { l.err, l.delay = nil, 0 })
				time.Sleep(3 * time.Second) // for what still hangs
				wantAllowed(t, r, id)
				wantAllowed(t, r, cold)
			})
		})
	}
}

// StoreGrace zero refuses at once.
func TestNoStoreGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{})[0]
		id, _ := create(t, r.Manager)
		synctest.Wait()
		wantAllowed(t, r, id)
		r.line.set(func(l *line) { l.err = errors.New("down") })
		r.line.alive(false)
		wantUnknown(t, r, id)
	})
}

// What a replica knows to have ended is not served while it is cut off.
func TestNoGraceForTheEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := replicas(t, 2, session.Config{StoreGrace: 10 * time.Second})
		id, _ := create(t, all[0].Manager)
		synctest.Wait()
		wantAllowed(t, all[1], id)
		if err := all[0].End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		all[1].line.set(func(l *line) { l.err = errors.New("down") })
		wantOver(t, all[1], id)
	})
}

// D6: a failover to a copy that missed a delete brings nothing back: the endings of the
// last minute are repeated.
func TestEndingsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		returned := 0
		store := session.NewMemory(0)
		all := replicas(t, 2, session.Config{Store: store, Event: func(e session.Event) {
			if e.Kind == session.EventReturned {
				mu.Lock()
				defer mu.Unlock()
				returned++
			}
		}})
		copied := &copies{Store: store}
		m := manager(t, session.Config{Store: copied, Ring: all[0].ring})
		id, _ := create(t, m)
		synctest.Wait()
		if err := all[0].End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		copied.bringBack(t)
		if _, _, err := store.Load(t.Context(), id.Handle(), 0); err != nil {
			t.Fatalf("the fixture brings nothing back: %v", err)
		}
		wantOver(t, all[1], id)
		all[1].line.alive(false)
		all[1].line.alive(true)
		synctest.Wait()
		if _, _, err := store.Load(t.Context(), id.Handle(), 0); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the record that came back is still there: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if returned != 1 {
			t.Errorf("%d events about it, want 1", returned)
		}
	})
}

// copies keeps what was created, to bring it back as a failover does.
type copies struct {
	session.Store
	last session.NewRecord
}

func (c *copies) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	c.last = r
	return c.Store.Create(ctx, r)
}

func (c *copies) bringBack(t *testing.T) {
	t.Helper()
	c.last.Mark += "again"
	if _, err := c.Store.Create(t.Context(), c.last); err != nil {
		t.Fatal(err)
	}
}

// D7: sessions.not_before ends what is older, also after a restore.
func TestNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ring := session.NewMemory(0), newRing(t)
		m := manager(t, session.Config{Store: store, Ring: ring})
		before, _ := create(t, m)
		time.Sleep(time.Minute)
		cut := time.Now()
		time.Sleep(time.Minute)
		after, _ := create(t, m)
		strict := manager(t, session.Config{Store: store, Ring: ring, NotBefore: cut})
		if _, err := strict.Load(t.Context(), before, false); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load of an older session: %v", err)
		}
		if _, err := m.Load(t.Context(), before, false); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("it is still in the store: %v", err)
		}
		if _, err := strict.Load(t.Context(), after, false); err != nil {
			t.Errorf("Load of a younger session: %v", err)
		}
	})
}

// The cache is bounded by bytes, whatever comes.
func TestCacheIsBounded(t *testing.T) {
	store := session.NewMemory(1 << 30)
	r := replicas(t, 1, session.Config{Store: store, CacheBytes: 8 << 20})[0]
	eventually(t, func() bool { _, _, alive := r.Cached(); return alive })
	for i := range 6000 {
		id, _, err := r.Create(t.Context(), fmt.Sprint(attempt, i), alice(t))
		if err != nil {
			t.Fatal(err)
		}
		wantAllowed(t, r, id)
	}
	n, bytes, _ := r.Cached()
	if bytes > 8<<20 || n < 500 {
		t.Errorf("the cache holds %d sessions of %d bytes, want at most 8 MiB and at least 500", n, bytes)
	}
}

// BenchmarkCachedSession shows what a cached session really takes beside what is accounted.
func BenchmarkCachedSession(b *testing.B) {
	store := session.NewMemory(4 << 30)
	l := &line{Store: store}
	m := manager(b, session.Config{Store: l, Ring: newRing(b), CacheBytes: 4 << 30})
	ctx, end := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	defer func() { end(); <-done }()
	const n = 100_000
	ids := make([]session.ID, n)
	for i := range ids {
		var err error
		if ids[i], _, err = m.Create(b.Context(), fmt.Sprint(attempt, i), alice(b)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for _, id := range ids {
			if _, err := m.Load(b.Context(), id, false); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		held, bytes, _ := m.Cached()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(max(held, 1)), "B/session")
		b.ReportMetric(float64(bytes)/float64(max(held, 1)), "accounted/session")
		session.Forget(m)
	}
}

// eventually polls with the real clock.
func eventually(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 5 s")
		}
	}
}

// Sessions that are over are remembered boundedly, and cached no more; what is proven
// again and again is accounted once.
func TestCacheAccounting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicas(t, 1, session.Config{CacheBytes: 1 << 20})[0]
		var ids []session.ID
		for i := range 300 {
			id, _, err := r.Create(t.Context(), fmt.Sprint(attempt, i), alice(t))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		synctest.Wait()
		for range 3 {
			for _, id := range ids {
				wantAllowed(t, r, id)
			}
			time.Sleep(5 * time.Second)
		}
		if held, bytes, _ := r.Cached(); held == 0 || bytes > 1<<20 {
			t.Errorf("%d sessions of %d bytes are cached", held, bytes)
		}
		for _, id := range ids[:150] {
			if err := r.End(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if n := session.Dead(r.Manager); n != 150 {
			t.Errorf("%d sessions are remembered to be over, want 150", n)
		}
		for i := range 100_000 {
			r.line.watch.Ended(session.ID{byte(i), byte(i >> 8), byte(i >> 16)}.Handle())
		}
		if n := session.Dead(r.Manager); n > 64*1024 {
			t.Errorf("%d sessions are remembered to be over, want at most 64 Ki", n)
		}
		if n := session.Endings(r.Manager); n != 100_000 {
			t.Errorf("%d endings would be repeated, want 100000", n)
		}
		time.Sleep(61 * time.Second)
		r.line.watch.Ended(ids[0].Handle())
		if n := session.Endings(r.Manager); n != 1 {
			t.Errorf("%d endings would be repeated, want that of the last minute", n)
		}
	})
}
