package oidc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// The pause after an outage doubles from shortest to longest, jittered downwards
// by up to a quarter.
const shortestPause, longestPause = time.Second, 30 * time.Second

// errThisOne marks an ErrUnavailable that says nothing about other requests.
var errThisOne = errors.New("the provider is up, but does not take this request")

// breaker keeps a provider that is down or slow from being asked by everybody at
// once, and us from waiting for it. A bounded number of calls runs at a time; what
// comes on top fails at once, nothing queues. After an outage every call fails at
// once until a growing pause is over; then one call is let through as a probe.
type breaker struct {
	now   func() time.Time
	limit int

	mu      sync.Mutex // guards the fields below
	busy    int
	pause   time.Duration // zero: the last call that told anything was answered
	until   time.Time     // the end of the pause
	probing bool
}

func newBreaker(now func() time.Time, limit int) *breaker {
	return &breaker{now: now, limit: limit}
}

// call runs f unless the provider is to be left alone. An error of its own wraps
// ErrUnavailable. ctx is the caller's: when that is over, f's failure is no outage.
func (b *breaker) call(ctx context.Context, f func() error) error {
	probe, err := b.enter()
	if err != nil {
		return err
	}
	v := unknown
	defer func() { b.leave(probe, v) }()
	err = f()
	v = verdictOf(ctx, err)
	return err
}

type verdict int

const (
	unknown verdict = iota
	answered
	outage
)

func verdictOf(ctx context.Context, err error) verdict {
	switch {
	case !errors.Is(err, ErrUnavailable) || errors.Is(err, errThisOne):
		return answered
	case ctx.Err() != nil:
		return unknown
	}
	return outage
}

func (b *breaker) enter() (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy >= b.limit {
		return false, fmt.Errorf("%w: %d requests are under way already", ErrUnavailable, b.busy)
	}
	if b.pause > 0 {
		if wait := b.until.Sub(b.now()); wait > 0 || b.probing {
			return false, fmt.Errorf("%w: it failed lately and is left alone for a while", ErrUnavailable)
		}
		b.probing, probe = true, true
	}
	b.busy++
	return probe, nil
}

func (b *breaker) leave(probe bool, v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy--
	if probe {
		b.probing = false
	}
	switch {
	case v == answered:
		b.pause = 0
	case v == outage && (probe || b.pause == 0):
		// A call that began before the pause tells nothing new by failing.
		b.pause = min(max(2*b.pause, shortestPause), longestPause)
		b.until = b.now().Add(b.pause*3/4 + rand.N(b.pause/4+1)) //nolint:gosec // jitter is no secret
	}
}
