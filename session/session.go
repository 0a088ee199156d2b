// Package session keeps the sessions of signed-in users: limits, renewal, ending, cache.
//
// A Manager knows what a session is; a Store keeps it as sealed bytes that it cannot
// read. The identity and the tokens open only with the session's ID, which nobody
// but the browser holds (inside its sealed cookie), and a key of the ring: the store
// together with a leaked ring shows none of them.
//
// Any number of Managers, one in each replica, share a Store. Each serves from its cache
// what was proven alive a moment ago, hears of endings from the store, and renews a
// session at its provider only while it holds that session's lease.
package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Errors of a Manager and of a Store. ErrNotFound alone means that a session is
// over; with every other error nobody is signed out.
var (
	// ErrNotFound means that there is no such session (or mark), for certain.
	ErrNotFound = errors.New("session not found")
	// ErrFull means that the store takes no new session now. Those it has go on.
	ErrFull = errors.New("session store is full")
	// ErrNewer means that a record is of a format that this version does not know:
	// a newer replica wrote it. Cannot tell.
	ErrNewer = errors.New("session record is of a newer format")
	// ErrDamaged means that a record is there, but was altered, cut or swapped. It
	// will never load; a new login replaces it.
	ErrDamaged = errors.New("session record is damaged")
	// ErrConflict means that a record was replaced by somebody else meanwhile.
	ErrConflict = errors.New("session record was replaced meanwhile")
	// ErrRevoked is what Config.Renew says when the provider has ended the session.
	ErrRevoked = errors.New("session was ended by the provider")
)

// ID is the secret that a cookie carries: 32 random bytes. It prints as nothing useful.
type ID [32]byte

func newID() (id ID) {
	rand.Read(id[:])
	return id
}

// Handle returns the store's name for the session.
func (id ID) Handle() Handle { return sha256.Sum256(id[:]) }

// Format keeps the ID out of every print.
func (id ID) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "session.ID(secret)") }

// MarshalText keeps the ID out of every log and JSON document.
func (id ID) MarshalText() ([]byte, error) { return []byte("secret"), nil }

// Handle is SHA-256(ID): the store's name for a session, useless as a cookie.
type Handle [sha256.Size]byte

// String returns the handle as 43 characters of base64url.
func (h Handle) String() string { return base64.RawURLEncoding.EncodeToString(h[:]) }

// ParseHandle undoes String.
func ParseHandle(s string) (Handle, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(Handle{}) || base64.RawURLEncoding.EncodeToString(b) != s {
		return Handle{}, errors.New("not the handle of a session")
	}
	return Handle(b), nil
}

// Name returns what logs and people call the session: the first 16 characters of
// String (96 bits).
func (h Handle) Name() string { return base64.RawURLEncoding.EncodeToString(h[:12]) }

// Session is plain data. What a Manager returned may be shared and must not be changed.
type Session struct {
	Handle   Handle
	Identity *authz.Identity // Tokens is nil; Session is Handle.Name()
	Created  time.Time
	Expires  time.Time // absolute end; nothing moves it
	Begun    time.Time // for Create: when the login was begun; zero: now
	Until    time.Time // for Create: an earlier absolute end than the configured one; zero: none
	Tokens   *Tokens   // there when asked for; perhaps otherwise, too
	Summary  Summary   // empty from Load: a decision does not need it

	renewed time.Time // when the provider last said who it is
	renewBy time.Time // when the access token ends; zero: the provider can not be asked again
	version string    // of the record that it was loaded from
	size    int       // of its identity in that record
}

// Tokens are the provider's answers.
type Tokens struct {
	Access, Refresh, ID string
	AccessExpires       time.Time // zero: unknown
	ProviderSession     string    // sid
}

// Format keeps tokens out of every print.
func (t Tokens) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "session.Tokens(secret)") }

// MarshalText keeps tokens out of every log and JSON document.
func (t Tokens) MarshalText() ([]byte, error) { return []byte("secret"), nil }

// Summary is what a list of sessions shows. Longer texts are cut to 256 bytes.
type Summary struct{ Device, Address string }
