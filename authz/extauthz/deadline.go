package extauthz

import (
	"context"
	"sync"
	"time"
)

// checkContext is the context of one Check. It has a deadline of ours, and it
// does not end when the browser goes away: Envoy cancels the call with the
// browser's connection, which must not tear a code exchange or a token refresh
// in two (the rotated refresh token would be lost).
//
// Most Checks do no I/O: they never ask for Done. The timer, its channel and the
// goroutine-safe tree behind a context.WithDeadline are made at the first Done
// and not before, so that a Check without I/O pays for one small allocation.
type checkContext struct {
	parent   context.Context //nolint:containedctx // this is a context: values only
	deadline time.Time

	mu     sync.Mutex      // guards what follows
	inner  context.Context //nolint:containedctx // this is a context
	cancel context.CancelFunc
	ended  bool
}

// newCheckContext starts a deadline timeout from now, or earlier when the
// caller waits less long: an answer that arrives after Envoy's own time-out is
// an error to Envoy, which failure_mode_allow lets through. An eighth of the
// caller's time is kept for the way back.
func newCheckContext(call context.Context, timeout time.Duration) *checkContext {
	now := time.Now()
	if patience, ok := call.Deadline(); ok {
		left := patience.Sub(now)
		timeout = min(timeout, left-left/8)
	}
	return &checkContext{parent: context.WithoutCancel(call), deadline: now.Add(timeout)}
}

// end releases the timer. Whoever still uses the context finds it cancelled.
func (c *checkContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

func (c *checkContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *checkContext) Done() <-chan struct{} { return c.real().Done() }

func (c *checkContext) Err() error {
	c.mu.Lock()
	inner, ended := c.inner, c.ended
	c.mu.Unlock()
	switch {
	case inner != nil:
		return inner.Err()
	case ended:
		return context.Canceled
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value asks the real context once there is one: that is how package context
// finds the parent of a derived context and spares it a goroutine.
func (c *checkContext) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

func (c *checkContext) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.parent, c.deadline)
		if c.ended {
			c.cancel()
		}
	}
	return c.inner
}
