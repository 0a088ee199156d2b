package login

import "strings"

// maxAddress bounds a return address, since it travels inside state.
const maxAddress = 512

// returnAddress returns s when a browser that is redirected to it stays on the
// host and reaches the application, and "/" otherwise. Only a path with an
// optional query is accepted. prefix is where our own endpoints are: returning
// there would loop, or sign the user out.
func returnAddress(s, prefix string) string {
	if !localAddress(s) || ownPath(s, prefix) {
		return "/"
	}
	return s
}

// localAddress reports whether s is a relative address that no browser and no
// server behind us reads as another host, however often it decodes the path.
// Dot segments and empty segments are refused for that: "/..//e" is harmless as
// it stands, until somebody cleans it.
func localAddress(s string) bool {
	if s == "" || len(s) > maxAddress || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' || s[i] == '#' {
			return false
		}
	}
	path, _, _ := strings.Cut(s, "?")
	for range 4 { // readings: as it is, decoded once, twice, three times
		if !cleanPath(path) {
			return false
		}
		next := decodeLoosely(path)
		if next == path {
			return true
		}
		path = next
	}
	return false
}

// cleanPath reports whether a path has no empty, "." or ".." segment and no
// control character, with "\" taken as "/" and ";parameters" left out. The last
// segment may be empty.
func cleanPath(path string) bool {
	for i := range len(path) {
		if path[i] < ' ' || path[i] == 0x7f {
			return false
		}
	}
	segments := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")[1:]
	for i, segment := range segments {
		name, _, _ := strings.Cut(segment, ";")
		last := i == len(segments)-1
		if name == "." || name == ".." || name == "" && (segment != "" || !last) {
			return false
		}
	}
	return true
}

// ownPath reports whether s lies at or below prefix under some reading.
func ownPath(s, prefix string) bool {
	path, _, _ := strings.Cut(s, "?")
	for range 4 {
		path, _, _ = strings.Cut(path, ";")
		rest, ok := strings.CutPrefix(path, prefix)
		if ok && (rest == "" || isSlash(rest[0])) {
			return true
		}
		path = decodeLoosely(path)
	}
	return false
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// decodeLoosely decodes every valid %XX and leaves the rest alone.
func decodeLoosely(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}
