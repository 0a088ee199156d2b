package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crowd are signed-in people, a machine and a stranger who ask every replica all the
// time, whatever happens.
type crowd struct {
	s       *stack
	host    string
	cookies []string
	now     atomic.Pointer[phase]
}

// phase is what the crowd lived through in one stretch of time. A Check belongs to the
// phase in which it was sent.
type phase struct {
	people, others tally
	took           spread // of the people's Checks
	sent           sync.WaitGroup
}

// gather signs n people in at host and has them ask until the test ends.
func (s *stack) gather(t testing.TB, host string, n int) *crowd {
	t.Helper()
	c := &crowd{s: s, host: host}
	names := []string{"alice", "root", "mallory"}
	for i := range n {
		c.cookies = append(c.cookies, "cookie: "+s.session(t, host, names[i%len(names)]))
	}
	c.now.Store(&phase{})
	token := bearer(s.idp.Bearer(nil))[0]
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, g := range s.replicas {
		for _, cookie := range c.cookies {
			wg.Go(func() { c.ask(ctx, 40*time.Millisecond, g, true, host, cookie) })
		}
		wg.Go(func() { c.ask(ctx, 100*time.Millisecond, g, false, apiHost, token) })
		wg.Go(func() { c.ask(ctx, 100*time.Millisecond, g, false, openHost, "x-none: x") })
	}
	// Everybody is in the caches of every replica, proven a moment ago.
	time.Sleep(300 * time.Millisecond)
	return c
}

func (c *crowd) ask(ctx context.Context, pause time.Duration, g *gatehouse, person bool, host, line string) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		p := c.now.Load()
		p.sent.Add(1)
		begin := time.Now()
		v := g.checks.get(ctx, host, "/crowd", line)
		switch {
		case ctx.Err() != nil:
		case person:
			p.people.add(v)
			p.took.add(time.Since(begin))
		default:
			p.others.add(v)
		}
		p.sent.Done()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// during counts what is sent while act runs and then for d, and checks what must hold in every phase:
// anonymous and bearer rules are served, and nobody is signed out unless mayEnd.
func (c *crowd) during(t testing.TB, name string, mayEnd bool, d time.Duration, act func()) *phase {
	t.Helper()
	p := &phase{}
	c.now.Store(p)
	if act != nil {
		act()
	}
	time.Sleep(d)
	c.now.Store(&phase{})
	p.sent.Wait()
	p.people.check(t, fmt.Sprintf("%s (%v)", name, &p.took), mayEnd)
	if n := p.others.count(allowed); n == 0 || n != p.others.total() {
		t.Errorf("%s: bearer and anonymous: %v, want all allowed", name, &p.others)
	}
	return p
}

// only fails when somebody met another outcome than this one.
func (p *phase) only(t testing.TB, name string, want outcome) {
	t.Helper()
	if n := p.people.count(want); n == 0 || n != p.people.total() {
		t.Errorf("%s: %v, want all %s", name, &p.people, want)
	}
}

func (c *tally) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, k := range c.counts {
		n += k
	}
	return n
}

// settle waits until everybody is allowed everywhere.
func (c *crowd) settle(t testing.TB, within time.Duration) {
	t.Helper()
	begin := time.Now()
	eventually(t, within, func() error {
		for i, g := range c.s.replicas {
			for _, cookie := range c.cookies {
				if v := g.checks.get(t.Context(), c.host, "/settle", cookie); v.outcome() != allowed {
					return fmt.Errorf("replica %d: %v", i, v)
				}
			}
		}
		return nil
	})
	t.Logf("everybody is allowed again after %v", time.Since(begin).Round(time.Millisecond))
}

// What a login page says when signing in is not possible.
const (
	storeDown    = "The place where sign-ins are kept cannot be reached."
	storeFull    = "There is no room for another session just now."
	providerDown = "The sign-in service cannot be reached or did not answer as it should."
)

// loginFails is somebody who tries to sign in and gets a page that says "not now" and why.
func (s *stack) loginFails(t testing.TB, name, why string) {
	t.Helper()
	a := newAgent(t)
	p := a.open(s.url(appHost, "/refused"))
	if strings.HasPrefix(p.url, s.issuer()) {
		var err error
		if p, err = a.send(http.MethodPost, p.url, map[string][]string{"user": {"root"}}); err != nil {
			t.Fatal(err)
		}
	}
	if p.Status != http.StatusServiceUnavailable || p.Header.Get("retry-after") == "" || !strings.Contains(string(p.Body), why) {
		t.Errorf("%s: a login ended at %.120s with %d, retry-after %q, want 503 with Retry-After and %q: %.300s", name, p.url, p.Status, p.Header.Get("retry-after"), why, p.Body)
	}
}

// ready fails unless every replica wants requests, and says what does not work: "ready",
// or "ready, degraded: store" and the like.
func (s *stack) ready(t testing.TB, name, want string) {
	t.Helper()
	client := &http.Client{Timeout: 2 * time.Second}
	for i, g := range s.replicas {
		resp, err := client.Get("http://" + addr(g.ops) + "/readyz")
		if err != nil {
			t.Errorf("%s, replica %d: %v", name, i, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := strings.TrimSpace(string(body)); err != nil || resp.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s, replica %d: readiness %d %q, %v, want 200 %q", name, i, resp.StatusCode, got, err, want)
		}
	}
}
