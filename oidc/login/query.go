package login

import (
	"errors"
	"strings"
)

const (
	maxQuery  = 16 << 10
	maxParams = 64
)

var errQuery = errors.New("malformed query")

// query is a decoded query string in which every name occurs once.
type query map[string]string

// parseQuery decodes application/x-www-form-urlencoded text strictly: a broken
// escape and a name that occurs twice are errors, since two readers could
// disagree about them (RFC 6749 section 3.1: parameters must not repeat).
func parseQuery(raw string) (query, error) {
	if len(raw) > maxQuery {
		return nil, errQuery
	}
	q := make(query)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, okName := unescape(name)
		value, okValue := unescape(value)
		if _, twice := q[name]; twice || !okName || !okValue || len(q) == maxParams {
			return nil, errQuery
		}
		q[name] = value
	}
	return q, nil
}

// unescape decodes %XX and "+".
func unescape(s string) (string, bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "", false
			}
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
}

// escape encodes s as one query value.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	default:
		return c - '0'
	}
}
