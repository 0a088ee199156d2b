package authz

import (
	"slices"
	"strings"
)

// CookiePrefix begins the name of every cookie that Gatehouse sets. All of them
// are cut from what the application receives.
const CookiePrefix = "__Host-gh_"

// Cookies returns the values of every cookie called name, in order of
// appearance, at most max. Pairs are separated by ";" only; names are compared
// exactly; a malformed pair spoils nothing but itself.
func (h Header) Cookies(name string, max int) []string {
	if max < 1 {
		return nil
	}
	var values []string
	h.eachCookie(func(n, v string) bool {
		if n == name {
			values = append(values, v)
		}
		return len(values) < max
	})
	return values
}

// CookieNames returns the distinct names beginning with prefix, at most max.
func (h Header) CookieNames(prefix string, max int) []string {
	if max < 1 {
		return nil
	}
	var names []string
	h.eachCookie(func(n, _ string) bool {
		if strings.HasPrefix(n, prefix) && !slices.Contains(names, n) {
			names = append(names, n)
		}
		return len(names) < max
	})
	return names
}

func (h Header) eachCookie(yield func(name, value string) bool) {
	for i := range h {
		if h[i].Name != "cookie" {
			continue
		}
		for rest, more := h[i].Value, true; more; {
			var pair string
			pair, rest, more = strings.Cut(rest, ";")
			name, value, ok := strings.Cut(trimOWS(pair), "=")
			if ok && !yield(name, value) {
				return
			}
		}
	}
}

// ForeignCookies returns the cookie lines as one value without ours, for a proxy that can
// only replace them: what an application may receive. Empty: there is none.
func (h Header) ForeignCookies() string {
	rest, _ := h.keepForeign()
	return rest
}

// cutCookies returns the cookie lines as one value without ours, and whether
// anything was cut. Where nothing was, the header should be left alone.
//
// Two Cookie lines of an HTTP/1 client reach us joined with a comma, so a comma
// separates here, though never in Cookies: what is cut too much is a cookie
// that pretended to be ours. Other cookies are kept byte for byte, except that
// one which cannot be written into an answer at all goes, too.
func (h Header) cutCookies() (rest string, cut bool) {
	for i := range h {
		if h[i].Name == "cookie" && strings.Contains(h[i].Value, CookiePrefix) {
			return h.keepForeign()
		}
	}
	return "", false
}

func (h Header) keepForeign() (rest string, cut bool) {
	var b strings.Builder
	for i := range h {
		if h[i].Name != "cookie" {
			continue
		}
		gap := "; " // between lines
		for s := h[i].Value; ; {
			end := strings.IndexAny(s, ";,")
			pair := s
			if end >= 0 {
				pair = s[:end]
			}
			switch {
			case strings.HasPrefix(trimOWS(pair), CookiePrefix):
				cut = true
			case trimOWS(pair) == "" || !validValue(pair):
			case b.Len() == 0:
				b.WriteString(strings.TrimLeft(pair, " \t"))
				gap = ""
			default:
				b.WriteString(gap)
				b.WriteString(pair)
				gap = ""
			}
			if end < 0 {
				break
			}
			if gap == "" || gap == "," { // a ";" anywhere in a gap outlives what was cut from it
				gap = s[end : end+1]
			}
			s = s[end+1:]
		}
	}
	return b.String(), cut
}
