package sessiontest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// next is what a renewal would write over r.
func next(r session.NewRecord, version string) session.Record {
	n := r.Record
	n.Version, n.Identity, n.Tokens, n.Summary = version, []byte("identity\x00"+version), []byte("tokens\xff"+version), []byte("not written")
	return n
}

// wantRecord fails unless the record is want, and returns its life.
func wantRecord(t *testing.T, s session.Store, want session.Record) time.Duration {
	t.Helper()
	got, left, err := s.Load(t.Context(), want.Handle, all)
	if err != nil || got.Version != want.Version || !bytes.Equal(got.Identity, want.Identity) ||
		!bytes.Equal(got.Tokens, want.Tokens) || !bytes.Equal(got.Summary, want.Summary) {
		t.Errorf("Load = %q %q %q %q, %v, want %q %q %q %q", got.Version, got.Identity, got.Tokens, got.Summary, err,
			want.Version, want.Identity, want.Tokens, want.Summary)
	}
	return left
}

func checkReplaceMiss(t *testing.T, s session.Store) {
	r := record(time.Minute, time.Hour)
	if err := s.Replace(t.Context(), next(r, "1.1"), "1.0"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Replace of nothing: %v", err)
	}
	wantOver(t, s, r.Handle)
	short := create(t, s, record(unit, time.Hour))
	time.Sleep(unit + unit/4)
	if err := s.Replace(t.Context(), next(short, "1.1"), "1.0"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Replace of what ran out: %v", err)
	}
	wantOver(t, s, short.Handle)
}

func checkReplace(t *testing.T, a, b session.Store) {
	r := create(t, a, record(time.Minute, time.Hour))
	if err := b.Replace(t.Context(), next(r, "1.2"), "1.1"); !errors.Is(err, session.ErrConflict) {
		t.Errorf("Replace of another version: %v", err)
	}
	wantRecord(t, a, r.Record)
	want := next(r, "1.1")
	if err := b.Replace(t.Context(), want, "1.0"); err != nil {
		t.Errorf("Replace: %v", err)
	}
	want.Summary = r.Summary
	wantRecord(t, a, want)
	if err := a.Replace(t.Context(), next(r, "1.3"), "1.0"); !errors.Is(err, session.ErrConflict) {
		t.Errorf("Replace of a version that was replaced: %v", err)
	}
	wantRecord(t, b, want)
}

// Who did not hear the answer asks again, and the same version with another content is
// somebody else's.
func checkReplaceRepeat(t *testing.T, s session.Store) {
	r := create(t, s, record(time.Minute, time.Hour))
	for range 3 {
		if err := s.Replace(t.Context(), next(r, "1.1"), "1.0"); err != nil {
			t.Fatalf("Replace: %v", err)
		}
	}
	other := next(r, "1.1")
	other.Identity = []byte("of another owner")
	if err := s.Replace(t.Context(), other, "1.0"); !errors.Is(err, session.ErrConflict) {
		t.Errorf("Replace by another owner: %v", err)
	}
	want := next(r, "1.1")
	want.Summary = r.Summary
	clear(other.Identity)
	wantRecord(t, s, want)
}

func checkReplaceKeeps(t *testing.T, s session.Store) {
	r := create(t, s, record(2*unit, 3*unit))
	time.Sleep(unit)
	want := next(r, "1.1")
	written := want
	written.Identity = bytes.Clone(want.Identity)
	if err := s.Replace(t.Context(), written, "1.0"); err != nil {
		t.Fatalf("Replace: %v", err)
	}
	clear(written.Identity) // the store has a copy
	want.Summary = r.Summary
	if left := wantRecord(t, s, want); left > unit {
		t.Errorf("%v are left after Replace, want at most %v", left, unit)
	}
	if err := s.Touch(t.Context(), r.Handle, time.Hour); err != nil {
		t.Fatalf("Touch: %v", err)
	}
	if left := wantAlive(t, s, r.Handle); left > 2*unit {
		t.Errorf("%v are left after Touch, past the absolute end", left)
	}
	time.Sleep(2*unit + unit/4)
	wantOver(t, s, r.Handle)
}

func checkReplaceRace(t *testing.T, a, b session.Store) {
	r := create(t, a, record(time.Minute, time.Hour))
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			n := next(r, "1.1")
			n.Identity = fmt.Appendf(nil, "owner %d", i)
			switch err := []session.Store{a, b}[i%2].Replace(t.Context(), n, "1.0"); {
			case err == nil:
				won.Add(1)
				winner.Store(string(n.Identity))
			case !errors.Is(err, session.ErrConflict):
				t.Errorf("Replace: %v", err)
			}
		})
	}
	wg.Wait()
	if got, _, err := a.Load(t.Context(), r.Handle, all); won.Load() != 1 || err != nil || string(got.Identity) != winner.Load() {
		t.Errorf("%d of 16 Replaces won, the record is %q, %v, want %q", won.Load(), got.Identity, err, winner.Load())
	}
}

// A sign-out during a renewal wins.
func checkReplaceEnd(t *testing.T, a, b session.Store) {
	for range 30 {
		r := create(t, a, record(time.Minute, time.Hour))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				err := b.Replace(t.Context(), next(r, fmt.Sprintf("1.%d", i+1)), fmt.Sprintf("1.%d", i))
				if errors.Is(err, session.ErrNotFound) {
					return
				}
				if err != nil {
					t.Errorf("Replace: %v", err)
					return
				}
			}
		})
		if err := a.End(t.Context(), r.Handle, r.Index); err != nil {
			t.Errorf("End: %v", err)
		}
		wantOver(t, a, r.Handle)
		close(stop)
		wg.Wait()
		wantOver(t, b, r.Handle)
	}
}

func wantList(t *testing.T, s session.Store, index []string, want ...session.NewRecord) {
	t.Helper()
	got, err := s.List(t.Context(), index)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	ok := len(got) == len(want)
	for _, r := range want {
		ok = ok && slices.Contains(got, r.Handle)
	}
	if !ok {
		t.Errorf("List(%q) = %d handles %v, want %d", index, len(got), got, len(want))
	}
}

func checkList(t *testing.T, a, b session.Store) {
	r1, r2, other := record(time.Minute, time.Hour), record(time.Minute, time.Hour), record(time.Minute, time.Hour)
	r2.Index = []string{r1.Index[0], "p:of its own"}
	for _, r := range []session.NewRecord{r1, r2, other} {
		create(t, a, r)
	}
	wantList(t, b, r1.Index, r1, r2) // r1 is in both sets
	wantList(t, b, r1.Index[:1], r1, r2)
	wantList(t, b, []string{"u:nobody", "p:of its own"}, r2)
	wantList(t, b, []string{"u:nobody"})
	wantList(t, b, nil)
}

// Whoever is ended by his name must be found as long as one of his sessions lives,
// whichever was made first.
func checkListLife(t *testing.T, a, b session.Store) {
	short, long, last := record(unit, unit), record(time.Minute, time.Hour), record(unit, unit)
	long.Index, last.Index = short.Index, short.Index
	for _, r := range []session.NewRecord{short, long, last} {
		create(t, a, r)
	}
	time.Sleep(unit + unit/4)
	got, err := b.List(t.Context(), short.Index)
	if err != nil || !slices.Contains(got, long.Handle) {
		t.Errorf("List = %v, %v, without a session that is alive", got, err)
	}
}

func checkListEnd(t *testing.T, a, b session.Store) {
	r, stays := record(time.Minute, time.Hour), record(time.Minute, time.Hour)
	stays.Index = r.Index
	create(t, a, r)
	create(t, a, stays)
	if err := b.End(t.Context(), r.Handle, r.Index); err != nil {
		t.Fatalf("End: %v", err)
	}
	wantList(t, a, r.Index, stays)
	if err := b.End(t.Context(), stays.Handle, stays.Index); err != nil {
		t.Fatalf("End: %v", err)
	}
	wantList(t, a, r.Index)
}
