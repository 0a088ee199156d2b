package authz

import "strings"

// Field is one header line. Name is lower case; Value is the text as received.
type Field struct{ Name, Value string }

// Header is an ordered list of header lines with lower-case names and without
// pseudo-headers. The zero value is an empty header.
type Header []Field

// Get returns the first value of name, which must be lower case, and how many
// lines carry that name.
func (h Header) Get(name string) (value string, n int) {
	for i := range h {
		if h[i].Name == name {
			if n == 0 {
				value = h[i].Value
			}
			n++
		}
	}
	return value, n
}

// Bearer returns the credential of an "Authorization: Bearer" line (RFC 6750
// section 2.1) and whether there is such a line. The token is as received: it
// may be empty or nonsense, which is a bad credential and not a missing one.
func (h Header) Bearer() (token string, present bool) {
	for i := range h {
		if h[i].Name == "authorization" {
			if token, ok := bearerToken(h[i].Value); ok {
				return token, true
			}
		}
	}
	return "", false
}

// bearerToken takes one space after the scheme; more of them stay in the token,
// where no verifier accepts them.
func bearerToken(value string) (token string, ok bool) {
	const scheme = "bearer"
	if len(value) < len(scheme) || !equalFold(value[:len(scheme)], scheme) {
		return "", false
	}
	rest := value[len(scheme):]
	switch {
	case rest == "":
		return "", true
	case rest[0] == ' ':
		return rest[1:], true
	case rest[0] == '\t' || rest[0] == ',':
		return rest, true
	}
	return "", false // another scheme that begins with the same letters
}

// encodeValue percent-encodes what must not stand in a header value: control and
// non-ASCII bytes, "%" itself, the byte stop unless it is 0, and a leading or
// trailing space. Decoding every escape gives the text back, byte for byte.
func encodeValue(s string, stop byte) string {
	for i := range len(s) {
		if escaped(s, i, stop) {
			return encodeFrom(s, i, stop)
		}
	}
	return s
}

func escaped(s string, i int, stop byte) bool {
	c := s[i]
	return c < ' ' || c > '~' || c == '%' || c == stop || c == ' ' && (i == 0 || i == len(s)-1)
}

func encodeFrom(s string, start int, stop byte) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s) + 16)
	b.WriteString(s[:start])
	for i := start; i < len(s); i++ {
		if escaped(s, i, stop) {
			b.Write([]byte{'%', hex[s[i]>>4], hex[s[i]&15]})
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// encodeGroups joins names with commas. Empty names say nothing and are left out.
func encodeGroups(groups []string) string {
	if len(groups) == 1 {
		return encodeValue(groups[0], ',')
	}
	var b strings.Builder
	for _, g := range groups {
		if g == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(encodeValue(g, ','))
	}
	return b.String()
}
