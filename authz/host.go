package authz

import (
	"errors"
	"net/netip"
	"strings"
)

const maxHost = 253 // RFC 1035 section 2.3.4

var errHost = errors.New("host is not one clean host[:port]")

// parseAuthority splits host[:port] into its canonical parts: lower case, no
// trailing dot. Envoy hands on whatever a client wrote (two Host lines as "a,b",
// userinfo, nothing at all), so only clean text is taken.
func parseAuthority(s string) (host, port string, err error) {
	if len(s) > maxHost+len(".:65535") {
		return "", "", errHost
	}
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if !cleanPort(port) {
			return "", "", errHost
		}
	}
	host, err = canonicalHost(host)
	if err != nil {
		return "", "", err
	}
	return host, port, nil
}

// canonicalHost folds case and one trailing dot. An IPv6 literal keeps its brackets.
func canonicalHost(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return canonicalIPv6(s)
	}
	s = strings.TrimSuffix(s, ".")
	if !cleanName(s) {
		return "", errHost
	}
	return lowerASCII(s), nil
}

func canonicalIPv6(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", errHost
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", errHost
	}
	return "[" + addr.String() + "]", nil
}

// cleanName reports whether s is a name of letters, digits, "-" and "_" in
// labels of 1 to 63 bytes that neither begin nor end with "-".
func cleanName(s string) bool {
	if s == "" || len(s) > maxHost {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return false
			}
			label = 0
			continue
		case c == '-':
			if label == 0 {
				return false
			}
		case !isAlnum(c) && c != '_':
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0 && s[len(s)-1] != '-'
}

func cleanPort(s string) bool {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return false
	}
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n <= 65535
}
