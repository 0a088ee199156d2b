package seal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const absolute = 12 * time.Hour

func TestSchedule(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) time.Time { return day.Add(d) }
	late := func(name string, arrival time.Duration) func(string) time.Time {
		return func(id string) time.Time {
			if id == "0000000"+name {
				return at(arrival)
			}
			return time.Time{}
		}
	}
	type want struct {
		ID                string
		From, Until, Keep time.Time
		Seals, Spare      bool
	}
	newest := func(from time.Duration, seals bool) want {
		return want{ID: "00000001", From: at(from), Seals: seals}
	}
	for _, c := range []struct {
		name    string
		keys    []seal.Key
		now     time.Duration
		arrived func(string) time.Time
		want    []want
	}{
		{"one key, just made", []seal.Key{aged("1", 0)}, 0, nil, []want{{ID: "00000001", Seals: true}}},
		{"before the new one is active", []seal.Key{aged("2", -time.Hour), aged("1", 0)}, delay - 1, nil, []want{
			newest(delay, false), {ID: "00000002", Until: at(delay), Keep: at(delay + absolute), Seals: true},
		}},
		{"from then on", []seal.Key{aged("2", -time.Hour), aged("1", 0)}, delay, nil, []want{
			newest(delay, true), {ID: "00000002", Until: at(delay), Keep: at(delay + absolute)},
		}},
		{"the last moment of the old one", []seal.Key{aged("2", -time.Hour), aged("1", 0)}, delay + absolute - 1, nil, []want{
			newest(delay, true), {ID: "00000002", Until: at(delay), Keep: at(delay + absolute)},
		}},
		{"the old one may go", []seal.Key{aged("2", -time.Hour), aged("1", 0)}, delay + absolute, nil, []want{
			newest(delay, true), {ID: "00000002", Until: at(delay), Keep: at(delay + absolute), Spare: true},
		}},
		{"all younger than the delay", []seal.Key{aged("2", -time.Minute), aged("1", 0)}, 0, nil, []want{
			newest(delay, false), {ID: "00000002", Until: at(delay), Keep: at(delay + absolute), Seals: true},
		}},
		{"three, one may go", []seal.Key{aged("3", -48*time.Hour), aged("2", -24*time.Hour), aged("1", 0)}, 0, nil, []want{
			newest(delay, false),
			{ID: "00000002", From: at(delay - 24*time.Hour), Until: at(delay), Keep: at(delay + absolute), Seals: true},
			{ID: "00000003", Until: at(delay - 24*time.Hour), Keep: at(delay - 24*time.Hour + absolute), Spare: true},
		}},
		{"created in the same second", []seal.Key{aged("2", 0), aged("1", 0), aged("3", -time.Hour)}, delay, nil, []want{
			newest(delay, true),
			{ID: "00000002", From: at(delay), Until: at(delay), Keep: at(delay + absolute)},
			{ID: "00000003", Until: at(delay), Keep: at(delay + absolute)},
		}},
		// Made two days ago, but put in place an hour ago: until then the old key sealed.
		{"came late", []seal.Key{aged("2", -72*time.Hour), aged("1", -48*time.Hour)}, 0, late("1", -time.Hour), []want{
			newest(delay-48*time.Hour, true), {ID: "00000002", Until: at(-time.Hour), Keep: at(absolute - time.Hour)},
		}},
		// The second came late, but the newest one has been sealing for days.
		{"skipped", []seal.Key{aged("3", -96*time.Hour), aged("2", -72*time.Hour), aged("1", -48*time.Hour)}, 0, late("2", -time.Hour), []want{
			newest(delay-48*time.Hour, true),
			{ID: "00000002", From: at(delay - 72*time.Hour), Until: at(delay - 48*time.Hour), Keep: at(delay - 36*time.Hour), Spare: true},
			{ID: "00000003", Until: at(delay - 48*time.Hour), Keep: at(delay - 36*time.Hour), Spare: true},
		}},
	} {
		r, err := seal.NewRing(c.keys, delay, func() time.Time { return at(c.now) })
		if err != nil {
			t.Fatal(err)
		}
		var got []want
		for _, d := range r.Schedule(absolute, c.arrived) {
			got = append(got, want{d.ID, d.From, d.Until, d.Keep, d.Seals, d.Spare})
			if d.Seals != (d.ID == r.Sealing()) {
				t.Errorf("%s: key %s seals %v, the ring seals with %s", c.name, d.ID, d.Seals, r.Sealing())
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: Schedule (-want +got):\n%s", c.name, diff)
		}
	}
}

// D15: two replicas that see a new key four minutes apart open each other's values at
// every moment; what the old key sealed last opens for as long as a session can live;
// and Schedule lets the old key go only then.
func TestReplicasSeeKeysMinutesApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old := seal.NewKey(time.Now())
		early, err := seal.NewRing([]seal.Key{old}, delay, nil)
		if err != nil {
			t.Fatal(err)
		}
		late, err := seal.NewRing([]seal.Key{old}, delay, nil)
		if err != nil {
			t.Fatal(err)
		}
		replicas := []*seal.Ring{early, late}
		boxes := []*seal.Box{early.Box("cookie"), late.Box("cookie")}
		set := func(r *seal.Ring, keys ...seal.Key) {
			t.Helper()
			if err := r.Set(keys); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		young, made := seal.NewKey(time.Now()), time.Now()
		set(early, old, young)
		var last string // the last value under the old key, and when it was sealed
		var lastAt time.Time
		for time.Since(made) < 10*time.Minute {
			if time.Since(made) == 4*time.Minute {
				set(late, old, young)
			}
			for i, from := range boxes {
				sealed := from.Seal([]byte("session"), "host")
				if replicas[i].Sealing() == old.ID {
					last, lastAt = sealed, time.Now()
				}
				for j, to := range boxes {
					if _, err := to.Open(sealed, "host"); err != nil {
						t.Fatalf("%v after the new key was made replica %d cannot open what %d sealed: %v", time.Since(made), j, i, err)
					}
				}
			}
			time.Sleep(15 * time.Second)
		}
		if early.Sealing() != young.ID || late.Sealing() != young.ID {
			t.Error("the new key does not seal")
		}
		for !early.Schedule(absolute, nil)[1].Spare {
			time.Sleep(15 * time.Second)
		}
		if lived := time.Since(lastAt); lived < absolute {
			t.Errorf("the old key may go %v after it sealed last, a session lives %v", lived, absolute)
		}
		if _, err := boxes[0].Open(last, "host"); err != nil {
			t.Errorf("before the removal: %v", err)
		}
		set(early, young)
		if _, err := boxes[0].Open(last, "host"); err == nil {
			t.Error("a value opens without its key")
		}
	})
}
