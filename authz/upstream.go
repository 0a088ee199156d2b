package authz

import (
	"errors"
	"fmt"
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

// maxIdentityBytes bounds what we add.
const maxIdentityBytes = 32 << 10

// Limits on what may reach the application in all: Envoy answers an allow that
// exceeds its defaults (max_headers_count, max_request_headers_kb) with 500. It
// counts before it removes, and with its own :method, :scheme, :authority, :path.
const (
	maxUpstreamHeaders = 100
	maxUpstreamBytes   = 60 << 10
	pseudoHeaders      = 4
	pseudoBytes        = len(":method:scheme:authority:path") + len("https")
)

var (
	errTooLarge = errors.New("too much for the header limits")
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
// id is nil on an anonymous rule: then everything managed is removed. extra are
// the claim headers of all rules, which belong to us on every path: several rules
// may lead to one application.
func upstreamHeaders(r *Request, rule *Rule, id *Identity, extra []string) (set []Field, remove []string, err error) {
	m := mutations{remove: make([]string, 0, 12)}
	if id == nil {
		m.remove = append(m.remove, headerUser, headerEmail, headerPreferredUsername, headerGroups, headerAccessToken)
	} else if err := m.identify(rule, id); err != nil {
		return nil, nil, err
	}
	m.remove = append(m.remove, legacyNames...)
	for _, name := range extra {
		if !m.sets(name) && !slices.Contains(m.remove, name) {
			m.remove = append(m.remove, name)
		}
	}
	m.removeLookalikes(r.Header, extra)
	if rest, cut := r.Header.cutCookies(); cut {
		m.put("cookie", rest)
	}
	if err := m.fit(r); err != nil {
		return nil, nil, err
	}
	return m.set, m.remove, nil
}

// fit checks what the application would receive in all, as Envoy counts it.
func (m *mutations) fit(r *Request) error {
	count := pseudoHeaders + len(r.Header) + len(m.set)
	size := pseudoBytes + len(r.Method) + len(r.Host) + len(":65535") + len(r.Path) + len(r.RawQuery) + 1
	for i := range r.Header {
		f := &r.Header[i]
		if m.sets(f.Name) { // overwritten, not added
			count--
			continue
		}
		size += len(f.Name) + len(f.Value)
	}
	for i := range m.set {
		size += len(m.set[i].Name) + len(m.set[i].Value)
	}
	switch {
	case count > maxUpstreamHeaders:
		return fmt.Errorf("%w: the application would receive %d headers, of at most %d", errTooLarge, count, maxUpstreamHeaders)
	case size > maxUpstreamBytes:
		return fmt.Errorf("%w: the application would receive %d bytes of headers, of at most %d", errTooLarge, size, maxUpstreamBytes)
	}
	return nil
}

func (m *mutations) identify(rule *Rule, id *Identity) error {
	m.set = make([]Field, 0, 7)
	m.put(headerUser, encodeValue(id.User, 0))
	email := "" // an application may go by it, so an address that nobody verified stays here
	if id.EmailVerified {
		email = id.Email
	}
	m.put(headerEmail, encodeValue(email, 0))
	m.put(headerPreferredUsername, encodeValue(id.PreferredUsername, 0))
	m.put(headerGroups, encodeGroups(rule.Forward.groups(id.Groups)))
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
	for i := range rule.Forward.Headers {
		h := &rule.Forward.Headers[i]
		m.put(h.name, h.value(id.Claims))
	}
	if m.size > maxIdentityBytes {
		return fmt.Errorf("%w: our own would be %d bytes, of at most %d", errTooLarge, m.size, maxIdentityBytes)
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
func (m *mutations) removeLookalikes(h Header, extra []string) {
	for i := range h {
		name := h[i].Name
		if !lookalike(name) && !foldsToAny(name, extra) || slices.Contains(m.remove, name) || m.sets(name) {
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

func foldsToAny(name string, extra []string) bool {
	return slices.ContainsFunc(extra, func(e string) bool {
		return len(name) == len(e) && name[0] == e[0] && foldName(name) == e
	})
}

// Managed reports whether a header of that name, in lower case, is one that we set
// or remove on every allow, or one that an application may take for such a one.
// What a client sent under it means nothing.
func Managed(name string) bool { return lookalike(name) }

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
