package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// X1, promise 5: a flood of navigations without a cookie writes nothing, does not fill
// the memory, and leaves a neighbour alone who is signed in.
func TestFloodOfStrangers(t *testing.T) {
	s := newStack(t, fixture{redis: true, replicas: 3, access: "none"})
	cookie := "cookie: " + s.session(t, appHost, "alice")
	var calm, crowded spread
	s.neighbour(t, &calm, cookie, func() { time.Sleep(2 * time.Second) })
	keys, before := s.redis.size(t), s.memory(t)
	n := size(300_000, 30_000)
	var begun tally
	s.neighbour(t, &crowded, cookie, func() {
		begin := time.Now()
		s.flood(t, n, &begun)
		t.Logf("%d navigations without a cookie in %v", n, time.Since(begin).Round(time.Millisecond))
	})
	after := s.memory(t)
	t.Logf("Redis keys %s, then %s; memory of the replicas %v MiB, then %v; a neighbour's Check: alone %v, in the flood %v",
		keys, s.redis.size(t), before, after, &calm, &crowded)
	if got := s.redis.size(t); got != keys {
		t.Errorf("Redis has %s keys after the flood, had %s", got, keys)
	}
	if got := begun.count(signedOut); got != n {
		t.Errorf("%v; want %d strangers sent to sign in", &begun, n)
	}
	for i := range after {
		if grown := after[i] - before[i]; grown > 100 {
			t.Errorf("replica %d has grown by %d MiB, from %d", i, grown, before[i])
		}
	}
}

// flood is n strangers, every second of whom goes on to the start of a login.
func (s *stack) flood(t testing.TB, n int, c *tally) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				path := fmt.Sprintf("/page/%d?x=%d", i, i)
				if i%2 == 0 {
					path = "/oauth2/start?rd=" + url.QueryEscape(path)
				}
				v := s.replicas[i%3].checks.unnoted(t.Context(), appHost, path, navigation...)
				if v.Status == http.StatusFound {
					v.Header.Del("set-cookie") // a login begins: nobody was signed in
				}
				c.add(v)
			}
		})
	}
	wg.Wait()
}

// neighbour measures a signed-in person's Checks at every replica while act runs.
func (s *stack) neighbour(t testing.TB, took *spread, cookie string, act func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, g := range s.replicas {
		wg.Go(func() {
			g.checks.repeat(ctx, 10*time.Millisecond, appHost, "/neighbour", []string{cookie}, func(sent time.Time, v verdict) bool {
				took.add(time.Since(sent))
				if v.outcome() != allowed {
					t.Errorf("the neighbour: %v, want allowed", v)
				}
				return true
			})
		})
	}
	act()
	cancel()
	wg.Wait()
}

// memory is what each replica holds, in MiB.
func (s *stack) memory(t testing.TB) []int {
	t.Helper()
	var all []int
	for _, g := range s.replicas {
		all = append(all, g.resident(t))
	}
	return all
}
