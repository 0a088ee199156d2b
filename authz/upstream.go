package authz

import (
	"errors"
	"slices"
	"strings"
)

// Names that the application believes, and so receives from nobody but us.
const (
	headerUser              = "x-auth-request-user"
	headerEmail             = "x-auth-request-email"
	headerPreferredUsername = "x-auth-request-preferred-username"
	headerGroups            = "x-auth-request-groups"
	headerAccessToken       = "x-auth-request-access-token" //nolint:gosec // a name, no credential
	managedPrefix           = "x-auth-request-"
)

// legacyNames are what older proxies call the same, removed always.
var legacyNames = []string{
	"x-forwarded-user", "x-forwarded-email", "x-forwarded-groups",
	"x-forwarded-preferred-username", "x-forwarded-access-token",
}

// maxIdentityBytes bounds what we add. Envoy gives up at 60 KiB for all headers.
const maxIdentityBytes = 32 << 10

var (
	errTooLarge = errors.New("identity headers are larger than 32 KiB")
	errToken    = errors.New("a token that the rule forwards cannot stand in a header")
)

// mutations collects what to set and what to remove. Each name is in one list only.
type mutations struct {
	set    []Field
	remove []string
	size   int
}

// put sets name, or removes it when there is nothing to say: an empty header
// would look like an answer.
func (m *mutations) put(name, value string) {
	if value == "" {
		m.remove = append(m.remove, name)
		return
	}
	m.set = append(m.set, Field{name, value})
	m.size += len(name) + len(value)
}

// upstreamHeaders says what the application receives with an allowed request.
// id is nil on an anonymous rule: then everything managed is removed.
func upstreamHeaders(r *Request, rule *Rule, id *Identity) (set []Field, remove []string, err error) {
	m := mutations{remove: make([]string, 0, 12)}
	if id == nil {
		m.remove = append(m.remove, headerUser, headerEmail, headerPreferredUsername, headerGroups, headerAccessToken)
	} else if err := m.identify(rule, id); err != nil {
		return nil, nil, err
	}
	m.remove = append(m.remove, legacyNames...)
	m.removeLookalikes(r.Header)
	if rest, cut := r.Header.cutCookies(); cut {
		m.put("cookie", rest)
	}
	return m.set, m.remove, nil
}

func (m *mutations) identify(rule *Rule, id *Identity) error {
	m.set = make([]Field, 0, 7)
	m.put(headerUser, encodeValue(id.User, false))
	email := "" // an application may go by it, so an address that nobody verified stays here
	if id.EmailVerified {
		email = id.Email
	}
	m.put(headerEmail, encodeValue(email, false))
	m.put(headerPreferredUsername, encodeValue(id.PreferredUsername, false))
	m.put(headerGroups, encodeGroups(id.Groups))
	tokens := Tokens{}
	if id.Tokens != nil {
		tokens = *id.Tokens
	}
	if !rule.Forward.AccessToken {
		tokens.Access = ""
	}
	if !visible(tokens.Access) || rule.Forward.IDToken && !visible(tokens.ID) {
		return errToken
	}
	m.put(headerAccessToken, tokens.Access)
	if rule.Forward.IDToken {
		bearer := ""
		if tokens.ID != "" {
			bearer = "Bearer " + tokens.ID
		}
		m.put("authorization", bearer)
	}
	if m.size > maxIdentityBytes {
		return errTooLarge
	}
	return nil
}

// visible reports whether s is empty or all of visible ASCII, as tokens are. A
// token is passed on as it is or not at all.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// removeLookalikes removes received names that an application may take for a
// managed one: CGI and its heirs fold "_", "." and the like into one.
func (m *mutations) removeLookalikes(h Header) {
	for i := range h {
		name := h[i].Name
		if !lookalike(name) || slices.Contains(m.remove, name) || m.sets(name) {
			continue
		}
		m.remove = append(m.remove, name)
	}
}

func (m *mutations) sets(name string) bool {
	return slices.ContainsFunc(m.set, func(f Field) bool { return f.Name == name })
}

func lookalike(name string) bool {
	if len(name) < len(managedPrefix) || name[0] != 'x' || isAlnum(name[1]) {
		return false // nearly every header
	}
	folded := foldName(name)
	return strings.HasPrefix(folded, managedPrefix) || slices.Contains(legacyNames, folded)
}

// foldName makes "-" of every byte that is not a letter or digit.
func foldName(name string) string {
	b := []byte(name)
	for i, c := range b {
		b[i] = lowerByte(c)
		if !isAlnum(c) {
			b[i] = '-'
		}
	}
	return string(b)
}
