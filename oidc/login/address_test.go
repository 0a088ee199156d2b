package login

import (
	"strings"
	"testing"
)

func TestReturnAddress(t *testing.T) {
	t.Parallel()
	keep := []string{
		"/", "/a", "/a/", "/a/b?c=d&e=%2F%2Fevil", "/group%2Fproject", "/100%25", "/a;v=1/b", "/?q=//evil.test", "/oauth2x", "/x/oauth2/start",
		"/%E2%98%83", "/a:b@c", "/a?x=%0d%0a", strings.Repeat("/a", 256),
	}
	for _, s := range keep {
		if got := returnAddress(s, "/oauth2"); got != s {
			t.Errorf("returnAddress(%q) = %q, want it kept", s, got)
		}
	}
	refuse := []string{
		// O1: slashes, however encoded
		"", "a", "//e", `/\e`, "/%09/e", "/%5ce", "/%5Ce", "/%2fe", "/%2Fe", "///e", "/.//e", "/..//e", `\/e`, "/\t/e", "/\n/e", "\t//e", " //e", "/%252fe", "/%25252fe", "/%255ce",
		"/a//e", "/a/../e", "/%2e%2e/e", "/.%2e/e", "/..;/e", "/;/e", "/%2e//e", "/a/..", "/a/.", "/%2525252fe",
		// O2, O3: other hosts and schemes
		"https://evil.test", "https://app.test", "https:evil", "https:/evil", "HTTPS://evil", " https://evil", "javascript:alert(1)", "data:text/html,x", "//app.test@evil.test", "//app.test:443@evil",
		// O4: not ASCII
		"https://evil。test", "/\u2028", "/\u200b/evil", "/ｅ", "/\xff",
		// O5: header injection
		"/x\r\nSet-Cookie: a=b", "/x%0d%0aSet-Cookie:%20a=b", "/x\x00", "/x%00", "/x\x7f", "/x%7f", "/x y", "/x#y",
		// O6: our own endpoints
		"/oauth2", "/oauth2/", "/oauth2/sign_out", "/oauth2/callback?code=x&state=y", "/oauth2/start?rd=/", "/oauth2%2fsign_out", "/%6fauth2/sign_out", "/%256fauth2/sign_out", "/oauth2;x/sign_out", "/oauth2?x",
		strings.Repeat("/a", 257),
	}
	for _, s := range refuse {
		if got := returnAddress(s, "/oauth2"); got != "/" {
			t.Errorf("returnAddress(%q) = %q, want /", s, got)
		}
	}
}

// FuzzRedirectTarget: an accepted address keeps a browser on the host, stays on
// it after any number of decodings, and never reaches our own endpoints.
func FuzzRedirectTarget(f *testing.F) {
	for _, s := range []string{"/a?b", "//e", `/\e`, "/%2fe", "/.//e", "/a/..//e", "/%5c%5ce", "https:/e", "/%252fe", "/oauth2/start", "/%6fauth2/", "/\t/e", "/;/e", "/a#//e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := returnAddress(s, "/oauth2")
		if got != s && got != "/" {
			t.Fatalf("returnAddress(%q) = %q, neither kept nor /", s, got)
		}
		if again := returnAddress(got, "/oauth2"); again != got {
			t.Fatalf("returnAddress is not idempotent: %q, then %q", got, again)
		}
		if strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q could split a header", got)
		}
		reading := got
		for range 3 {
			if browserLeaves(reading) {
				t.Fatalf("%q leaves the host when read as %q", got, reading)
			}
			if path := resolve(reading); path == "/oauth2" || strings.HasPrefix(path, "/oauth2/") {
				t.Fatalf("%q returns to our endpoint %q", got, path)
			}
			path, query, _ := strings.Cut(reading, "?")
			reading = decodeLoosely(path) + "?" + query
		}
	})
}

// browserLeaves follows the WHATWG URL parser as far as it matters: a reference
// against https://app.test/oauth2/callback leaves the host when it has a scheme
// or begins with two slashes of either kind, after the parser has dropped
// surrounding spaces and every tab and newline.
func browserLeaves(ref string) bool {
	ref = strings.TrimFunc(ref, func(c rune) bool { return c <= ' ' })
	ref = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(ref)
	if len(ref) > 1 && isSlash(ref[0]) && isSlash(ref[1]) {
		return true
	}
	for i := range len(ref) {
		switch c := ref[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return true
		default:
			return strings.HasPrefix(resolve(ref), "//")
		}
	}
	return false
}

// resolve removes dot segments as the WHATWG URL parser does, "%2e" included.
func resolve(ref string) string {
	path, _, _ := strings.Cut(strings.ReplaceAll(ref, `\`, "/"), "?")
	var out []string
	for i, segment := range strings.Split(path, "/") {
		switch strings.NewReplacer("%2e", ".", "%2E", ".").Replace(segment) {
		case ".":
		case "..":
			out = out[:max(1, len(out)-1)]
		default:
			if i > 0 || segment == "" {
				out = append(out, segment)
			}
		}
	}
	return strings.Join(out, "/")
}
