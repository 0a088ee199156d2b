package sessiontest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

func wantPut(t *testing.T, s session.Store, name, value string, life time.Duration, want string) {
	t.Helper()
	if held, err := s.Put(t.Context(), name, []byte(value), life); err != nil || string(held) != want {
		t.Errorf("Put(%q) = %q, %v, want %q", value, held, err, want)
	}
}

// wantNote fails unless the note holds want; "" means that there is none.
func wantNote(t *testing.T, s session.Store, name, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if want == "" && !errors.Is(err, session.ErrNotFound) || want != "" && (err != nil || string(got) != want) {
		t.Errorf("Get(%q) = %q, %v, want %q", name, got, err, want)
	}
}

func checkPut(t *testing.T, a, b session.Store) {
	wantPut(t, a, "l:x", "first", unit, "first")
	wantPut(t, b, "l:x", "second", time.Hour, "first")
	wantPut(t, b, "l:y", "second", time.Hour, "second")
	wantNote(t, b, "l:x", "first")
	time.Sleep(unit + unit/4)
	wantNote(t, a, "l:x", "") // the one who came too late did not prolong it
	wantPut(t, b, "l:x", "second", time.Hour, "second")
}

func checkPutRenews(t *testing.T, s session.Store) {
	for range 4 {
		wantPut(t, s, "l:x", "owner", 2*unit, "owner")
		time.Sleep(unit)
	}
	wantNote(t, s, "l:x", "owner")
	time.Sleep(unit + unit/4)
	wantNote(t, s, "l:x", "")
	wantPut(t, s, "l:x", "owner", 1, "owner") // however short
}

func checkPutRace(t *testing.T, a, b session.Store) {
	held := make([]string, 16)
	var own atomic.Int32
	var wg sync.WaitGroup
	for i := range held {
		wg.Go(func() {
			value := fmt.Sprint("owner ", i)
			v, err := []session.Store{a, b}[i%2].Put(t.Context(), "l:x", []byte(value), time.Minute)
			if err != nil {
				t.Errorf("Put: %v", err)
			}
			if held[i] = string(v); held[i] == value {
				own.Add(1)
			}
		})
	}
	wg.Wait()
	for _, v := range held {
		if v != held[0] {
			t.Errorf("Put = %q and %q", v, held[0])
		}
	}
	if own.Load() != 1 {
		t.Errorf("%d of 16 took the note", own.Load())
	}
	wantNote(t, b, "l:x", held[0])
}

func checkRaise(t *testing.T, a, b session.Store) {
	raise := func(s session.Store, name, value string, life time.Duration) {
		t.Helper()
		if err := s.Raise(t.Context(), name, []byte(value), life); err != nil {
			t.Errorf("Raise(%q): %v", value, err)
		}
	}
	raise(a, "n:up", "0099", time.Minute)
	raise(b, "n:up", "0100", time.Minute)
	wantNote(t, a, "n:up", "0100")
	raise(a, "n:down", "0100", time.Minute)
	raise(b, "n:down", "0099", time.Minute)
	wantNote(t, a, "n:down", "0100")

	raise(a, "n:life", "0100", 2*unit)
	time.Sleep(unit)
	raise(b, "n:life", "0099", 2*unit) // a smaller value begins its life again, too
	time.Sleep(unit + unit/4)
	wantNote(t, a, "n:life", "0100")
	time.Sleep(unit)
	wantNote(t, a, "n:life", "")
	raise(b, "n:life", "0001", time.Minute)
	wantNote(t, a, "n:life", "0001")
}

func checkRaiseRace(t *testing.T, a, b session.Store) {
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := []session.Store{a, b}[i%2].Raise(t.Context(), "n:x", fmt.Appendf(nil, "%04d", (i*37)%64), time.Minute); err != nil {
				t.Errorf("Raise: %v", err)
			}
		})
	}
	wg.Wait()
	wantNote(t, b, "n:x", "0063")
}

func checkTake(t *testing.T, a, b session.Store) {
	if v, err := a.Take(t.Context(), "c:never"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Take of nothing = %q, %v", v, err)
	}
	wantPut(t, a, "c:short", "value", unit, "value")
	wantPut(t, a, "c:x", "value", time.Minute, "value")
	var got atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			v, err := []session.Store{a, b}[i%2].Take(t.Context(), "c:x")
			switch {
			case err == nil && string(v) == "value":
				got.Add(1)
			case !errors.Is(err, session.ErrNotFound):
				t.Errorf("Take = %q, %v", v, err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d of 16 Takes got the note", got.Load())
	}
	wantNote(t, a, "c:x", "")
	time.Sleep(unit + unit/4)
	if v, err := b.Take(t.Context(), "c:short"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Take of what ran out = %q, %v", v, err)
	}
}

func checkDrop(t *testing.T, a, b session.Store) {
	drop := func(s session.Store, name, value string) {
		t.Helper()
		if err := s.Drop(t.Context(), name, []byte(value)); err != nil {
			t.Errorf("Drop(%q): %v", value, err)
		}
	}
	wantPut(t, a, "l:x", "owner", time.Minute, "owner")
	for _, other := range []string{"", "another", "owne", "owner\x00"} {
		drop(b, "l:x", other)
		wantNote(t, a, "l:x", "owner")
	}
	drop(b, "l:x", "owner")
	wantNote(t, a, "l:x", "")
	drop(b, "l:x", "owner")
	wantPut(t, b, "l:x", "next", time.Minute, "next")
}

func checkNoteBytes(t *testing.T, s session.Store) {
	var every [256]byte
	for i := range every {
		every[i] = byte(i)
	}
	value := bytes.Clone(every[:])
	if held, err := s.Put(t.Context(), "c:x", value, time.Minute); err != nil || !bytes.Equal(held, every[:]) {
		t.Errorf("Put = %q, %v", held, err)
	}
	rand.Read(value) // the store has a copy
	wantNote(t, s, "c:x", string(every[:]))
	if got, err := s.Take(t.Context(), "c:x"); err != nil || !bytes.Equal(got, every[:]) {
		t.Errorf("Take = %q, %v", got, err)
	}
}
