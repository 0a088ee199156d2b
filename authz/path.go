package authz

import (
	"bytes"
	"slices"
	"strings"
)

// Limits on the readings of one path, so that nobody can make us think for long.
const (
	maxReadings     = 64
	maxReadingBytes = 64 << 10
)

// unescape decodes each percent-escape whose byte satisfies which. What is not
// an escape stays.
func unescape(s string, which func(byte) bool) string {
	first := strings.IndexByte(s, '%')
	if first < 0 {
		return s
	}
	b := make([]byte, first, len(s))
	copy(b, s)
	for i := first; i < len(s); i++ {
		if c, ok := escapeAt(s, i); ok && which(c) {
			b = append(b, c)
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// plainByte holds what paths of rules consist of, besides "/".
var plainByte = func() (t [256]bool) {
	for c := range 128 {
		t[c] = isAlnum(byte(c))
	}
	for _, c := range []byte("-._~!$&'()+,:@=") {
		t[c] = true
	}
	return t
}()

// ordinary reports whether every upstream reads path alike, as far as rules can
// tell: no escape but of bytes that no rule contains, no backslash, parameter,
// empty segment or dot segment.
func ordinary(path string) bool {
	for i := range len(path) {
		switch path[i] {
		case '\\', ';':
			return false
		case '%':
			c, ok := escapeAt(path, i)
			if !ok || plainByte[c] || strings.IndexByte(`/\;%?#`, c) >= 0 {
				return false
			}
		case '/':
			if rest := path[i+1:]; rest != "" && (rest[0] == '/' || rest[0] == '.' && dotSegment(rest) > 0) {
				return false
			}
		}
	}
	return true
}

// dotSegment returns 1 or 2 if s begins with the segment "." or "..", else 0.
func dotSegment(s string) int {
	dots := 0
	for dots < len(s) && s[dots] == '.' {
		dots++
	}
	if dots <= 2 && (dots == len(s) || s[dots] == '/') {
		return dots
	}
	return 0
}

// reading is a path as some upstream may take it.
type reading struct {
	path    string
	decoded int // how many times all of it has been decoded
}

// eachReading calls visit with path and with every other way in which an
// upstream may read it: the closure of path under steps, in any order, and under
// decoding twice. It stops early when visit returns false, and returns false
// itself when there are too many.
func eachReading(path string, visit func(string) bool) (complete bool) {
	found := []reading{{path: path}}
	size := 0
	for i := 0; i < len(found); i++ { // found grows meanwhile
		from := found[i]
		if !visit(from.path) {
			return true
		}
		add := func(to reading) {
			if to.path != from.path && !slices.Contains(found, to) {
				found = append(found, to)
				size += len(to.path)
			}
		}
		for _, step := range steps {
			add(reading{step(from.path), from.decoded})
		}
		if from.decoded < 2 {
			add(reading{unescape(from.path, isSlash), from.decoded})
			add(reading{unescape(from.path, isUnreserved), from.decoded})
			add(reading{unescape(from.path, anyByte), from.decoded + 1})
		}
		if len(found) > maxReadings || size > maxReadingBytes {
			return false
		}
	}
	return true
}

func anyByte(byte) bool        { return true }
func isSlash(c byte) bool      { return c == '/' || c == '\\' }
func isUnreserved(c byte) bool { return isAlnum(c) || strings.IndexByte("-._~", c) >= 0 } // RFC 3986 section 2.3

var steps = []func(string) string{
	func(s string) string { return strings.ReplaceAll(s, `\`, "/") },
	stripParams, mergeSlashes, resolveDots, resolveDotsClean, dropAuthority, dropQuery,
}

// stripParams removes ";…" from each segment, as servlet containers do.
func stripParams(s string) string {
	if strings.IndexByte(s, ';') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	inside := false
	for i := range len(s) {
		inside = s[i] != '/' && (inside || s[i] == ';')
		if !inside {
			b = append(b, s[i])
		}
	}
	return string(b)
}

func mergeSlashes(s string) string {
	if !strings.Contains(s, "//") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] != '/' || i == 0 || s[i-1] != '/' {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// resolveDots removes dot segments as RFC 3986 section 5.2.4 does. An empty
// segment is one that ".." takes away.
func resolveDots(s string) string {
	if !strings.Contains(s, "/.") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		end := len(s)
		if slash := strings.IndexByte(s[i+1:], '/'); slash >= 0 {
			end = i + 1 + slash
		}
		dots := 0
		if s[i] == '/' {
			dots = dotSegment(s[i+1 : end])
		}
		if dots == 2 {
			b = b[:max(0, bytes.LastIndexByte(b, '/'))]
		}
		switch {
		case dots == 0:
			b = append(b, s[i:end]...)
		case end == len(s):
			b = append(b, '/')
		}
		i = end
	}
	return string(b)
}

// resolveDotsClean leaves no slash where a last dot segment was.
func resolveDotsClean(s string) string {
	if dotSegment(s[strings.LastIndexByte(s, '/')+1:]) == 0 {
		return s
	}
	if s = resolveDots(s); len(s) > 1 {
		return strings.TrimSuffix(s, "/")
	}
	return s
}

// dropAuthority reads "//name/path" as parsers of URLs do.
func dropAuthority(s string) string {
	if !strings.HasPrefix(s, "//") {
		return s
	}
	if slash := strings.IndexByte(s[2:], '/'); slash >= 0 {
		return s[2+slash:]
	}
	return "/"
}

// dropQuery takes a decoded "?" or "#" for the real one.
func dropQuery(s string) string {
	if i := strings.IndexAny(s, "?#"); i > 0 {
		return s[:i]
	}
	return s
}
