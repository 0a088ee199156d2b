package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// Offer keeps value for whoever presents code (a secret of at least 16 bytes), once,
// within life. The store cannot read it, not even together with a leaked ring.
func (m *Manager) Offer(ctx context.Context, code string, value []byte, life time.Duration) error {
	if len(code) < minSecret {
		return fmt.Errorf("code has %d bytes, at least %d are needed", len(code), minSecret)
	}
	name := secretName("c:", code)
	sealed := m.offers.SealUnder([]byte(code), value, name)
	held, err := m.cfg.Store.Put(ctx, name, sealed, life)
	if err == nil && !bytes.Equal(held, sealed) {
		err = errors.New("code was offered before")
	}
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	return nil
}

// Accept returns what was offered for code, and ErrNotFound to everybody after.
func (m *Manager) Accept(ctx context.Context, code string) ([]byte, error) {
	name := secretName("c:", code)
	sealed, err := m.cfg.Store.Take(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	value, err := m.offers.OpenUnder([]byte(code), sealed, name)
	switch {
	case errors.Is(err, seal.ErrUnknownKey): // cannot tell: another replica has the key
		return nil, fmt.Errorf("accept: %w", err)
	case err != nil:
		return nil, fmt.Errorf("accept: %w", ErrDamaged)
	}
	return value, nil
}

// Once reports whether it is asked for the first time within life about a text of a
// kind (a short word), on all replicas. The store cannot read the text.
func (m *Manager) Once(ctx context.Context, kind, text string, life time.Duration) (bool, error) {
	own := []byte(rand.Text())
	first := true
	// Replicas may seal under different keys for a while, so every name is looked at.
	for i, name := range names(m.once, kind, text) {
		if i > 0 {
			_, err := m.cfg.Store.Get(ctx, "j:"+name)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return false, fmt.Errorf("once: %w", err)
			}
			first = first && err != nil
			continue
		}
		held, err := m.cfg.Store.Put(ctx, "j:"+name, own, life)
		if err != nil {
			return false, fmt.Errorf("once: %w", err)
		}
		first = bytes.Equal(held, own)
	}
	return first, nil
}

// Seen reports whether Once was asked about a text of a kind within its life, and does
// not count as asking. Work that must be done again when it failed, and not again when
// it succeeded, looks with Seen, is done, and then asks Once: a mark that was set first
// could not be taken back while the store is down.
func (m *Manager) Seen(ctx context.Context, kind, text string) (bool, error) {
	for _, name := range names(m.once, kind, text) {
		_, err := m.cfg.Store.Get(ctx, "j:"+name)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("look for %s: %w", kind, err)
		}
	}
	return false, nil
}
