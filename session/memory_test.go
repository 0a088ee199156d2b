package session_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/sessiontest"
)

func TestMemory(t *testing.T) {
	sessiontest.RunFakeClock(t, func(testing.TB) session.Store { return session.NewMemory(0) })
}

// A full store refuses, keeps what it has, and has room again when something ended.
func TestMemoryFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.NewMemory(100_000))
		var ids []session.ID
		var err error
		for i := 0; err == nil; i++ {
			var id session.ID
			if id, _, err = m.Create(t.Context(), fmt.Sprint(attempt, i), alice(t)); err == nil {
				ids = append(ids, id)
			}
		}
		if !errors.Is(err, session.ErrFull) || len(ids) < 10 || len(ids) > 100 {
			t.Fatalf("Create: %v after %d sessions", err, len(ids))
		}
		for i, id := range ids {
			if _, err := m.Load(t.Context(), id, true); err != nil {
				t.Errorf("session %d of a full store: %v", i, err)
			}
		}
		if err := m.End(t.Context(), ids[0]); err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Create(t.Context(), attempt+"after an end", alice(t)); err != nil {
			t.Errorf("Create after one session ended: %v", err)
		}
		if _, _, err := m.Create(t.Context(), attempt+"full again", alice(t)); !errors.Is(err, session.ErrFull) {
			t.Errorf("Create: %v", err)
		}
		time.Sleep(time.Hour)
		for i := range ids {
			if _, _, err := m.Create(t.Context(), fmt.Sprint(attempt, "next hour", i), alice(t)); err != nil {
				t.Fatalf("Create after all ended: %v", err)
			}
		}
	})
}

// What has ended leaves the process even when nobody asks.
func TestMemoryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := session.NewMemory(0)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- store.Run(ctx) }()
		m := newManager(t, store)
		for range 50 {
			create(t, m)
		}
		if n, used := session.Held(store); n != 100 || used == 0 {
			t.Errorf("%d entries and %d bytes for 50 sessions and their marks", n, used)
		}
		time.Sleep(61 * time.Second)
		if n, _ := session.Held(store); n != 50 {
			t.Errorf("%d entries when the marks have ended, want 50", n)
		}
		time.Sleep(time.Hour)
		if n, used := session.Held(store); n != 0 || used != 0 {
			t.Errorf("%d entries and %d bytes when all have ended", n, used)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// The accounting is near what the process really needs.
func TestMemoryAccounting(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	store := session.NewMemory(1 << 30)
	before := heap()
	m := newManager(t, store)
	for range 3000 {
		create(t, m)
	}
	_, used := session.Held(store)
	if real := heap() - before; used < real*8/10 || used > real*3/2 {
		t.Errorf("accounted %d bytes, the heap grew by %d", used, real)
	}
	runtime.KeepAlive(m)
}
