package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// markLife is how long a repeated callback gets the session that the first one made.
const markLife = time.Minute

// minAttempt is the least length of an attempt in bytes; it is a secret.
const minAttempt = 16

// Config is what a Manager works with.
type Config struct {
	Store           Store
	Ring            *seal.Ring
	IdleTimeout     time.Duration    // a session ends after this long without a request (see Load for the grain)
	AbsoluteTimeout time.Duration    // and this long after the login in any case; at least IdleTimeout
	Now             func() time.Time // nil: time.Now
}

// Manager makes, finds and ends sessions. It is safe for concurrent use.
type Manager struct {
	cfg   Config
	grain time.Duration // a session is touched when this much of its idle time is used up
	codec codec
	marks *seal.Box
	user  *seal.Box // names of index sets, by issuer and subject
	sid   *seal.Box // names of index sets, by issuer and sid
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
	return &Manager{
		cfg:   cfg,
		grain: min(cfg.IdleTimeout/10, time.Minute),
		codec: newCodec(cfg.Ring),
		marks: cfg.Ring.Box("session mark"),
		user:  cfg.Ring.Box("session index by user"),
		sid:   cfg.Ring.Box("session index by provider session"),
	}, nil
}

// Create stores a session under a new ID, together with a mark on the login
// attempt (a secret of at least 16 bytes). Of s it reads Identity, Tokens (may be
// nil) and Summary; Created and Expires are set here. When the attempt has made a
// session within the last 60 s, that one is returned, without tokens, and nothing is
// kept of s; when that session has ended since, ErrNotFound. ErrFull when the store
// has no room. After any other error the login may be repeated with the same attempt:
// there is never a second session.
func (m *Manager) Create(ctx context.Context, attempt string, s Session) (ID, *Session, error) {
	if len(attempt) < minAttempt {
		return ID{}, nil, fmt.Errorf("login attempt has %d bytes, at least %d are needed", len(attempt), minAttempt)
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
	r.Mark, r.MarkLife = markName(attempt), markLife
	r.MarkValue = m.marks.SealUnder([]byte(attempt), id[:], r.Mark)
	mark, err := m.cfg.Store.Create(ctx, r)
	if err != nil {
		return ID{}, nil, fmt.Errorf("create session: %w", err)
	}
	if bytes.Equal(mark, r.MarkValue) {
		return id, made, nil
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
	s.Summary = s.Summary.cut()
	identity := *s.Identity
	identity.Session, identity.Tokens = s.Handle.Name(), nil
	s.Identity = &identity
	r, err := m.codec.encode(id, &s)
	if err != nil {
		return NewRecord{}, nil, fmt.Errorf("create session: %w", err)
	}
	return NewRecord{
		Record: r, Idle: m.cfg.IdleTimeout, Absolute: m.cfg.AbsoluteTimeout,
		Index: m.index(&s, func(b *seal.Box, text string) [][]byte { return [][]byte{b.MAC(text)} }),
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
	value, err := m.cfg.Store.Marked(ctx, markName(attempt))
	if err != nil {
		return ID{}, fmt.Errorf("find session of login attempt: %w", err)
	}
	return m.openMark(attempt, value)
}

func (m *Manager) openMark(attempt string, value []byte) (ID, error) {
	b, err := m.marks.OpenUnder([]byte(attempt), value, markName(attempt))
	if errors.Is(err, seal.ErrUnknownKey) { // cannot tell: another replica has the key
		return ID{}, fmt.Errorf("mark of login attempt: %w", err)
	}
	if err != nil || len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("mark of login attempt: %w", ErrDamaged)
	}
	return ID(b), nil
}

// markName needs no key: nobody can guess the attempt.
func markName(attempt string) string {
	sum := sha256.Sum256([]byte("gatehouse/v1/attempt/" + attempt))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Load returns a live session, with Tokens only when asked, in one round trip.
//
// A request extends the idle time, but is written down only when a tenth of it, or a
// minute, has passed since the last time: idle sessions end up to that much early,
// never late. That costs a second round trip now and then.
func (m *Manager) Load(ctx context.Context, id ID, tokens bool) (*Session, error) {
	fields := FieldIdentity
	if tokens {
		fields |= FieldTokens
	}
	h := id.Handle()
	r, left, err := m.cfg.Store.Load(ctx, h, fields)
	if err != nil {
		return nil, fmt.Errorf("load session: %w", err)
	}
	s, err := m.codec.decode(id, r, fields)
	if err != nil {
		return nil, fmt.Errorf("load session %s: %w", h.Name(), err)
	}
	remaining := s.Expires.Sub(m.cfg.Now())
	if remaining <= 0 {
		// It is over even if our clock should be set back: remove it. When that
		// fails, its time in the store is about to run out too.
		_ = m.cfg.Store.End(ctx, h, nil)
		return nil, fmt.Errorf("load session: %w", ErrNotFound)
	}
	if idle := min(m.cfg.IdleTimeout, remaining); idle-left >= m.grain {
		// Only a certain end counts here. The session was just proven alive, and
		// the next request tries again.
		if err := m.cfg.Store.Touch(ctx, h, idle); errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("load session: %w", err)
		}
	}
	return s, nil
}

// End ends a session on every replica. Ending what is not there is nil; after an
// error it may be alive, so nobody must be told that he is signed out.
func (m *Manager) End(ctx context.Context, id ID) error {
	h := id.Handle()
	var index []string
	const fields = FieldIdentity | FieldTokens
	r, _, err := m.cfg.Store.Load(ctx, h, fields)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		// A record that cannot be read can still be ended, its index entries end
		// by themselves.
		if s, err := m.codec.decode(id, r, fields); err == nil {
			index = m.index(s, (*seal.Box).MACs)
		}
	}
	if err := m.cfg.Store.End(ctx, h, index); err != nil {
		return fmt.Errorf("end session %s: %w", h.Name(), err)
	}
	return nil
}

// index returns the names of the sets that list s. They say nothing to who reads
// the store: macs gives the keyed hashes to use.
func (m *Manager) index(s *Session, macs func(*seal.Box, string) [][]byte) []string {
	var names []string
	add := func(kind string, b *seal.Box, value string) {
		// An issuer is a URL and holds no zero byte, so this is unambiguous.
		for _, sum := range macs(b, s.Identity.Issuer+"\x00"+value) {
			names = append(names, kind+base64.RawURLEncoding.EncodeToString(sum))
		}
	}
	add("u:", m.user, s.Identity.Subject)
	if s.Tokens != nil && s.Tokens.ProviderSession != "" {
		add("p:", m.sid, s.Tokens.ProviderSession)
	}
	return names
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
