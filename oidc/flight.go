package oidc

import (
	"context"
	"fmt"
	"sync"
)

// maxWaiting bounds who waits for one document of one issuer: a tenth of what
// listen.grpc takes at once, so that one slow issuer leaves room for the others.
const maxWaiting = 1024

// flight lets callers at the same time share one reading of a document. The
// reading goes on when its first caller leaves; a panic in it is the failure of
// this reading and not the end of the process. The zero value works.
type flight[T any] struct {
	mu      sync.Mutex // guards the fields below
	begun   uint64     // readings so far; the number of the current one
	current *reading[T]
	waiting int
}

type reading[T any] struct {
	number uint64
	done   chan struct{} // closed when value and err are set
	value  T
	err    error
}

// last is the number of the reading that began last; later ones have a higher one.
func (f *flight[T]) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun
}

// join waits for the reading that is under way, or begins one with read, and
// returns its number, too. Its own errors wrap ErrUnavailable.
func (f *flight[T]) join(ctx context.Context, read func(context.Context) (T, error)) (value T, number uint64, err error) {
	r, err := f.enter(ctx, read)
	if err != nil {
		return value, 0, err
	}
	defer f.leave()
	select {
	case <-r.done:
		return r.value, r.number, r.err
	case <-ctx.Done():
		return value, r.number, fmt.Errorf("%w: waiting for the provider: %w", ErrUnavailable, ctx.Err())
	}
}

func (f *flight[T]) enter(ctx context.Context, read func(context.Context) (T, error)) (*reading[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting >= maxWaiting {
		return nil, fmt.Errorf("%w: %d requests wait for it already", ErrUnavailable, f.waiting)
	}
	f.waiting++
	if f.current == nil {
		f.begun++
		f.current = &reading[T]{number: f.begun, done: make(chan struct{})}
		go f.run(context.WithoutCancel(ctx), f.current, read)
	}
	return f.current, nil
}

func (f *flight[T]) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting--
}

func (f *flight[T]) run(ctx context.Context, r *reading[T], read func(context.Context) (T, error)) {
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("%w: a document cannot be read: panic: %.200v", ErrUnavailable, p)
		}
		f.mu.Lock()
		f.current = nil
		f.mu.Unlock()
		close(r.done)
	}()
	r.value, r.err = read(ctx)
}
