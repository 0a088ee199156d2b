package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// size is how often something heavy is done: full with GATEHOUSE_E2E_FULL=1, else ci,
// which is smaller and as real.
func size(full, ci int) int {
	if os.Getenv("GATEHOUSE_E2E_FULL") == "1" {
		return full
	}
	return ci
}

// spread is a set of durations. Its zero value is empty; adding is safe for
// concurrent use.
type spread struct {
	mu  sync.Mutex
	all []time.Duration // guarded by mu
}

func (s *spread) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
}

// at is the duration that this share of all does not exceed (nearest rank); 0 of none.
func (s *spread) at(share float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return 0
	}
	slices.Sort(s.all)
	rank := int(share*float64(len(s.all)) + 0.999999)
	return s.all[min(max(rank, 1), len(s.all))-1]
}

func (s *spread) String() string {
	round := func(share float64) time.Duration { return s.at(share).Round(10 * time.Microsecond) }
	return fmt.Sprintf("n %d, p50 %v, p99 %v, max %v", len(s.all), round(0.5), round(0.99), round(1))
}

// tally counts what happened to people. Its zero value is empty and safe for
// concurrent use.
type tally struct {
	mu     sync.Mutex
	counts map[outcome]int
	hasty  int      // refusals without Retry-After
	odd    []string // what else went wrong, the first few
}

func (c *tally) add(v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[outcome]int{}
	}
	o := v.outcome()
	c.counts[o]++
	if o == refused && v.Header.Get("retry-after") == "" {
		c.hasty++
	}
	if (o == failed || o == signedOut) && len(c.odd) < 5 {
		c.odd = append(c.odd, v.String())
	}
}

func (c *tally) count(o outcome) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[o]
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("allowed %d, refused %d, signed out %d", c.counts[allowed], c.counts[refused], c.counts[signedOut])
	if n := c.counts[failed]; n > 0 {
		s += fmt.Sprintf(", failed %d", n)
	}
	return s
}

// check logs the figures of a phase and fails for what must never happen: an answer
// that is none, a 503 without Retry-After, and, unless it is the point, a sign-out.
func (c *tally) check(t testing.TB, phase string, mayEnd bool) {
	t.Helper()
	t.Logf("%s: %v", phase, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.counts[failed]; n > 0 {
		t.Errorf("%s: %d answers were neither an allow, a 503 nor a sign-out: %.300q", phase, n, c.odd)
	}
	if n := c.counts[signedOut]; n > 0 && !mayEnd {
		t.Errorf("%s: %d answers signed somebody out: %.300q", phase, n, c.odd)
	}
	if c.hasty > 0 {
		t.Errorf("%s: %d answers 503 came without Retry-After", phase, c.hasty)
	}
}

// resident is the memory of a process in MiB.
func (p *process) resident(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		missing(t, "no /proc to read memory from")
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	t.Fatalf("no VmRSS in the status of %s", p.name)
	return 0
}

func TestMeasures(t *testing.T) {
	t.Parallel()
	var s spread
	for i := range 200 {
		s.add(time.Duration(200-i) * time.Millisecond)
	}
	if got := s.String(); got != "n 200, p50 100ms, p99 198ms, max 200ms" {
		t.Errorf("spread of 1 to 200 ms = %s", got)
	}
	var c tally
	for _, v := range []verdict{
		{},
		{Status: 503},
		{Status: 401},
		{Status: 302},
		{Status: 500},
		{Status: 403},
		{Err: os.ErrClosed},
		{Header: map[string][]string{"Set-Cookie": {"__Host-gh_corp=; Max-Age=0"}}},
	} {
		c.add(v)
	}
	if got := c.String(); got != "allowed 1, refused 1, signed out 3, failed 3" || c.hasty != 1 {
		t.Errorf("tally = %s, %d without Retry-After", got, c.hasty)
	}
	p := start(t, launch{name: "sleep", path: program(t, "sleep"), args: []string{"10"}})
	if got := p.resident(t); got > 50 {
		t.Errorf("a sleeping process has %d MiB", got)
	}
}
