package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

const (
	unknownLife  = 5 * time.Minute  // of an access token whose end the provider does not tell
	renewTimeout = 50 * time.Second // of a renewal: another replica may be at it, and the provider take 30 s
	keepTimeout  = 15 * time.Minute // and then for the store to take what the provider gave
	settleTime   = 5 * time.Second  // longer than an owner takes to write to a store that came back
	leaseLife    = 10 * time.Second
	leaseRenewal = 3 * time.Second
	maxRenewals  = 1024 // at a time in this process; each provider has a bound of its own
	maxSetbacks  = 100_000
	firstPause   = time.Second
	firstWait    = time.Second
	longestPause = time.Minute
)

// plan says when s, which the provider attested at now, has to be renewed.
func (s *Session) plan(now time.Time) {
	s.renewed, s.renewBy = now, time.Time{}
	switch {
	case s.Tokens == nil || s.Tokens.Refresh == "":
	case s.Tokens.AccessExpires.IsZero():
		s.renewBy = now.Add(unknownLife)
	default:
		s.renewBy = s.Tokens.AccessExpires.Round(0)
	}
}

// due is when a request sets off a renewal: at 70 to 80 % of the access token's life,
// another share for every session, so that those of one moment do not come together.
func (s *Session) due() time.Time {
	life := s.renewBy.Sub(s.renewed)
	return s.renewed.Add(life*7/10 + life/10*time.Duration(s.Handle[2])/256)
}

var (
	errNotAsked   = errors.New("the provider is not asked again so soon after it failed")
	errBusy       = errors.New("too many renewals at a time")
	errNoProvider = errors.New("session could not be renewed in time")
)

// renewed returns s, or what the provider makes of it where its access token has ended.
func (m *Manager) renewed(ctx context.Context, id ID, s *Session, tokens bool) (*Session, error) {
	now := m.cfg.Now()
	if m.cfg.Renew == nil || s.renewBy.IsZero() || now.Before(s.due()) {
		return s, nil
	}
	r := m.renewals.join(m, id, s, now)
	if now.Before(s.renewBy) {
		return s, nil // still good: nobody waits
	}
	grace := !tokens && now.Before(s.renewBy.Add(m.cfg.ProviderGrace))
	wait, cancel := patience(ctx, r, grace)
	defer cancel()
	err := errNoProvider
	select {
	case <-r.done:
		if r.err == nil || errors.Is(r.err, ErrNotFound) {
			return m.unlessOver(r.session, r.err)
		}
		err = r.err
	case <-wait.Done():
	}
	if grace {
		return m.unlessOver(s, nil)
	}
	return nil, fmt.Errorf("renew session %s: %w", s.Handle.Name(), err)
}

// patience is how long a request waits for a renewal: until shortly before its own
// deadline. Who can do without waits only in the first second of the first try, so that
// a provider that hangs slows nobody down for long.
func patience(ctx context.Context, r *renewal, grace bool) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if deadline = deadline.Add(-answerTime); grace && (!ok || r.spare.Before(deadline)) {
		deadline, ok = r.spare, true
	}
	if !ok {
		return context.WithTimeout(ctx, renewTimeout)
	}
	return context.WithDeadline(ctx, deadline)
}

// Wait returns when renewals are done or the timeout passes: a refresh token that was
// sent and not kept is a session lost.
func (m *Manager) Wait(timeout time.Duration) {
	late := time.After(timeout)
	for r := m.renewals.any(); r != nil; r = m.renewals.any() {
		select {
		case <-r.done:
		case <-late:
			return
		}
	}
}

// renewals are those of this process, one at a time for each session.
type renewals struct {
	mu      sync.Mutex // guards all below
	running map[Handle]*renewal
	failed  map[Handle]setback
}

// renewal is one that is under way.
type renewal struct {
	spare   time.Time     // from then on nobody waits who can do without
	done    chan struct{} // closed when the fields below are set
	session *Session
	err     error // ErrNotFound: over; any other: cannot tell
}

// setback is how long a session is left alone after a renewal failed.
type setback struct {
	until time.Time
	pause time.Duration
}

// join returns the renewal that is under way, or begins one.
func (rs *renewals) join(m *Manager, id ID, s *Session, now time.Time) *renewal {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.running[s.Handle]; r != nil {
		return r
	}
	r := &renewal{done: make(chan struct{})}
	if rs.failed[s.Handle].pause == 0 {
		r.spare = time.Now().Add(firstWait)
	}
	switch {
	case now.Before(rs.failed[s.Handle].until):
		r.err = errNotAsked
	case len(rs.running) >= maxRenewals:
		r.err = errBusy
	default:
		rs.running[s.Handle] = r
		go rs.run(m, r, id, s)
		return r
	}
	close(r.done)
	return r
}

// any returns one that is under way, or nil.
func (rs *renewals) any() *renewal {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.running {
		return r
	}
	return nil
}

// run is the life of a renewal. It goes on when the requests that wait for it leave.
func (rs *renewals) run(m *Manager, r *renewal, id ID, s *Session) {
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	r.err = errors.New("renewal panicked")
	defer func() {
		_ = recover() // the error above stays
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.running, s.Handle)
		if r.err == nil || errors.Is(r.err, ErrNotFound) {
			delete(rs.failed, s.Handle)
		} else {
			rs.setBack(s.Handle, m.cfg.Now())
		}
		close(r.done)
	}()
	r.session, r.err = m.renew(ctx, id, s)
}

// setBack doubles the pause of a session, with jitter. rs.mu is held.
func (rs *renewals) setBack(h Handle, now time.Time) {
	if len(rs.failed) >= maxSetbacks {
		clear(rs.failed) // each provider still has a pause of its own
	}
	pause := min(max(2*rs.failed[h].pause, firstPause), longestPause)
	rs.failed[h] = setback{until: now.Add(pause/2 + jitter(pause/2)), pause: pause}
}

// jitter returns less than d.
func jitter(d time.Duration) time.Duration {
	return mathrand.N(max(d, 1)) //nolint:gosec // jitter is no secret
}

// renew has the session renewed by whoever owns its lease: this replica, or another
// whose result it then takes over.
func (m *Manager) renew(ctx context.Context, id ID, s *Session) (*Session, error) {
	name, owner := "l:{"+s.Handle.String()+"}", []byte(rand.Text())
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		held, err := m.cfg.Store.Put(ctx, name, owner, leaseLife)
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		if bytes.Equal(held, owner) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another replica has not renewed the session: %w", ctx.Err())
		case <-time.After(pause + jitter(pause)):
		}
		now, err := m.prove(ctx, id, true)
		if err != nil || now.version != s.version {
			return now, err
		}
	}
	release := m.hold(context.WithoutCancel(ctx), name, owner)
	defer release()
	m.settle(ctx)
	// What the lease was waited for may have happened meanwhile.
	now, err := m.prove(ctx, id, true)
	if err != nil || now.version != s.version && m.cfg.Now().Before(now.due()) {
		return now, err
	}
	return m.renewOwned(ctx, id, now)
}

// settle waits a while where the store is in trouble, or was. The lease of another owner
// may have ended meanwhile, or been lost by a failover, while he has the provider's answer:
// he writes it down before the refresh token is sent twice.
func (m *Manager) settle(ctx context.Context) {
	if !m.cache.unsettled(m.cfg.Now(), settleTime) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(settleTime):
	}
}

// hold renews the lease until release, which gives it back.
func (m *Manager) hold(ctx context.Context, name string, owner []byte) (release func()) {
	held, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(leaseRenewal)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
				// A provider's answer cannot be called back, so losing the lease
				// changes nothing here; compare-and-set decides in the end.
				_, _ = m.cfg.Store.Put(held, name, owner, leaseLife)
			}
		}
	})
	return func() {
		end()
		wg.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proofTimeout)
		defer cancel()
		_ = m.cfg.Store.Drop(ctx, name, owner) // else it ends by itself
	}
}

// renewOwned asks the provider and keeps what it says.
func (m *Manager) renewOwned(ctx context.Context, id ID, s *Session) (*Session, error) {
	got, err := m.cfg.Renew(ctx, s)
	switch {
	case errors.Is(err, ErrRevoked):
		// Who lost his lease, having stood still for long, has sent a token that
		// somebody else has renewed since: that it is void means nothing then.
		if now, err := m.prove(ctx, id, true); err == nil && now.version != s.version {
			return now, nil
		}
		m.cfg.Event(Event{Kind: EventRevoked, Session: s.Handle.Name(), Err: err})
		m.bury(s.Handle)
		if err := m.cfg.Store.End(ctx, s.Handle, m.index(s, everyName)); err != nil {
			return nil, fmt.Errorf("end session %s: %w", s.Handle.Name(), err)
		}
		return nil, fmt.Errorf("renew session: %w", ErrNotFound)
	case err != nil:
		m.cfg.Event(Event{Kind: EventRenewFailed, Session: s.Handle.Name(), Err: err})
		return nil, fmt.Errorf("provider: %w", err)
	case got.Identity == nil || got.Tokens == nil:
		return nil, errors.New("provider: nothing came of it")
	}
	next := &Session{Handle: s.Handle, Created: s.Created, Expires: s.Expires, Tokens: got.Tokens}
	identity := *got.Identity
	identity.Session, identity.Tokens = s.Handle.Name(), nil
	next.Identity = &identity
	next.plan(m.cfg.Now().Round(0))
	if next, err = m.keep(ctx, id, s, next); err != nil {
		if !errors.Is(err, ErrNotFound) {
			m.cfg.Event(Event{Kind: EventRenewFailed, Session: s.Handle.Name(), Err: err})
		}
		return nil, err
	}
	m.cfg.Event(Event{Kind: EventRenewed, Session: s.Handle.Name()})
	return next, nil
}

// keep writes next over s, though it may take as long as an outage of the store: what the
// provider gave it will not give again. A session that was ended meanwhile stays so.
func (m *Manager) keep(ctx context.Context, id ID, s, next *Session) (*Session, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	rev, err := revision(s.version)
	if err != nil {
		return nil, err
	}
	r, err := m.codec.reseal(id, next, rev+1)
	if err != nil {
		return nil, fmt.Errorf("keep renewed session: %w", err)
	}
	next.version, next.size = r.Version, len(r.Identity)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		proven, t := m.cfg.Now(), m.cache.ticket(s.Handle)
		switch err = m.cfg.Store.Replace(ctx, r, s.version); {
		case err == nil:
			m.cache.put(next, proven, t)
			return next, nil
		case errors.Is(err, ErrNotFound):
			m.cache.bury(s.Handle, proven)
			return nil, fmt.Errorf("keep renewed session: %w", err)
		case errors.Is(err, ErrConflict):
			return m.prove(ctx, id, true)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("keep renewed session: %w", err)
		case <-time.After(pause + jitter(pause)):
		}
	}
}
