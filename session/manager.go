package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// markLife is how long a repeated callback gets the session that the first one made.
const markLife = time.Minute

// Config is what a Manager works with.
type Config struct {
	Store           Store
	Ring            *seal.Ring
	IdleTimeout     time.Duration // a session ends after this long without a request (see Load for the grain)
	AbsoluteTimeout time.Duration // and this long after the login in any case; at least IdleTimeout
	NotBefore       time.Time     // sessions created before are over; zero: none
	StoreGrace      time.Duration // how long what was proven last is served while the store cannot be asked; zero: not at all
	ProviderGrace   time.Duration // how long a session outlives its access token while the provider cannot be asked
	CacheBytes      int64         // bound of the local cache; zero: 64 MiB, negative: no cache

	// Renew asks the provider anew about s, which has its Tokens. Of the result
	// Identity and Tokens count. An error wrapping ErrRevoked ends the session, every
	// other one leaves it as it is. It bounds its time itself, and is called by one
	// replica at a time for each session. nil: sessions keep the claims of their login.
	Renew func(ctx context.Context, s *Session) (*Session, error)

	Event func(Event)      // told of what happens to sessions; must not block; nil: not told
	Now   func() time.Time // nil: time.Now
}

// Event is something that happened to sessions, for metrics and the log.
type Event struct {
	Kind    string // one of the Event constants
	Session string // Handle.Name; empty where it is about none
	Err     error  // why; nil where there is nothing to say
}

// Kinds of Event. The list is fixed, so that it can label a metric.
const (
	EventRenewed     = "renewed"      // the provider confirmed the session
	EventRenewFailed = "renew_failed" // it could not be asked, or did not answer as it should
	EventRevoked     = "revoked"      // it ended the session
	EventStale       = "served_stale" // the store could not be asked: served from the cache, within StoreGrace
	EventReturned    = "returned"     // a session that had ended was in the store again, and was ended once more
	EventAlive       = "feed_alive"   // endings are told promptly
	EventLost        = "feed_lost"    // endings may be lost: every session is proven at the store
)

// Manager makes, finds, renews and ends sessions. It is safe for concurrent use.
// Without Run it works, but proves every session at the store for every request.
type Manager struct {
	cfg      Config
	grain    time.Duration // a session is touched when this much of its idle time is used up
	codec    codec
	marks    *seal.Box
	offers   *seal.Box
	once     *seal.Box
	user     *seal.Box // names of index sets, by issuer and subject
	sid      *seal.Box // names of index sets, by issuer and sid
	cache    *cache
	proofs   proofs
	renewals renewals
	endings  endings
}

// New checks cfg. It does no I/O.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Store == nil || cfg.Ring == nil:
		return nil, errors.New("sessions need a store and a key ring")
	case cfg.IdleTimeout <= 0 || cfg.AbsoluteTimeout <= 0:
		return nil, fmt.Errorf("session limits must be positive: idle %v, absolute %v", cfg.IdleTimeout, cfg.AbsoluteTimeout)
	case cfg.IdleTimeout > cfg.AbsoluteTimeout:
		return nil, fmt.Errorf("idle timeout %v is longer than the absolute timeout %v", cfg.IdleTimeout, cfg.AbsoluteTimeout)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Event == nil {
		cfg.Event = func(Event) {}
	}
	return &Manager{
		cfg:      cfg,
		grain:    min(cfg.IdleTimeout/10, time.Minute),
		codec:    newCodec(cfg.Ring),
		marks:    cfg.Ring.Box("session mark"),
		offers:   cfg.Ring.Box("session offer"),
		once:     cfg.Ring.Box("session once"),
		user:     cfg.Ring.Box("session index by user"),
		sid:      cfg.Ring.Box("session index by provider session"),
		cache:    newCache(cfg.CacheBytes),
		renewals: renewals{running: map[Handle]*renewal{}, failed: map[Handle]setback{}},
	}, nil
}

// Create stores a session under a new ID, together with a mark on the login
// attempt (a secret of at least 16 bytes). Of s it reads Identity, Tokens (may be
// nil) and Summary; Created and Expires are set here. When the attempt has made a
// session within the last 60 s, that one is returned, without tokens, and nothing is
// kept of s; when that session has ended since, ErrNotFound. ErrFull when the store
// has no room. After any other error the login may be repeated with the same attempt:
// there is never a second session. When the user, or the session at the provider that
// this one came from, was signed out since s.Begun, nothing stays and ErrNotFound is
// returned.
func (m *Manager) Create(ctx context.Context, attempt string, s Session) (ID, *Session, error) {
	if len(attempt) < minSecret {
		return ID{}, nil, fmt.Errorf("login attempt has %d bytes, at least %d are needed", len(attempt), minSecret)
	}
	if id, err := m.marked(ctx, attempt); err == nil {
		return m.made(ctx, id)
	} else if !errors.Is(err, ErrNotFound) {
		return ID{}, nil, err
	}
	id := newID()
	r, made, err := m.record(id, s)
	if err != nil {
		return ID{}, nil, err
	}
	r.Mark, r.MarkLife = secretName("a:", attempt), markLife
	r.MarkValue = m.marks.SealUnder([]byte(attempt), id[:], r.Mark)
	mark, err := m.cfg.Store.Create(ctx, r)
	if err != nil {
		return ID{}, nil, fmt.Errorf("create session: %w", err)
	}
	if bytes.Equal(mark, r.MarkValue) {
		return m.unlessEnded(ctx, id, made, s.Begun)
	}
	if id, err = m.openMark(attempt, mark); err != nil { // somebody was faster
		return ID{}, nil, err
	}
	return m.made(ctx, id)
}

// record builds the record of a new session.
func (m *Manager) record(id ID, s Session) (NewRecord, *Session, error) {
	if s.Identity == nil {
		return NewRecord{}, nil, errors.New("session has no identity")
	}
	now := m.cfg.Now().Round(0) // without the monotonic clock, as Load will read it
	s.Handle, s.Created, s.Expires = id.Handle(), now, now.Add(m.cfg.AbsoluteTimeout)
	if !s.Until.IsZero() && s.Until.Before(s.Expires) {
		s.Expires = s.Until.Round(0)
	}
	s.plan(now)
	s.Summary = s.Summary.cut()
	identity := *s.Identity
	identity.Session, identity.Tokens = s.Handle.Name(), nil
	s.Identity = &identity
	r, err := m.codec.encode(id, &s)
	if err != nil {
		return NewRecord{}, nil, fmt.Errorf("create session: %w", err)
	}
	return NewRecord{
		Record: r, Idle: m.cfg.IdleTimeout, Absolute: max(s.Expires.Sub(now), time.Millisecond),
		Index: m.index(&s, firstName),
	}, &s, nil
}

// Made returns the session that attempt made within the last 60 s, without its
// tokens, or ErrNotFound: it made none, or that one has ended.
func (m *Manager) Made(ctx context.Context, attempt string) (ID, *Session, error) {
	id, err := m.marked(ctx, attempt)
	if err != nil {
		return ID{}, nil, err
	}
	return m.made(ctx, id)
}

func (m *Manager) made(ctx context.Context, id ID) (ID, *Session, error) {
	s, err := m.Load(ctx, id, false)
	if err != nil {
		return ID{}, nil, err
	}
	return id, s, nil
}

func (m *Manager) marked(ctx context.Context, attempt string) (ID, error) {
	value, err := m.cfg.Store.Get(ctx, secretName("a:", attempt))
	if err != nil {
		return ID{}, fmt.Errorf("find session of login attempt: %w", err)
	}
	return m.openMark(attempt, value)
}

func (m *Manager) openMark(attempt string, value []byte) (ID, error) {
	b, err := m.marks.OpenUnder([]byte(attempt), value, secretName("a:", attempt))
	if errors.Is(err, seal.ErrUnknownKey) { // cannot tell: another replica has the key
		return ID{}, fmt.Errorf("mark of login attempt: %w", err)
	}
	if err != nil || len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("mark of login attempt: %w", ErrDamaged)
	}
	return ID(b), nil
}

// cut bounds what a browser can make us keep, at a boundary of characters.
func (s Summary) cut() Summary {
	short := func(text string) string {
		const limit = 256
		if len(text) > limit {
			text = text[:limit]
		}
		return string(bytes.ToValidUTF8([]byte(text), nil))
	}
	return Summary{Device: short(s.Device), Address: short(s.Address)}
}
