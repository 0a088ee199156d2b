package extauthz

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type testKey struct{}

func TestCheckContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		call, cancel := context.WithCancel(context.WithValue(t.Context(), testKey{}, "v"))
		c := newCheckContext(call, time.Second)
		cancel()
		if c.Err() != nil || c.Value(testKey{}) != "v" {
			t.Errorf("Err = %v, Value = %v, want none and v: the client's disconnect does not count", c.Err(), c.Value(testKey{}))
		}
		if deadline, ok := c.Deadline(); !ok || time.Until(deadline) != time.Second {
			t.Errorf("Deadline = %v, %v, want in 1 s", deadline, ok)
		}
		time.Sleep(time.Second)
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("Err after the deadline = %v, want DeadlineExceeded", c.Err())
		}
		<-c.Done()
		c.end()
	})
}

func TestCheckContextDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		call, leave := context.WithCancel(context.WithValue(t.Context(), testKey{}, "v"))
		c := newCheckContext(call, time.Second)
		child, stop := context.WithCancel(c)
		defer stop()
		begin := time.Now()
		leave() // the client's disconnect does not end what was begun for it
		<-child.Done()
		if time.Since(begin) != time.Second || !errors.Is(child.Err(), context.DeadlineExceeded) || !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("a child ended after %v with %v, want 1 s and DeadlineExceeded", time.Since(begin), child.Err())
		}
		if child.Value(testKey{}) != "v" {
			t.Error("values are lost once Done was asked for")
		}
		c.end()
	})
}

func TestCheckContextEnd(t *testing.T) {
	t.Parallel()
	c := newCheckContext(t.Context(), time.Hour)
	c.end()
	if !errors.Is(c.Err(), context.Canceled) {
		t.Errorf("Err after end = %v, want Canceled", c.Err())
	}
	<-c.Done() // whoever asks late must not wait for an hour
	asked := newCheckContext(t.Context(), time.Hour)
	done := asked.Done()
	asked.end()
	<-done
	if !errors.Is(asked.Err(), context.Canceled) {
		t.Errorf("Err after end = %v, want Canceled", asked.Err())
	}
}

// Envoy's own time-out, where it is shorter, leaves us seven eighths of it.
func TestCheckContextShorterCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tests := []struct{ call, want time.Duration }{
			{200 * time.Millisecond, 175 * time.Millisecond},
			{800 * time.Millisecond, 700 * time.Millisecond},
			{600 * time.Second, time.Second},
			{-time.Second, -875 * time.Millisecond},
		}
		for _, test := range tests {
			call, cancel := context.WithTimeout(t.Context(), test.call)
			c := newCheckContext(call, time.Second)
			if deadline, _ := c.Deadline(); time.Until(deadline) != test.want {
				t.Errorf("a call with %v left: deadline in %v, want %v", test.call, time.Until(deadline), test.want)
			}
			c.end()
			cancel()
		}
	})
}
