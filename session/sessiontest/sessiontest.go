// Package sessiontest checks that a session.Store keeps its promises.
package sessiontest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// RunReplicas checks stores that several processes share, with the real clock and in
// parallel. newStores returns two for the same, empty place, and closes them with
// t.Cleanup.
func RunReplicas(t *testing.T, newStores func(t testing.TB) (a, b session.Store)) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := newStores(t)
			c.check(t, a, b)
		})
	}
}

// RunFakeClock checks a store of one process inside testing/synctest: it does no I/O.
// newStore returns an empty one.
func RunFakeClock(t *testing.T, newStore func(t testing.TB) session.Store) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				c.check(t, s, s)
			})
		})
	}
}

// unit is long enough that a busy machine does not blur it.
const unit = 800 * time.Millisecond

var checks = []struct {
	name  string
	check func(t *testing.T, a, b session.Store) // b is another replica of a
}{
	{"Fields", alone(checkFields)},
	{"MissIsNotFound", alone(checkMiss)},
	{"CanceledIsNotMiss", alone(checkCanceled)},
	{"IdleEnds", alone(checkIdle)},
	{"TouchExtends", alone(checkTouch)},
	{"TouchNeverPassesAbsoluteEnd", alone(checkAbsolute)},
	{"AbsoluteShorterThanIdle", alone(checkShortAbsolute)},
	{"MarkIsTakenOnce", alone(checkMark)},
	{"MarkEnds", alone(checkMarkEnds)},
	{"CreateIsAtomic", alone(checkAtomic)},
	{"EndIsFinal", alone(checkEnd)},
	{"C11TouchDoesNotRecreate", alone(checkTouchRace)},
	{"InputIsCopied", alone(checkCopies)},
	{"ReplaceMissIsNotFound", alone(checkReplaceMiss)},
	{"ReplaceComparesVersions", checkReplace},
	{"ReplaceCanBeRepeated", alone(checkReplaceRepeat)},
	{"ReplaceKeepsSummaryAndLife", alone(checkReplaceKeeps)},
	{"ReplaceOneOfManyWins", checkReplaceRace},
	{"EndWinsOverReplace", checkReplaceEnd},
	{"ListNamesEachOnce", checkList},
	{"ListForgetsWhatEnded", checkListEnd},
	{"ListLastsAsLongAsTheLongest", checkListLife},
	{"PutFirstWins", checkPut},
	{"PutRenewsItsOwn", alone(checkPutRenews)},
	{"PutOneOfManyWins", checkPutRace},
	{"RaiseKeepsTheGreater", checkRaise},
	{"RaiseConcurrently", checkRaiseRace},
	{"TakeGivesOnce", checkTake},
	{"DropOnlyItsOwn", checkDrop},
	{"NotesKeepBytes", alone(checkNoteBytes)},
	{"WatchTellsOfEndings", checkWatch},
	{"WatchEndsWithItsContext", alone(checkWatchEnds)},
}

// alone is a check of one store.
func alone(check func(*testing.T, session.Store)) func(t *testing.T, a, b session.Store) {
	return func(t *testing.T, a, _ session.Store) { check(t, a) }
}

// record returns a new record with a mark of its own.
func record(idle, absolute time.Duration) session.NewRecord {
	var id session.ID
	rand.Read(id[:])
	h := id.Handle()
	return session.NewRecord{
		// Every byte value must survive.
		Record: session.Record{Handle: h, Version: "1.0", Identity: []byte("identity\x00\r\n\xff" + h.String()), Tokens: []byte("tokens\x00\xfe"), Summary: []byte("summary")},
		Idle:   idle, Absolute: absolute, Index: []string{"u:" + h.String(), "p:" + h.String()},
		Mark: "a:" + h.String(), MarkValue: []byte("value\x00\xff" + h.String()), MarkLife: time.Minute,
	}
}

func create(t *testing.T, s session.Store, r session.NewRecord) session.NewRecord {
	t.Helper()
	if mark, err := s.Create(t.Context(), r); err != nil || !bytes.Equal(mark, r.MarkValue) {
		t.Fatalf("Create = %q, %v, want the record's own mark", mark, err)
	}
	return r
}

const all = session.FieldIdentity | session.FieldTokens | session.FieldSummary

func checkFields(t *testing.T, s session.Store) {
	r := create(t, s, record(time.Minute, time.Hour))
	create(t, s, record(time.Minute, time.Hour))
	for f := session.FieldIdentity; f <= all; f++ {
		got, left, err := s.Load(t.Context(), r.Handle, f)
		if err != nil {
			t.Fatalf("Load(%03b): %v", f, err)
		}
		if left <= 50*time.Second || left > time.Minute {
			t.Errorf("Load(%03b): %v are left, want about a minute", f, left)
		}
		if got.Handle != r.Handle || got.Version != r.Version {
			t.Errorf("Load(%03b) = record %v of version %q", f, got.Handle, got.Version)
		}
		for _, field := range []struct {
			f         session.Fields
			got, want []byte
		}{{session.FieldIdentity, got.Identity, r.Identity}, {session.FieldTokens, got.Tokens, r.Tokens}, {session.FieldSummary, got.Summary, r.Summary}} {
			if f&field.f == 0 {
				field.want = nil
			}
			if !bytes.Equal(field.got, field.want) {
				t.Errorf("Load(%03b): field %03b = %q, want %q", f, field.f, field.got, field.want)
			}
		}
	}
}

func checkMiss(t *testing.T, s session.Store) {
	h := record(1, 1).Handle
	wantOver(t, s, h)
	if err := s.Touch(t.Context(), h, time.Minute); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Touch of nothing: %v", err)
	}
	wantOver(t, s, h)
	if err := s.End(t.Context(), h, []string{"u:x"}); err != nil {
		t.Errorf("End of nothing: %v", err)
	}
	if v, err := s.Get(t.Context(), "a:no such mark"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Get of nothing = %q, %v", v, err)
	}
}

// wantOver fails unless there is certainly no record.
func wantOver(t *testing.T, s session.Store, h session.Handle) {
	t.Helper()
	if r, _, err := s.Load(t.Context(), h, all); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load = %q, %v, want ErrNotFound", r.Identity, err)
	}
}

func wantAlive(t *testing.T, s session.Store, h session.Handle) time.Duration {
	t.Helper()
	_, left, err := s.Load(t.Context(), h, session.FieldIdentity)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return left
}

// A store that cannot answer in time must not say that the session is gone.
func checkCanceled(t *testing.T, s session.Store) {
	r := create(t, s, record(time.Minute, time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(what string, err error) {
		t.Helper()
		if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := s.Load(ctx, r.Handle, all)
	never("Load", err)
	never("Touch", s.Touch(ctx, r.Handle, time.Minute))
	_, err = s.Get(ctx, r.Mark)
	never("Get", err)
	next := r.Record
	next.Version = "1.1"
	never("Replace", s.Replace(ctx, next, r.Version))
	if found, err := s.List(ctx, r.Index); err == nil && len(found) == 0 {
		t.Error("List = nothing, nil")
	}
	if held, err := s.Put(ctx, r.Mark, []byte("another"), time.Minute); err == nil && !bytes.Equal(held, r.MarkValue) {
		t.Errorf("Put = %q, nil", held)
	}
	_, err = s.Take(ctx, r.Mark)
	never("Take", err)
	wantAlive(t, s, r.Handle)
}

func checkIdle(t *testing.T, s session.Store) {
	r := create(t, s, record(2*unit, time.Hour))
	time.Sleep(unit)
	if left := wantAlive(t, s, r.Handle); left > unit {
		t.Errorf("%v are left half way, want at most %v", left, unit)
	}
	time.Sleep(unit + unit/4)
	wantOver(t, s, r.Handle)
	if err := s.Touch(t.Context(), r.Handle, time.Hour); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Touch after the end: %v", err)
	}
	wantOver(t, s, r.Handle)
}

func checkTouch(t *testing.T, s session.Store) {
	r := create(t, s, record(2*unit, time.Hour))
	for range 4 {
		time.Sleep(unit)
		if err := s.Touch(t.Context(), r.Handle, 2*unit); err != nil {
			t.Fatalf("Touch: %v", err)
		}
		if left := wantAlive(t, s, r.Handle); left <= unit || left > 2*unit {
			t.Errorf("%v are left after Touch, want about %v", left, 2*unit)
		}
	}
}

func checkAbsolute(t *testing.T, s session.Store) {
	r := create(t, s, record(2*unit, 3*unit))
	if err := s.Touch(t.Context(), r.Handle, time.Hour); err != nil {
		t.Fatalf("Touch: %v", err)
	}
	if left := wantAlive(t, s, r.Handle); left > 3*unit {
		t.Errorf("%v are left, past the absolute end", left)
	}
	time.Sleep(2 * unit)
	if err := s.Touch(t.Context(), r.Handle, time.Hour); err != nil {
		t.Fatalf("Touch: %v", err)
	}
	time.Sleep(unit + unit/4)
	wantOver(t, s, r.Handle)
}

func checkShortAbsolute(t *testing.T, s session.Store) {
	r := create(t, s, record(time.Hour, unit))
	if left := wantAlive(t, s, r.Handle); left > unit {
		t.Errorf("%v are left, past the absolute end", left)
	}
	time.Sleep(unit + unit/4)
	wantOver(t, s, r.Handle)
}

func checkMark(t *testing.T, s session.Store) {
	first := create(t, s, record(time.Minute, time.Hour))
	second := record(time.Minute, time.Hour)
	second.Mark = first.Mark
	if mark, err := s.Create(t.Context(), second); err != nil || !bytes.Equal(mark, first.MarkValue) {
		t.Errorf("second Create = %q, %v, want the first one's mark", mark, err)
	}
	wantOver(t, s, second.Handle)
	wantList(t, s, second.Index)
	wantAlive(t, s, first.Handle)
	if v, err := s.Get(t.Context(), first.Mark); err != nil || !bytes.Equal(v, first.MarkValue) {
		t.Errorf("Get = %q, %v", v, err)
	}
}

func checkMarkEnds(t *testing.T, s session.Store) {
	r := record(time.Minute, time.Hour)
	r.MarkLife = unit
	create(t, s, r)
	time.Sleep(unit + unit/4)
	if v, err := s.Get(t.Context(), r.Mark); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Get = %q, %v", v, err)
	}
	wantAlive(t, s, r.Handle)
	again := record(time.Minute, time.Hour)
	again.Mark = r.Mark
	create(t, s, again)
}

// Of many that use one mark, one wins and all learn it; whoever sees the mark sees its record.
func checkAtomic(t *testing.T, s session.Store) {
	const mark = "contended"
	records := make([]session.NewRecord, 16)
	byValue := map[string]session.Handle{}
	for i := range records {
		records[i] = record(time.Minute, time.Hour)
		records[i].Mark = mark
		byValue[string(records[i].MarkValue)] = records[i].Handle
	}
	won := make([]string, len(records))
	var done atomic.Bool
	var writers, reader sync.WaitGroup
	reader.Go(func() {
		for !done.Load() {
			if v, err := s.Get(t.Context(), mark); err == nil {
				if _, _, err := s.Load(t.Context(), byValue[string(v)], all); err != nil {
					t.Errorf("marked, but its record is not there: %v", err)
				}
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	for i := range records {
		writers.Go(func() {
			v, err := s.Create(t.Context(), records[i])
			if err != nil {
				t.Errorf("Create: %v", err)
			}
			won[i] = string(v)
		})
	}
	writers.Wait()
	done.Store(true)
	reader.Wait()
	for i, r := range records {
		if won[i] != won[0] {
			t.Fatalf("Create said %q won and %q won", won[0], won[i])
		}
		if r.Handle == byValue[won[0]] {
			wantAlive(t, s, r.Handle)
		} else {
			wantOver(t, s, r.Handle)
		}
	}
}

func checkEnd(t *testing.T, s session.Store) {
	r, other := create(t, s, record(time.Minute, time.Hour)), create(t, s, record(time.Minute, time.Hour))
	for range 2 {
		if err := s.End(t.Context(), r.Handle, r.Index); err != nil {
			t.Fatalf("End: %v", err)
		}
		wantOver(t, s, r.Handle)
		if err := s.Touch(t.Context(), r.Handle, time.Minute); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Touch after End: %v", err)
		}
		wantOver(t, s, r.Handle)
	}
	wantAlive(t, s, other.Handle)
}

// C11: an End during a Touch wins.
func checkTouchRace(t *testing.T, s session.Store) {
	for range 50 {
		r := create(t, s, record(time.Minute, time.Hour))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := s.Touch(t.Context(), r.Handle, time.Minute); err != nil && !errors.Is(err, session.ErrNotFound) {
						t.Errorf("Touch: %v", err)
					}
				}
			})
		}
		if err := s.End(t.Context(), r.Handle, nil); err != nil {
			t.Errorf("End: %v", err)
		}
		wantOver(t, s, r.Handle)
		close(stop)
		wg.Wait()
		wantOver(t, s, r.Handle)
	}
}

func checkCopies(t *testing.T, s session.Store) {
	r := record(time.Minute, time.Hour)
	want := fmt.Sprintf("%q", r.Identity)
	create(t, s, r)
	clear(r.Identity)
	got, _, err := s.Load(t.Context(), r.Handle, all)
	if err != nil || fmt.Sprintf("%q", got.Identity) != want {
		t.Errorf("Load = %q, %v, want %s", got.Identity, err, want)
	}
}
