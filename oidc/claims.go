package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Bounds of what an identity is made of, in bytes.
const (
	maxSubject = 1024 // Kubernetes names are longer than the 255 that OpenID Connect allows
	maxEmail   = 320
	maxName    = 1024
	maxAud     = 100 // entries
)

// ClaimNames says where identities are found in claims (JSON Pointer or member name).
type ClaimNames struct {
	User              string // default "sub"; the same as Email: only a verified e-mail names a user
	Email             string // default "email"
	EmailVerified     string // default "email_verified"
	PreferredUsername string // default "preferred_username"
	Groups            string // default "groups"
}

func (n ClaimNames) withDefaults() ClaimNames {
	for _, d := range []struct {
		to   *string
		name string
	}{
		{&n.User, "sub"},
		{&n.Email, "email"},
		{&n.EmailVerified, "email_verified"},
		{&n.PreferredUsername, "preferred_username"},
		{&n.Groups, "groups"},
	} {
		if *d.to == "" {
			*d.to = d.name
		}
	}
	return n
}

// identity reads who somebody is from verified claims. sub and aud have been
// checked. Anything ambiguous is refused: an identity that is half read would
// be somebody else's.
func (n ClaimNames) identity(c authz.Claims, trustEmail bool) (*authz.Identity, error) {
	id := &authz.Identity{Claims: c}
	id.Email = n.text(c, n.Email, maxEmail)
	if id.Email != "" {
		verified, there := c.Lookup(n.EmailVerified)
		id.EmailVerified = verified == true || trustEmail && !there
	}
	id.PreferredUsername = n.text(c, n.PreferredUsername, maxName)
	if id.User = n.text(c, n.User, maxSubject); id.User == "" {
		return nil, fmt.Errorf("claim %q, which names the user, is missing, empty or not printable text", n.User)
	}
	if n.User == n.Email && !id.EmailVerified {
		return nil, fmt.Errorf("claim %q names the user, but the e-mail is not verified", n.User)
	}
	var err error
	id.Groups, err = n.groups(c)
	return id, err
}

// text is a printable string claim, or empty.
func (n ClaimNames) text(c authz.Claims, name string, limit int) string {
	v, _ := c.Lookup(name)
	s, _ := v.(string)
	if !printable(s, limit) {
		return ""
	}
	return s
}

// groups takes an array of names, or one name. A list that is not whole is
// refused: a condition could take a missing name for an absent group.
func (n ClaimNames) groups(c authz.Claims) ([]string, error) {
	v, ok := c.Lookup(n.Groups)
	if !ok || v == nil {
		// OpenID Connect Core 1.0 section 5.6.2: the provider moved the claim
		// elsewhere, as Entra does when there are too many groups.
		if elsewhere, ok := c["_claim_names"].(map[string]any); ok {
			if _, ok := elsewhere[topLevel(n.Groups)]; ok {
				return nil, fmt.Errorf("the provider left claim %q out of the token (too many groups?)", n.Groups)
			}
		}
		return nil, nil
	}
	if name, ok := v.(string); ok {
		v = []any{name}
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("claim %q is not a list of names", n.Groups)
	}
	groups := make([]string, 0, len(list))
	for _, e := range list {
		name, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("claim %q holds something that is not a name", n.Groups)
		}
		if name != "" {
			groups = append(groups, name)
		}
	}
	return groups, nil
}

// topLevel is the member that a pointer begins at.
func topLevel(pointer string) string {
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		return pointer
	}
	first, _, _ := strings.Cut(rest, "/")
	return strings.ReplaceAll(strings.ReplaceAll(first, "~1", "/"), "~0", "~")
}

// printable accepts non-empty text that is more than spaces and holds no
// control, format or private character. Claims are valid UTF-8 already.
func printable(s string, limit int) bool {
	if len(s) > limit || strings.Trim(s, " ") == "" {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func subject(c authz.Claims, limit int) (string, error) {
	s, _ := c["sub"].(string)
	if !printable(s, limit) {
		return "", fmt.Errorf("sub is missing or not printable text of at most %d bytes", limit)
	}
	return s, nil
}

// audience reads aud, one string or an array of them (RFC 7519 section 4.1.3).
func audience(c authz.Claims) ([]string, error) {
	bad := fmt.Errorf("aud is missing or not one to %d names", maxAud)
	switch v := c["aud"].(type) {
	case string:
		if v == "" {
			return nil, bad
		}
		return []string{v}, nil
	case []any:
		if len(v) == 0 || len(v) > maxAud {
			return nil, bad
		}
		aud := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok || s == "" {
				return nil, bad
			}
			aud = append(aud, s)
		}
		return aud, nil
	}
	return nil, bad
}

// date reads a NumericDate (RFC 7519 section 2): seconds, perhaps with a
// fraction, up to the year 9999.
func date(c authz.Claims, name string) (t time.Time, there bool, err error) {
	v, there := c[name]
	if !there {
		return time.Time{}, false, nil
	}
	n, ok := v.(json.Number)
	if ok {
		f, err := n.Float64()
		if err == nil && f > 0 && f < 253402300800 {
			whole, fraction := math.Modf(f)
			return time.Unix(int64(whole), int64(fraction*1e9)), true, nil
		}
	}
	return time.Time{}, true, fmt.Errorf("%s is not a date", name)
}

// The dates of a token are fine in themselves, but not now, by our clock.
var (
	errExpired = errors.New("the token is expired")
	errNotYet  = errors.New("the token is not valid yet (nbf or iat lies in the future)")
)

// lifetime checks exp (required), nbf and iat (RFC 7519 section 4.1.4 to 4.1.6)
// and returns exp and iat. iat, when there, must not lie in the future: a clock
// that far off, ours or theirs, makes every other date worthless.
func lifetime(c authz.Claims, now time.Time, skew time.Duration) (exp, iat time.Time, err error) {
	exp, there, err := date(c, "exp")
	if err == nil && !there {
		err = errors.New("exp is missing")
	}
	if err == nil && !now.Before(exp.Add(skew)) {
		err = errExpired
	}
	if err != nil {
		return exp, iat, err
	}
	nbf, _, err := date(c, "nbf")
	if err != nil {
		return exp, iat, err
	}
	iat, _, err = date(c, "iat")
	if err == nil && (nbf.After(now.Add(skew)) || iat.After(now.Add(skew))) {
		err = errNotYet
	}
	return exp, iat, err
}

// protocolClaims belong to one token and are never taken from userinfo.
var protocolClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "auth_time", "acr", "amr", "azp",
	"at_hash", "c_hash", "s_hash", "sid", "cnf", "events", "client_id", "scope",
}

// merge adds userinfo's claims to an ID token's. E-mail and whether it is
// verified always come from one of the two: one's address with the other's word
// would verify an address that nobody verified.
func (n ClaimNames) merge(idToken, userinfo authz.Claims) authz.Claims {
	merged := make(authz.Claims, len(idToken)+len(userinfo))
	for name, v := range idToken {
		merged[name] = v
	}
	for name, v := range userinfo {
		if !slices.Contains(protocolClaims, name) {
			merged[name] = v
		}
	}
	from := idToken
	if _, ok := userinfo.Lookup(n.Email); ok {
		from = userinfo
	}
	for _, name := range []string{topLevel(n.Email), topLevel(n.EmailVerified)} {
		if slices.Contains(protocolClaims, name) {
			continue
		}
		delete(merged, name)
		if v, ok := from[name]; ok {
			merged[name] = v
		}
	}
	return merged
}
