package oidc

import (
	"errors"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// challenge says what is wrong with a bearer token, in the words of RFC 6750
// section 3. It tells a client what a new token would help against, and nothing of
// what the rules are.
func challenge(r *authz.Request, err error) authz.Challenge {
	text := `Bearer realm="` + quotable(r.Host) + `"`
	switch {
	case errors.Is(err, authz.ErrBadCredentials):
		text += `, error="invalid_token"`
		if d := description(err); d != "" {
			text += `, error_description="` + d + `"`
		}
	case errors.Is(err, authz.ErrInsufficientScope):
		text += `, error="insufficient_scope"`
	}
	// Section 3.1: no error code where no credentials were given.
	return authz.Challenge{WWWAuthenticate: text}
}

// description is for whoever looks after a client: each of these is mended by a
// newer token, or by a clock.
func description(err error) string {
	switch {
	case errors.Is(err, errExpired):
		return "The access token expired"
	case errors.Is(err, errTooOld):
		return "The access token is too old"
	case errors.Is(err, errNotYet):
		return "The access token is not valid yet"
	}
	return ""
}

// quotable leaves what needs no escaping in a quoted-string. A canonical host
// holds nothing else.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
