package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// markedLife is how long an ending of a user, or of a session at a provider, also ends
// logins that were begun before: longer than any of them takes.
const markedLife = 15 * time.Minute

// End ends a session on every replica. Ending what is not there is nil; after an
// error it may be alive, so nobody must be told that he is signed out.
func (m *Manager) End(ctx context.Context, id ID) error {
	h := id.Handle()
	var index []string // of a record that cannot be read its entries end by themselves
	switch s, err := m.Stored(ctx, id); {
	case errors.Is(err, ErrNotFound):
		m.bury(h)
		return nil
	case err == nil:
		index = m.index(s, everyName)
	}
	return m.end(ctx, h, index)
}

// EndHandle is End for who does not hold the session's ID: an operator, or its user on
// another device.
func (m *Manager) EndHandle(ctx context.Context, h Handle) error { return m.end(ctx, h, nil) }

func (m *Manager) end(ctx context.Context, h Handle, index []string) error {
	if err := m.cfg.Store.End(ctx, h, index); err != nil {
		return fmt.Errorf("end session %s: %w", h.Name(), err)
	}
	m.bury(h)
	return nil
}

// EndUser ends every session of a user except the given ones, and every login of his
// that is under way. It returns how many sessions it ended. After an error some may be
// alive.
func (m *Manager) EndUser(ctx context.Context, issuer, subject string, except ...Handle) (int, error) {
	return m.endListed(ctx, "u:", names(m.user, issuer, subject), except)
}

// EndProviderSession ends every session that came out of one session at the provider
// (OpenID Connect sid), also one that is just being made. It returns how many it ended.
func (m *Manager) EndProviderSession(ctx context.Context, issuer, sid string) (int, error) {
	return m.endListed(ctx, "p:", names(m.sid, issuer, sid), nil)
}

// endListed marks the sets first: a login that lists itself after they were read finds
// the mark when it is done.
func (m *Manager) endListed(ctx context.Context, kind string, sets []string, except []Handle) (int, error) {
	index := withKind(kind, sets)
	ended, err := 0, m.markEnded(ctx, index[0])
	if errors.Is(err, ErrFull) { // what is ended makes room
		if ended, err = m.endAll(ctx, index, except); err == nil {
			err = m.markEnded(ctx, index[0])
		}
	}
	if err != nil {
		return ended, err
	}
	more, err := m.endAll(ctx, index, except)
	return ended + more, err
}

func (m *Manager) markEnded(ctx context.Context, set string) error {
	mark := fmt.Sprintf("%019d", m.cfg.Now().UnixNano())
	if err := m.cfg.Store.Raise(ctx, "n:"+set, []byte(mark), markedLife); err != nil {
		return fmt.Errorf("mark as ended: %w", err)
	}
	return nil
}

func (m *Manager) endAll(ctx context.Context, index []string, except []Handle) (int, error) {
	handles, err := m.cfg.Store.List(ctx, index)
	if err != nil {
		return 0, fmt.Errorf("list sessions: %w", err)
	}
	ended := 0
	for _, h := range handles {
		if slices.Contains(except, h) {
			continue
		}
		_, _, err := m.cfg.Store.Load(ctx, h, 0)
		gone := errors.Is(err, ErrNotFound)
		if err := m.end(ctx, h, index); err != nil { // also what was not there: it leaves the index
			return ended, err
		}
		if !gone {
			ended++
		}
	}
	return ended, nil
}

// unlessEnded ends a session that was just made, if its user was signed out since begun.
func (m *Manager) unlessEnded(ctx context.Context, id ID, s *Session, begun time.Time) (ID, *Session, error) {
	if begun.IsZero() {
		begun = s.Created
	}
	ended, err := m.endedSince(ctx, s, begun)
	if err == nil && !ended {
		return id, s, nil
	}
	if err := m.End(ctx, id); err != nil {
		return ID{}, nil, fmt.Errorf("create session: %w", err)
	}
	if err == nil {
		err = fmt.Errorf("the user was signed out meanwhile: %w", ErrNotFound)
	}
	return ID{}, nil, fmt.Errorf("create session: %w", err)
}

// endedSince goes by the clocks of replicas. That they are a little apart changes
// nothing: somebody whose login was begun so shortly before an ending has yet to be
// recognised by the provider.
func (m *Manager) endedSince(ctx context.Context, s *Session, begun time.Time) (bool, error) {
	for _, set := range m.index(s, everyName) {
		value, err := m.cfg.Store.Get(ctx, "n:"+set)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		at, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil {
			return false, fmt.Errorf("mark of an ending: %w", ErrDamaged)
		}
		if at >= begun.UnixNano() {
			return true, nil
		}
	}
	return false, nil
}

// Listed is a session as its user and operators see it.
type Listed struct {
	Handle  Handle
	Summary Summary // empty, with a zero Created, when it cannot be read
	Created time.Time
	Seen    time.Time // of the last request, to a minute or a tenth of the idle timeout
}

// List returns the live sessions of a user, the one seen last first.
func (m *Manager) List(ctx context.Context, issuer, subject string) ([]Listed, error) {
	handles, err := m.cfg.Store.List(ctx, withKind("u:", names(m.user, issuer, subject)))
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var all []Listed
	for _, h := range handles {
		r, left, err := m.cfg.Store.Load(ctx, h, FieldSummary)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		l := Listed{Handle: h, Seen: m.cfg.Now().Add(min(left-m.cfg.IdleTimeout, 0))}
		if l.Summary, l.Created, err = m.codec.decodeSummary(r); err == nil && l.Seen.Before(l.Created) {
			l.Seen = l.Created
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Listed) int {
		return cmp.Or(b.Seen.Compare(a.Seen), b.Created.Compare(a.Created))
	})
	return all, nil
}
