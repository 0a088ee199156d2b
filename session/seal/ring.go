// Package seal encrypts small values under a rotating set of keys.
//
// A Ring holds the keys. A Box seals for one purpose: each purpose has keys of its
// own, derived with HKDF (RFC 5869), so what was sealed for one never opens for
// another. Every key of the ring opens; one of them seals.
package seal

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Ring is a set of keys. It is safe for concurrent use.
type Ring struct {
	activation time.Duration
	now        func() time.Time
	current    atomic.Pointer[generation]
}

// generation is one set of keys, newest first. It does not change.
type generation struct {
	keys []Key
	ids  [][4]byte // of keys, as sealed values carry them
}

// NewRing makes a ring. A key opens at once, but seals only from Created +
// activation on, since a new file reaches replicas at different moments and each
// must open what the others seal. When no key is that old (the first start, or all
// keys replaced), the oldest seals. now is nil for time.Now.
func NewRing(keys []Key, activation time.Duration, now func() time.Time) (*Ring, error) {
	if activation < 0 {
		return nil, fmt.Errorf("activation delay of keys is negative: %v", activation)
	}
	if now == nil {
		now = time.Now
	}
	r := &Ring{activation: activation, now: now}
	if err := r.Set(keys); err != nil {
		return nil, err
	}
	return r, nil
}

// Set replaces the keys, atomically for every Box. After an error the ring is as before.
func (r *Ring) Set(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("no sealing key: make one with \"gatehouse keys new\"")
	}
	g := &generation{keys: slices.Clone(keys)}
	slices.SortFunc(g.keys, func(a, b Key) int {
		// Of keys created in the same second every replica has to choose the same one.
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, k := range g.keys {
		id, err := hex.DecodeString(k.ID)
		if err != nil || len(id) != 4 || k.secret == [32]byte{} {
			return fmt.Errorf("sealing key %q was made by neither NewKey nor ParseKey", k.ID)
		}
		if slices.Contains(g.ids, [4]byte(id)) {
			return fmt.Errorf("sealing key %q is there twice: remove one of the files", k.ID)
		}
		g.ids = append(g.ids, [4]byte(id))
	}
	r.current.Store(g)
	return nil
}

// Sealing returns the ID of the key that seals now.
func (r *Ring) Sealing() string {
	g := r.current.Load()
	return g.keys[r.sealing(g)].ID
}

// sealing returns the position of the key that seals now: the newest active one,
// or the oldest of all.
func (r *Ring) sealing(g *generation) int {
	now := r.now()
	for i, k := range g.keys {
		if !now.Before(k.Created.Add(r.activation)) {
			return i
		}
	}
	return len(g.keys) - 1
}
