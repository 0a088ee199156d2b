package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestS10HeaderLimits: whatever a client sends, an allow never goes beyond what
// Envoy lets through: it would answer 500. It is a 403 of ours before that.
func TestS10HeaderLimits(t *testing.T) {
	s := newStack(t, fixture{listeners: []listener{{normalise: true, rawHeaders: true}, {normalise: true}}})
	alice := "cookie: " + s.session(t, appHost, "alice")
	for _, l := range s.listeners {
		for _, c := range []struct{ name, host, path, cookie string }{
			{"anonymous", openHost, "/limits", "cookie: a=b"}, {"signed in", appHost, "/limits", alice},
		} {
			ask := func(what string, lines ...string) int {
				t.Helper()
				status := get(t, l.port, c.host, c.path, append(lines, c.cookie)...).Status
				if status >= http.StatusInternalServerError {
					t.Errorf("%v, %s, %s: %d, want it allowed or refused", l, c.name, what, status)
				}
				return status
			}
			var counts, sizes, repeated [2]int // allowed, refused
			note := func(counts *[2]int, status int) {
				if status == http.StatusOK {
					counts[0]++
				} else {
					counts[1]++
				}
			}
			for n := 70; n <= 99; n++ {
				lines, same := make([]string, n), make([]string, n)
				for i := range n {
					lines[i], same[i] = fmt.Sprintf("x-line-%d: v", i), "x-same: v"
				}
				note(&counts, ask(fmt.Sprintf("%d lines", n), lines...))
				if l.rawHeaders { // else Envoy joins lines of one name, and nobody can count them
					note(&repeated, ask(fmt.Sprintf("%d lines of one name", n), same...))
				}
			}
			for size := 56 << 10; size <= 60<<10; size += 128 {
				note(&sizes, ask(fmt.Sprintf("%d bytes", size), "x-big: "+strings.Repeat("v", size)))
			}
			t.Logf("%v, %s: allowed and refused by count %v, with one name %v, by size %v", l, c.name, counts, repeated, sizes)
			if counts[0] == 0 || counts[1] == 0 || sizes[0] == 0 || sizes[1] == 0 {
				t.Errorf("%v, %s: not both sides of the limits were seen: %v %v", l, c.name, counts, sizes)
			}
		}
	}
}
