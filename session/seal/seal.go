// Package seal encrypts small values under a rotating set of keys.
package seal

import "time"

// Key is one sealing key: "gatehouse-key-v1 ID CREATED BASE64".
type Key struct {
	ID      string
	Created time.Time
	secret  [32]byte
}

func NewKey(now time.Time) Key             { panic("contract") }
func ParseKey(text []byte) (Key, error)    { panic("contract") }
func (k Key) MarshalText() ([]byte, error) { panic("contract") }

// Ring is a set of keys: every key opens, the newest active one seals.
type Ring struct{ _ int }

// NewRing makes a ring. A key seals from Created + activation on; when none is
// active yet the oldest seals at once. now is time.Now unless tests say otherwise.
func NewRing(keys []Key, activation time.Duration, now func() time.Time) (*Ring, error) {
	panic("contract")
}

// Set replaces the keys, atomically.
func (r *Ring) Set(keys []Key) error { panic("contract") }

// Box seals under one purpose label. Safe for concurrent use; make one per purpose at start.
type Box struct{ _ int }

// Box uses AES-256-GCM with a random nonce: for values whose number we control.
func (r *Ring) Box(purpose string) *Box { panic("contract") }

// WideBox uses XAES-256-GCM: for values whose number a stranger controls.
func (r *Ring) WideBox(purpose string) *Box { panic("contract") }

// Seal returns canonical unpadded base64url text bound to aad.
func (b *Box) Seal(plaintext []byte, aad string) string { panic("contract") }

// Open undoes Seal. Any change to text, purpose or aad is ErrOpen; it never panics.
func (b *Box) Open(text, aad string) ([]byte, error) { panic("contract") }

// SealUnder and OpenUnder work as Seal and Open with binary output, under a key
// derived from the ring key and secret, so that the ring alone opens nothing.
func (b *Box) SealUnder(secret, plaintext []byte, aad string) []byte       { panic("contract") }
func (b *Box) OpenUnder(secret, sealed []byte, aad string) ([]byte, error) { panic("contract") }

// MAC returns the HMAC-SHA-256 of text under the newest key (index names), MACs under every key, newest first.
func (b *Box) MAC(text string) []byte    { panic("contract") }
func (b *Box) MACs(text string) [][]byte { panic("contract") }
