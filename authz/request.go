package authz

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Limits on what a client may send. Envoy's default for all headers is 60 KiB.
const (
	maxMethod      = 32
	maxPath        = 8 << 10
	maxTarget      = 32 << 10
	maxHeaderLines = 256
	maxHeaderBytes = 60 << 10
	maxRequestID   = 64
	maxPeer        = 256
)

// Peer is what the proxy attests about the other end of the connection.
type Peer struct {
	Address   string // TCP peer as the proxy saw it, no port
	Principal string // SPIFFE id of its certificate, or empty
	Client    string // client address as the configuration says to find it; for logs, never for a decision
}

// Raw is a request as an edge received it, before it is trusted to mean anything.
type Raw struct {
	Method    string
	Authority string // :authority or Host
	Target    string // path with query, undecoded
	Header    Header
	Peer      Peer
	ID        string // x-request-id or the proxy's stream id; bounded and cleaned by NewRequest
}

// Request is a request in canonical form. It is immutable and safe for concurrent use.
type Request struct {
	Method   string
	Host     string // lower case, without port; policy and cookies bind to it
	Port     string // digits, or empty
	Path     string // raw text, begins with "/"; never decoded in place
	RawQuery string // without "?"
	Header   Header
	Caller   Caller
	Peer     Peer
	ID       string

	authority string // as it was sent, but in lower case
}

// PlainPath reports whether every upstream reads Path alike, as far as rules can
// tell. Of any other path only the place in the policy is known, under every reading.
func (r *Request) PlainPath() bool { return ordinary(r.Path) }

var (
	errMethod      = errors.New("method is not an upper-case word")
	errTarget      = errors.New("target is too long, has a fragment or is not printable ASCII")
	errPath        = errors.New("path does not begin with a slash or is too long")
	errEscape      = errors.New("path has a broken escape or one of a control character")
	errEscapeUTF8  = errors.New("escapes in path are not UTF-8")
	errHeaderLimit = errors.New("too many or too large headers")
	errHeaderName  = errors.New("header name is not a lower-case token")
	errBearer      = errors.New("more than one bearer credential")
)

// NewRequest brings raw into canonical form. An error means 400. The returned
// Request is never nil: with an error it holds only what is safe to log, and
// Caller, so that the refusal can suit it.
func NewRequest(raw Raw) (*Request, error) {
	r := &Request{Peer: cleanPeer(raw.Peer), ID: cleanID(raw.ID)}
	var errs [4]error
	errs[0] = checkHeader(raw.Header)
	if errs[0] == nil {
		r.Header = raw.Header
		r.Caller = callerOf(raw.Method, raw.Header)
	}
	if errs[1] = checkMethod(raw.Method); errs[1] == nil {
		r.Method = raw.Method
	}
	r.Host, r.Port, errs[2] = parseAuthority(raw.Authority)
	r.authority = strings.ToLower(raw.Authority)
	r.Path, r.RawQuery, errs[3] = splitTarget(raw.Target)
	for _, err := range errs {
		if err != nil {
			r.Header, r.RawQuery = nil, ""
			return r, err
		}
	}
	return r, nil
}

// checkMethod refuses lower case: some applications fold it, and so would run a
// "post" that a rule for POST has not seen.
func checkMethod(s string) error {
	if s == "" || len(s) > maxMethod {
		return errMethod
	}
	for i := range len(s) {
		if !tokenByte[s[i]] || 'a' <= s[i] && s[i] <= 'z' {
			return errMethod
		}
	}
	return nil
}

// splitTarget splits at the first "?" by hand: a parser of URLs would find
// authorities, fragments and user names in it.
func splitTarget(s string) (path, query string, err error) {
	if len(s) > maxTarget {
		return "", "", errTarget
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '#' {
			return "", "", errTarget
		}
	}
	path, query, _ = strings.Cut(s, "?")
	if err := checkPath(path); err != nil {
		return "", "", err
	}
	return path, query, nil
}

// checkPath expects printable ASCII.
func checkPath(s string) error {
	if s == "" || s[0] != '/' || len(s) > maxPath {
		return errPath
	}
	foreign := false
	for i := strings.IndexByte(s, '%'); i >= 0 && i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		c, ok := escapeAt(s, i)
		if !ok || c < ' ' || c == 0x7f {
			return errEscape
		}
		foreign = foreign || c >= utf8.RuneSelf
	}
	if foreign && !utf8.ValidString(unescape(s, anyByte)) {
		return errEscapeUTF8
	}
	return nil
}

func checkHeader(h Header) error {
	if len(h) > maxHeaderLines {
		return errHeaderLimit
	}
	size := 0
	for i := range h {
		name := h[i].Name
		size += len(name) + len(h[i].Value)
		if size > maxHeaderBytes {
			return errHeaderLimit
		}
		if !lowerToken(name) {
			return errHeaderName
		}
	}
	if severalBearers(h) {
		return errBearer
	}
	return nil
}

func lowerToken(s string) bool {
	for i := range len(s) {
		if !fieldNameByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// severalBearers reports whether a bearer credential came twice. Envoy joins
// Authorization lines with a comma, which no token contains (RFC 6750 section 2.1).
func severalBearers(h Header) bool {
	lines, bearers := 0, 0
	for i := range h {
		if h[i].Name != "authorization" {
			continue
		}
		lines++
		if _, ok := bearerToken(h[i].Value); ok {
			bearers++
			if strings.IndexByte(h[i].Value, ',') >= 0 {
				return true
			}
		}
	}
	return bearers > 0 && lines > 1
}

func cleanID(s string) string {
	ok := func(c byte) bool { return isAlnum(c) || c == '-' || c == '_' || c == '.' }
	s = cut(s, maxRequestID)
	for i := range len(s) {
		if !ok(s[i]) {
			b := make([]byte, 0, len(s))
			for j := range len(s) {
				if ok(s[j]) {
					b = append(b, s[j])
				}
			}
			return string(b)
		}
	}
	return s
}

func cleanPeer(p Peer) Peer {
	return Peer{Address: cut(p.Address, maxPeer), Principal: principal(p.Principal), Client: cut(p.Client, maxPeer)}
}

// principal drops what is too long to compare rather than cut it into another name.
func principal(s string) string {
	if len(s) > 2<<10 {
		return ""
	}
	return s
}
