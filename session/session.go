// Package session keeps the sessions of signed-in users: ids, limits, ending.
package session

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// ErrNotFound means that there is no such session, for certain. Every other
// error means "cannot tell" and never signs anyone out.
var ErrNotFound = errors.New("session not found")

// ErrFull means that the store takes no new session.
var ErrFull = errors.New("session store is full")

// ID is the secret that a cookie carries (32 random bytes).
type ID [32]byte

// Handle is SHA-256(ID): the store's name for a session, useless as a cookie.
type Handle [32]byte

// Session is plain data.
type Session struct {
	Handle   Handle
	Identity *authz.Identity // Tokens is nil; Session is set to a public name derived from Handle
	Created  time.Time
	Expires  time.Time // absolute end
	Tokens   *Tokens   // nil unless loaded
	Summary  Summary
}

// Tokens are the provider's answers, kept sealed under the session id.
type Tokens struct {
	Access, Refresh, ID string
	AccessExpires       time.Time // zero: unknown
	ProviderSession     string    // sid
}

// Summary is what a list of sessions shows.
type Summary struct{ Device, Address string }

// Config is what a Manager works with.
type Config struct {
	Store           Store
	Ring            *seal.Ring
	IdleTimeout     time.Duration
	AbsoluteTimeout time.Duration
	Now             func() time.Time // nil: time.Now
}

type Manager struct{ cfg Config }

func New(cfg Config) (*Manager, error) { panic("contract") }

// Create stores s (Identity, Tokens, Summary given) under a new id, together
// with a mark on the login attempt (a secret). When that attempt has made a
// session within the last 60 s, that one is returned and nothing is written.
func (m *Manager) Create(ctx context.Context, attempt string, s Session) (ID, *Session, error) {
	panic("contract")
}

// Made returns the session that attempt made within the last 60 s, or ErrNotFound.
func (m *Manager) Made(ctx context.Context, attempt string) (ID, *Session, error) { panic("contract") }

// Load returns a live session in one round trip, with Tokens only when asked.
// It extends the idle time at a coarse grain.
func (m *Manager) Load(ctx context.Context, id ID, tokens bool) (*Session, error) { panic("contract") }

// End ends a session. Ending what is not there is nil.
func (m *Manager) End(ctx context.Context, id ID) error { panic("contract") }
