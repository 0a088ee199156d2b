package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// canaries are people with sessions, each of whom must only ever be himself.
type canaries struct {
	s       *stack
	names   []string
	cookies []string // of names

	done, cancelled, unsure atomic.Int64 // unsure: 503, the store was too slow
	mu                      sync.Mutex
	wrong                   []string // guarded by mu
}

// Q1, D10: two hundred people, Redis that answers late and unevenly, and callers that
// leave at any moment: nobody is ever answered for somebody else, and the race detector
// in the binary finds nothing. Sessions are proven at the store all the time, since
// nothing is told that ends: the subscription is mute.
func TestIdentityCanary(t *testing.T) {
	c := &canaries{}
	var users []oidctest.User
	for i := range 200 {
		c.names = append(c.names, fmt.Sprintf("canary-%03d", i))
		users = append(users, oidctest.User{Subject: c.names[i], Email: c.names[i] + "@good.test", EmailVerified: true, Groups: []string{c.names[i] + "-group"}})
	}
	c.s = newStack(t, fixture{redis: true, replicas: 3, faults: true, race: true, users: users, access: "denied"})
	for _, name := range c.names {
		c.cookies = append(c.cookies, "cookie: "+c.s.session(t, appHost, name))
	}
	c.s.replicas[0].redis.slow(3*time.Millisecond, 3*time.Millisecond)
	c.s.replicas[1].redis.slow(8*time.Millisecond, 8*time.Millisecond)
	c.s.replicas[1].redis.drop("")
	c.s.replicas[2].redis.drop("")
	n := size(200_000, 20_000)
	begin := time.Now()
	c.fly(t, n)
	t.Logf("%d Checks of %d people in %v: %d answered, %d left early, %d were 503, %d answered for somebody else",
		n, len(c.names), time.Since(begin).Round(time.Millisecond), c.done.Load(), c.cancelled.Load(), c.unsure.Load(), len(c.wrong))
	if len(c.wrong) > 0 {
		t.Errorf("%.5q", c.wrong)
	}
	if c.cancelled.Load() < int64(n/50) || c.done.Load() < int64(n/2) {
		t.Errorf("too few Checks were cancelled, or answered: the test shows less than it should")
	}
	for _, g := range c.s.replicas {
		if strings.Contains(g.output(), "DATA RACE") {
			t.Errorf("the race detector reports in %s", g.log)
		}
	}
}

func (c *canaries) fly(t testing.TB, n int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				c.ask(t, rand.IntN(len(c.names)), c.s.replicas[i%3])
			}
		})
	}
	wg.Wait()
}

// ask is one Check of one person; every fifth caller leaves within 10 ms.
func (c *canaries) ask(t testing.TB, who int, g *gatehouse) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	if rand.IntN(5) == 0 {
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), rand.N(10*time.Millisecond))
	}
	defer cancel()
	v := g.checks.get(ctx, appHost, "/canary/"+c.names[who], c.cookies[who])
	code := status.Code(v.Err)
	switch {
	case code == codes.Canceled || code == codes.DeadlineExceeded:
		c.cancelled.Add(1)
	case v.outcome() == refused:
		c.unsure.Add(1)
	case v.outcome() == allowed && c.himself(who, v):
		c.done.Add(1)
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wrong = append(c.wrong, fmt.Sprintf("%s was answered %v", c.names[who], v))
	}
}

func (c *canaries) himself(who int, v verdict) bool {
	name := c.names[who]
	return v.user() == name && v.Header.Get("x-auth-request-email") == name+"@good.test" && v.Header.Get("x-auth-request-groups") == name+"-group"
}
