package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	proofTimeout = 2 * time.Second        // of a round trip that nobody waits for any more
	staleWait    = 250 * time.Millisecond // how long the store may take while there is something to serve
	answerTime   = 150 * time.Millisecond // what is left of a Check to answer in
)

// Load returns a live session, with Tokens when asked: from the local cache when
// it was proven alive within the last 5 s and endings are told promptly, else in one
// round trip to the store. What was ended is ErrNotFound; while the store cannot be
// asked, what was proven last is served for StoreGrace, and then an error that is not
// ErrNotFound.
//
// When its access token is about to end, a session is renewed behind the request; when
// it has ended, Load waits for that until shortly before ctx does. If the provider
// still has not answered, the session is served for ProviderGrace, but never to who
// asked for its tokens.
//
// A request extends the idle time, but is written down only when a tenth of it, or a
// minute, has passed since the last time: idle sessions end up to that much early,
// never late. That costs a second round trip now and then.
func (m *Manager) Load(ctx context.Context, id ID, tokens bool) (*Session, error) {
	s, err := m.find(ctx, id, tokens)
	if err != nil {
		return nil, err
	}
	return m.renewed(ctx, id, s, tokens)
}

// Stored returns what the store holds of a live session, tokens included, and neither
// renews nor extends it: for who is about to end it.
func (m *Manager) Stored(ctx context.Context, id ID) (*Session, error) {
	const fields = FieldIdentity | FieldTokens
	r, _, err := m.cfg.Store.Load(ctx, id.Handle(), fields)
	if err != nil {
		return nil, fmt.Errorf("load session: %w", err)
	}
	s, err := m.codec.decode(id, r, fields)
	if err != nil {
		return nil, fmt.Errorf("load session %s: %w", id.Handle().Name(), err)
	}
	return s, nil
}

// find returns a session that is alive, whether or not it is due to be renewed.
func (m *Manager) find(ctx context.Context, id ID, tokens bool) (*Session, error) {
	h, now := id.Handle(), m.cfg.Now()
	e, over := m.cache.find(h, now)
	if over {
		return nil, fmt.Errorf("load session: %w", ErrNotFound)
	}
	if e != nil && tokens && e.session.Tokens == nil {
		e = nil
	}
	if e != nil && !now.Before(e.session.Expires) {
		return nil, fmt.Errorf("load session: %w", ErrNotFound)
	}
	if e != nil && m.cache.counts(e, now) {
		return e.session, nil
	}
	if e != nil && now.Sub(e.proven) >= m.cfg.StoreGrace {
		e = nil // too old for anything
	}
	p := m.proofs.begin(id, tokens, func() (*Session, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proofTimeout)
		defer cancel()
		return m.prove(ctx, id, tokens)
	})
	return m.unlessOver(m.proven(ctx, p, e))
}

// unlessOver is what a request gets that has waited: its session may have ended meanwhile.
func (m *Manager) unlessOver(s *Session, err error) (*Session, error) {
	if err == nil && m.cache.over(s.Handle, m.cfg.Now()) {
		return nil, fmt.Errorf("load session: %w", ErrNotFound)
	}
	return s, err
}

// proven waits for a proof. stale, if any, is served when the store cannot give one.
func (m *Manager) proven(ctx context.Context, p *proof, stale *cached) (*Session, error) {
	patience := ctx.Done()
	if stale != nil {
		wait := staleWait
		if m.proofs.failure.within(m.cfg.Now(), staleWait) {
			wait = 0 // the store was asked a moment ago
		}
		short, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		patience = short.Done()
	}
	select {
	case <-p.done:
	default:
		select {
		case <-p.done:
		case <-patience:
			return m.serveStale(stale, fmt.Errorf("load session: %w", errSlow))
		}
	}
	if _, failed := errors.AsType[storeError](p.err); failed {
		return m.serveStale(stale, p.err)
	}
	return p.session, p.err
}

var errSlow = errors.New("the store did not answer in time")

func (m *Manager) serveStale(stale *cached, err error) (*Session, error) {
	if stale == nil {
		return nil, err
	}
	m.cfg.Event(Event{Kind: EventStale, Session: stale.session.Handle.Name(), Err: err})
	return stale.session, nil
}

// storeError is an error of a store that could not be asked. What it holds was not seen.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// prove asks the store, and tells the cache.
func (m *Manager) prove(ctx context.Context, id ID, tokens bool) (*Session, error) {
	fields := FieldIdentity
	if tokens {
		fields |= FieldTokens
	}
	h, now := id.Handle(), m.cfg.Now()
	t := m.cache.ticket(h)
	r, left, err := m.cfg.Store.Load(ctx, h, fields)
	switch {
	case errors.Is(err, ErrNotFound):
		m.cache.bury(h, now)
		return nil, fmt.Errorf("load session: %w", err)
	case errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("load session %s: %w", h.Name(), err)
	case err != nil:
		m.proofs.failure.set(m.cfg.Now())
		return nil, fmt.Errorf("load session: %w", storeError{err})
	}
	s, err := m.codec.decode(id, r, fields)
	if err != nil {
		return nil, fmt.Errorf("load session %s: %w", h.Name(), err)
	}
	if !now.Before(s.Expires) || s.Created.Before(m.cfg.NotBefore) {
		// It is over even if our clock should be set back: remove it. When that
		// fails, the next to come tries again.
		_ = m.cfg.Store.End(ctx, h, nil)
		m.cache.bury(h, now)
		return nil, fmt.Errorf("load session: %w", ErrNotFound)
	}
	if idle := min(m.cfg.IdleTimeout, s.Expires.Sub(now)); idle-left >= m.grain {
		// Only a certain end counts here. The session was just proven alive, and
		// the next request tries again.
		if err := m.cfg.Store.Touch(ctx, h, idle); errors.Is(err, ErrNotFound) {
			m.cache.bury(h, now)
			return nil, fmt.Errorf("load session: %w", err)
		}
	}
	m.cache.put(s, now, t)
	return s, nil
}

// proofs lets requests of one session at the same time share one round trip. It goes
// on when they leave.
type proofs struct {
	mu      sync.Mutex // guards running
	running map[wanted]*proof
	failure moment // when the store failed last: waiting for it so soon is in vain
}

type wanted struct {
	id     ID
	tokens bool
}

type proof struct {
	done    chan struct{} // closed when the fields below are set
	session *Session
	err     error
}

// begin joins the proof that is under way, or runs prove.
func (p *proofs) begin(id ID, tokens bool, prove func() (*Session, error)) *proof {
	key := wanted{id, tokens}
	p.mu.Lock()
	defer p.mu.Unlock()
	if running := p.running[key]; running != nil {
		return running
	}
	if p.running == nil {
		p.running = map[wanted]*proof{}
	}
	each := &proof{done: make(chan struct{}), err: errors.New("load session: panicked")}
	p.running[key] = each
	go func() {
		defer func() {
			_ = recover() // the error above stays
			p.mu.Lock()
			delete(p.running, key)
			p.mu.Unlock()
			close(each.done)
		}()
		each.session, each.err = prove()
	}()
	return each
}

// moment is when something happened last. The zero value: never.
type moment struct{ at atomic.Pointer[time.Time] }

func (m *moment) set(now time.Time) { m.at.Store(&now) }

// within reports whether it happened less than d before now. A moment that lies ahead,
// since the clock was set back, is long ago.
func (m *moment) within(now time.Time, d time.Duration) bool {
	at := m.at.Load()
	return at != nil && !now.Before(*at) && now.Sub(*at) < d
}
