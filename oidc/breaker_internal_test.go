package oidc

import (
	"testing"
	"time"
)

// A panic in a call keeps no place, neither of the bounded number nor of the probe.
func TestBreakerPanic(t *testing.T) {
	t.Parallel()
	b := newBreaker(time.Now, 1)
	b.pause = time.Nanosecond // the next call is a probe
	for range 2 {
		func() {
			defer func() { _ = recover() }()
			_ = b.call(t.Context(), func() error { panic("a mistake of ours") })
		}()
	}
	if err := b.call(t.Context(), func() error { return nil }); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}
