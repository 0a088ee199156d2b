package authz

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Identity is who is asking, as a provider attested it. It is immutable and
// may be shared between requests.
type Identity struct {
	Provider          string // name in the configuration
	Issuer, Subject   string
	User              string // value of X-Auth-Request-User; the claim chosen by configuration, sub by default
	Email             string
	EmailVerified     bool // by the provider's word and the configured policy
	PreferredUsername string
	Groups            []string
	Audience          []string
	Claims            Claims
	Expires           time.Time // of the credential; zero: none
	Session           string    // public name of the session (never the id); empty for bearer tokens
	Tokens            *Tokens   // only where the rule forwards them; nil otherwise
}

// Tokens are what a rule may forward. Never a refresh token.
type Tokens struct {
	Access, ID string
	Expires    time.Time // of Access; zero: unknown
}

// Errors of an Authenticator. Any other error means "cannot tell" and becomes a 503.
var (
	ErrNoCredentials  = errors.New("no credentials")
	ErrBadCredentials = errors.New("bad credentials")

	// ErrForeign are bad credentials that another source may know, such as a token
	// of an issuer that is not this one's: what that source says is of more use.
	ErrForeign = fmt.Errorf("%w: not of this source", ErrBadCredentials)
)

// ErrInsufficientScope is wrapped by the error of a Condition that failed for want
// of a scope, so that a client learns to ask for a token with more (RFC 6750
// section 3.1).
var ErrInsufficientScope = errors.New("insufficient scope")

// Authenticator recognises who sent a request. Implementations are safe for
// concurrent use.
type Authenticator interface {
	// Authenticate returns the identity, an error wrapping ErrNoCredentials or
	// ErrBadCredentials, or any other error for "cannot tell".
	Authenticate(context.Context, *Request) (*Identity, error)
	// Challenge says how to obtain credentials after err. It does no I/O.
	Challenge(r *Request, err error) Challenge
}

// Challenge tells a caller how to sign in.
type Challenge struct {
	Location        string  // relative address to send a navigation to; empty: none
	WWWAuthenticate string  // RFC 9110 section 11.6.1
	Clear           []Field // Set-Cookie lines that delete what is known to be dead
}
