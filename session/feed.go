package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	endingsKept = time.Minute
	maxEndings  = 100_000
	feedPause   = time.Second // before a Watch that failed is begun anew
)

// endings are those of the last minute, by any replica, oldest first. A store that
// fails over to a copy of itself can lose a delete: then they are repeated.
type endings struct {
	mu    sync.Mutex // guards all below
	list  []ending
	known map[Handle]bool // those of list: each is told several times
}

type ending struct {
	handle Handle
	at     time.Time
}

func (e *endings) add(h Handle, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sweep(now)
	if e.known[h] {
		return
	}
	if len(e.list) == maxEndings {
		e.drop()
	}
	if e.known == nil {
		e.known = map[Handle]bool{}
	}
	e.known[h] = true
	e.list = append(e.list, ending{h, now})
}

func (e *endings) recent(now time.Time) []Handle {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sweep(now)
	handles := make([]Handle, len(e.list))
	for i := range e.list {
		handles[i] = e.list[i].handle
	}
	return handles
}

// sweep drops what is too old. e.mu is held.
func (e *endings) sweep(now time.Time) {
	for len(e.list) > 0 && now.Sub(e.list[0].at) > endingsKept {
		e.drop()
	}
}

// drop forgets the oldest. e.mu is held.
func (e *endings) drop() {
	delete(e.known, e.list[0].handle)
	e.list = e.list[1:]
}

// Run follows endings until ctx ends, and then returns nil. While it runs and the
// store tells of them, sessions are served from the cache. Call it once.
func (m *Manager) Run(ctx context.Context) error {
	repeat := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-repeat:
				m.repeatEndings(ctx)
			}
		}
	})
	w := Watcher{Ended: m.bury, Alive: func(alive bool) {
		m.cache.feed(alive, m.cfg.Now())
		if !alive {
			m.cfg.Event(Event{Kind: EventLost})
			return
		}
		m.cfg.Event(Event{Kind: EventAlive})
		select {
		case repeat <- struct{}{}:
		default:
		}
	}}
	for ctx.Err() == nil {
		if err := m.cfg.Store.Watch(ctx, w); err != nil {
			m.cfg.Event(Event{Kind: EventLost, Err: err})
		}
		m.cache.feed(false, m.cfg.Now())
		select {
		case <-ctx.Done():
		case <-time.After(feedPause):
		}
	}
	return nil
}

// bury is told of every ending.
func (m *Manager) bury(h Handle) {
	now := m.cfg.Now()
	m.cache.bury(h, now)
	m.endings.add(h, now)
}

// Inherit takes over what before, a manager of the same store, knows of endings.
func (m *Manager) Inherit(before *Manager) {
	for _, h := range before.endings.recent(m.cfg.Now()) {
		m.bury(h)
	}
}

// repeatEndings ends again what ended within the last minute and is there all the same.
func (m *Manager) repeatEndings(ctx context.Context) {
	for _, h := range m.endings.recent(m.cfg.Now()) {
		_, _, err := m.cfg.Store.Load(ctx, h, 0)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return // the store is away again: its return begins this anew
		}
		err = m.cfg.Store.End(ctx, h, nil)
		m.cfg.Event(Event{Kind: EventReturned, Session: h.Name(), Err: err})
		if err != nil {
			return
		}
	}
}
