package authz

import (
	"errors"
	"fmt"
	"strings"
)

var (
	errNoScope  = &conditionError{text: "the credential names no scope", scope: true}
	errBadScope = errors.New("the scope of the credential is malformed")
)

// Scopes holds for a credential that was given one of the scopes: an exact token
// of the claim scope, which is a text with spaces between tokens (RFC 9068
// section 2.2.3) or, as some issuers write it, an array of tokens. Its error wraps
// ErrInsufficientScope, unless the claim is malformed.
func Scopes(anyOf ...string) (Condition, error) {
	if err := checkNames("scopes", anyOf); err != nil {
		return Condition{}, err
	}
	for _, s := range anyOf {
		if !scopeToken(s) {
			return Condition{}, fmt.Errorf("%q is not one scope: it has no spaces, quotes or backslashes", s)
		}
	}
	want := set(anyOf)
	failed := &conditionError{text: fmt.Sprintf("none of the scopes %q", anyOf), unmet: true, scope: true}
	return Condition{Text: text("scopes", anyOf), OfProvider: true, Check: func(_ *Request, id *Identity) error {
		return checkScopes(id.Claims["scope"], want, failed)
	}}, nil
}

// checkScopes looks at the whole claim before it finds anything in it: a
// malformed one means nothing.
func checkScopes(claim any, want map[string]bool, failed error) error {
	found := false
	see := func(s string) bool {
		found = found || want[s]
		return scopeToken(s)
	}
	switch claim := claim.(type) {
	case nil:
		return errNoScope
	case string:
		for s := range strings.SplitSeq(claim, " ") {
			if s != "" && !see(s) {
				return errBadScope
			}
		}
	case []any:
		for _, item := range claim {
			if s, ok := item.(string); !ok || !see(s) {
				return errBadScope
			}
		}
	default:
		return errBadScope
	}
	if found {
		return nil
	}
	return failed
}

// scopeToken reports whether s is a scope-token (RFC 6749 section 3.3).
func scopeToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
}
