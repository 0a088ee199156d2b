package login

import (
	"slices"
	"testing"
	"time"
)

func TestPack(t *testing.T) {
	t.Parallel()
	fields := []string{"", "a", string(make([]byte, 300)), packTime(time.Unix(-5, 0))}
	got, ok := unpack(pack(fields...), len(fields))
	if !ok || !slices.Equal(got, fields) || !unpackTime(got[3]).Equal(time.Unix(-5, 0)) {
		t.Errorf("unpack(pack(%q)) = %q, %v", fields, got, ok)
	}
	for _, n := range []int{3, 5} {
		if got, ok := unpack(pack(fields...), n); ok {
			t.Errorf("unpack as %d fields = %q", n, got)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack("a", "", "bc"), 3)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'a'}, 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > 16 {
			return
		}
		if fields, ok := unpack(b, n); ok && len(fields) != n {
			t.Fatalf("unpack gave %d fields, want %d", len(fields), n)
		}
	})
}

func TestTrail(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	tr := trail{first: now}
	for i := range maxRestarts {
		if tr.loops(now) {
			t.Fatalf("loops after %d restarts", i)
		}
		tr = tr.again(now.Add(time.Duration(i) * time.Second))
	}
	if !tr.loops(now.Add(restartSpan)) || tr.loops(now.Add(restartSpan+time.Second)) {
		t.Errorf("trail %v does not end with its span", tr)
	}
	if next := tr.again(now.Add(time.Minute)); next.restarts != 1 {
		t.Errorf("a restart after the span counts as number %d", next.restarts)
	}
	if got, ok := parseTrail(tr.String()); !ok || got.restarts != tr.restarts || !got.first.Equal(tr.first) {
		t.Errorf("parseTrail(%q) = %v, %v", tr, got, ok)
	}
	for _, s := range []string{"", "1", ".", "-1.5", "300.5", "1.x", "1.99999999999999999999999999999999"} {
		if got, ok := parseTrail(s); ok {
			t.Errorf("parseTrail(%q) = %v", s, got)
		}
	}
}

func TestFlightsAreBounded(t *testing.T) {
	t.Parallel()
	f, now := newFlights(), time.Now()
	for i := range maxFlights + 500 {
		mark := packTime(time.Unix(int64(i), 0))
		if _, owner, err := f.join(mark, now); !owner || err != nil {
			t.Fatalf("join %d: %v", i, err)
		}
		f.land(mark, made{}, nil, false, now)
	}
	if len(f.flights) > maxFlights || len(f.order) > maxFlights {
		t.Errorf("%d flights are remembered", len(f.flights))
	}
	hanging := newFlights()
	_, _, _ = hanging.join("at a provider that hangs", now)
	for i := range 2 * maxFlights {
		mark := packTime(time.Unix(int64(i), 0))
		if i%2 == 1 {
			mark = "tried again and again"
		}
		now = now.Add(repeatSpan / 10)
		if _, owner, err := hanging.join(mark, now); owner && err == nil {
			hanging.land(mark, made{}, errElsewhere, true, now)
		}
	}
	if len(hanging.flights) > maxFlights || len(hanging.order) > maxFlights {
		t.Errorf("%d flights are remembered, %d in order", len(hanging.flights), len(hanging.order))
	}
	if fl, owner, _ := hanging.join("at a provider that hangs", now); owner || fl.finished() {
		t.Error("the login that hangs is forgotten: its code would be sent twice")
	}
	g := newFlights()
	for i := range maxRunning {
		_, _, _ = g.join(packTime(time.Unix(int64(i), 0)), now)
	}
	if _, _, err := g.join("one more", now); err == nil {
		t.Errorf("there is no limit to what runs")
	}
}
