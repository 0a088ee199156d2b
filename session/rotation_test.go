package session_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// listing records the index names that a store is given.
type listing struct {
	session.Store
	created, ended []string
}

func (l *listing) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	l.created = r.Index
	return l.Store.Create(ctx, r)
}

func (l *listing) End(ctx context.Context, h session.Handle, index []string) error {
	l.ended = index
	return l.Store.End(ctx, h, index)
}

// D15: sessions and their index entries survive a new key, and end with the last one's removal.
func TestKeyRotation(t *testing.T) {
	old, young := seal.NewKey(time.Now().Add(-2*time.Hour)), seal.NewKey(time.Now().Add(-time.Hour))
	ring, err := seal.NewRing([]seal.Key{old}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	store := &listing{Store: session.NewMemory(0)}
	m := manager(t, session.Config{Store: store, Ring: ring})
	set := func(keys ...seal.Key) {
		t.Helper()
		if err := ring.Set(keys); err != nil {
			t.Fatal(err)
		}
	}
	id, _, err := m.Create(t.Context(), attempt, alice(t))
	if err != nil {
		t.Fatal(err)
	}
	before := store.created
	set(old, young)
	if _, err := m.Load(t.Context(), id, true); err != nil {
		t.Errorf("Load after a key was added: %v", err)
	}
	if got, _, err := m.Made(t.Context(), attempt); err != nil || got != id {
		t.Errorf("Made after a key was added: %v", err)
	}
	create(t, m)
	if len(before) != 2 || len(store.created) != 2 || slices.Equal(before, store.created) {
		t.Errorf("index names under the old key %q and the new one %q", before, store.created)
	}
	if err := m.End(t.Context(), id); err != nil {
		t.Error(err)
	}
	for _, name := range slices.Concat(before, store.created) {
		if !slices.Contains(store.ended, name) {
			t.Errorf("End leaves the session in %s", name)
		}
	}
	id, _ = create(t, m)
	set(old)
	if _, err := m.Load(t.Context(), id, false); !errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load on a replica that lacks the key: %v", err)
	}
}
