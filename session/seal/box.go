package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// ErrOpen means that a value was not sealed by this ring for this purpose and
// these additional data, or was changed since.
var ErrOpen = errors.New("sealed value does not open")

// ErrUnknownKey is an ErrOpen whose key is not in the ring: the key was removed,
// or its file has not arrived yet. (Anybody can make up such a value.)
var ErrUnknownKey = fmt.Errorf("%w: its key is not in the ring", ErrOpen)

// MaxText is the longest text that Open looks at, in bytes.
const MaxText = 8 << 10

const (
	idSize   = 4
	gcmNonce = 12
	gcmTag   = 16
)

// text is base64url without padding (RFC 4648 section 5), canonical.
var text = base64.RawURLEncoding.Strict()

// Box seals for one purpose. Safe for concurrent use; make one per purpose at start.
//
// A sealed value is the key's ID (4 bytes), a random nonce (12 bytes, or 24 for a
// wide box), and the ciphertext with its tag.
type Box struct {
	ring    *Ring
	purpose string
	wide    bool
	cache   atomic.Pointer[derived]
}

// derived holds a box's keys for one generation, in its order.
type derived struct {
	from *generation
	keys []boxKey
}

// boxKey is what a box derives from one key of the ring.
type boxKey struct {
	id    [idSize]byte
	gcm   cipher.AEAD // nil in a wide box
	xaes  *xaes       // nil in a narrow one
	under []byte
	mac   []byte
}

// Box returns a box that uses AES-256-GCM with a random nonce: for values whose
// number we control (at most 2^32 per key, NIST SP 800-38D section 8.3).
func (r *Ring) Box(purpose string) *Box { return &Box{ring: r, purpose: purpose} }

// WideBox returns a box that uses XAES-256-GCM: for values whose number a
// stranger controls.
func (r *Ring) WideBox(purpose string) *Box { return &Box{ring: r, purpose: purpose, wide: true} }

// Seal returns canonical unpadded base64url text bound to aad. Text longer than
// MaxText would never open again: callers bound what they seal.
func (b *Box) Seal(plaintext []byte, aad string) string {
	d := b.derived()
	k := &d.keys[b.ring.sealing(d.from)]
	return text.EncodeToString(k.seal(plaintext, []byte(aad)))
}

// Open undoes Seal. Any change to text, purpose or aad is ErrOpen; it never panics.
func (b *Box) Open(sealed, aad string) ([]byte, error) {
	// The decoder skips line breaks. One more than a whole number of quanta is
	// never canonical, and with that excluded a skipped byte always shows in n.
	if len(sealed) > MaxText || len(sealed)%4 == 1 {
		return nil, ErrOpen
	}
	size := text.DecodedLen(len(sealed))
	buf := make([]byte, size+len(aad)) // one allocation for both
	n, err := text.Decode(buf, []byte(sealed))
	if err != nil || n != size {
		return nil, ErrOpen
	}
	copy(buf[size:], aad)
	return b.open(buf[:size:size], buf[size:])
}

// open decrypts in place.
func (b *Box) open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < idSize {
		return nil, ErrOpen
	}
	k, err := b.find(sealed)
	if err != nil {
		return nil, err
	}
	return k.open(sealed, aad)
}

// SealUnder works as Seal with binary output, under a key derived from the ring
// key and secret, so that neither opens anything without the other. secret needs
// at least 128 bits of entropy. The value carries the ring key's ID.
func (b *Box) SealUnder(secret, plaintext []byte, aad string) []byte {
	d := b.derived()
	k := &d.keys[b.ring.sealing(d.from)]
	return k.with(b.purpose, secret).seal(plaintext, []byte(aad))
}

// OpenUnder undoes SealUnder, with the errors of Open. It leaves sealed as it is.
func (b *Box) OpenUnder(secret, sealed []byte, aad string) ([]byte, error) {
	if len(sealed) < idSize+gcmNonce+gcmTag {
		return nil, ErrOpen
	}
	k, err := b.find(sealed)
	if err != nil {
		return nil, err
	}
	return k.with(b.purpose, secret).open(append([]byte(nil), sealed...), []byte(aad))
}

// MAC returns the HMAC-SHA-256 of text under the key that seals now. It names
// what is written to places shared by replicas.
func (b *Box) MAC(text string) []byte {
	d := b.derived()
	return d.keys[b.ring.sealing(d.from)].sum(text)
}

// MACs returns the MACs of text under every key of the ring, newest key first:
// the names under which replicas with any of these keys may have written.
func (b *Box) MACs(text string) [][]byte {
	d := b.derived()
	sums := make([][]byte, len(d.keys))
	for i := range d.keys {
		sums[i] = d.keys[i].sum(text)
	}
	return sums
}

// derived returns the keys of the ring's current generation, deriving them on
// first use. Several goroutines may do so at once after a Set; the results are equal.
func (b *Box) derived() *derived {
	g := b.ring.current.Load()
	if d := b.cache.Load(); d != nil && d.from == g {
		return d
	}
	d := &derived{from: g, keys: make([]boxKey, len(g.keys))}
	for i := range g.keys {
		d.keys[i] = b.derive(g.ids[i], g.keys[i].secret[:])
	}
	b.cache.Store(d)
	return d
}

func (b *Box) derive(id [idSize]byte, secret []byte) boxKey {
	k := boxKey{id: id, under: expand(secret, "under", b.purpose), mac: expand(secret, "mac", b.purpose)}
	if b.wide {
		k.xaes = must(newXAES(expand(secret, "xaes-256-gcm", b.purpose)))
	} else {
		k.gcm = must(newGCM(expand(secret, "aes-256-gcm", b.purpose)))
	}
	return k
}

func (b *Box) find(sealed []byte) (*boxKey, error) {
	keys := b.derived().keys
	for i := range keys {
		if keys[i].id == [idSize]byte(sealed) {
			return &keys[i], nil
		}
	}
	return nil, ErrUnknownKey
}

// with returns the key for values sealed under secret. It has no key but the
// cipher's: every secret is used for a few values at most, so GCM is enough.
func (k *boxKey) with(purpose string, secret []byte) *boxKey {
	key := must(hkdf.Key(sha256.New, secret, k.under, label("under secret", purpose), 32))
	return &boxKey{id: k.id, gcm: must(newGCM(key))}
}

func (k *boxKey) seal(plaintext, aad []byte) []byte {
	nonceSize := k.nonceSize()
	out := make([]byte, idSize+nonceSize, idSize+nonceSize+len(plaintext)+gcmTag)
	copy(out, k.id[:])
	nonce := out[idSize:]
	rand.Read(nonce)
	if k.xaes == nil {
		return k.gcm.Seal(out, nonce, plaintext, aad)
	}
	return must(k.xaes.under(nonce)).Seal(out, nonce[gcmNonce:], plaintext, aad)
}

// open decrypts in place.
func (k *boxKey) open(sealed, aad []byte) ([]byte, error) {
	nonceSize := k.nonceSize()
	if len(sealed) < idSize+nonceSize+gcmTag {
		return nil, ErrOpen
	}
	nonce, ciphertext := sealed[idSize:idSize+nonceSize], sealed[idSize+nonceSize:]
	gcm := k.gcm
	if k.xaes != nil {
		gcm, nonce = must(k.xaes.under(nonce)), nonce[gcmNonce:]
	}
	plaintext, err := gcm.Open(ciphertext[:0], nonce, ciphertext, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

func (k *boxKey) nonceSize() int {
	if k.xaes != nil {
		return xaesNonce
	}
	return gcmNonce
}

func (k *boxKey) sum(text string) []byte {
	h := hmac.New(sha256.New, k.mac)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// expand derives a 32-byte key. The ring's keys are uniformly random already, so
// the extraction step of HKDF is not needed (RFC 5869 section 3.3).
func expand(secret []byte, use, purpose string) []byte {
	return must(hkdf.Expand(sha256.New, secret, label(use, purpose), 32))
}

// label is unambiguous because no use contains a slash.
func label(use, purpose string) string {
	return strings.Join([]string{"gatehouse/v1", use, purpose}, "/")
}

// must is for errors that only a wrong key length can cause.
func must[T any](v T, err error) T {
	if err != nil {
		panic("seal: " + err.Error())
	}
	return v
}
