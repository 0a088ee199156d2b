package config

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Host is an application host on which browsers sign in.
type Host struct {
	Name      string   // as rules match it: lower case, no port
	Origin    string   // as browsers see it: https://app.example.com, http://app.localhost:10000
	Providers []string // whose logins its rules use, in the order of the rules
}

// LoginHosts are the hosts of rules with a login, in the order of the file.
func (c *Config) LoginHosts() []Host { return c.hosts }

// Origins are the origins of a rule's exact hosts, as browsers see them.
func (r *Rule) Origins() []string {
	var origins []string
	for _, entry := range r.Hosts {
		if name, origin, problem, _ := parseHost(entry); problem == "" && !strings.HasPrefix(name, "*.") {
			origins = append(origins, origin)
		}
	}
	return origins
}

// parseHost takes an entry of a rule's hosts apart. The problem is empty when it is good.
func parseHost(entry string) (name, origin, problem, hint string) {
	scheme, rest, isOrigin := strings.Cut(entry, "://")
	if !isOrigin {
		scheme, rest = "https", entry
	}
	name, port := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		name, port = rest[:i], rest[i+1:]
	}
	switch {
	case scheme != "https" && scheme != "http":
		return "", "", "not a host", "write app.example.com, or an origin such as https://app.example.com:8443"
	case port != "" && !isOrigin:
		return "", "", "a host with a port", "write it as an origin: https://" + clip(rest)
	case lower(name) != name:
		return "", "", "upper case in a host", "write " + clip(lower(name))
	case !validHost(name):
		return "", "", "not a host name", "write app.example.com, *.example.com, or an origin such as https://app.example.com:8443"
	case port != "" && !validPort(port):
		return "", "", "not a port", "write a number from 1 to 65535"
	case isOrigin && strings.HasPrefix(name, "*."):
		return "", "", "a wildcard host has no single origin", "write " + clip(name)
	case scheme == "http" && !loopbackName(name) && name != "127.0.0.1":
		return "", "", "http outside this machine: browsers refuse its cookies and anybody on the way could read them", "use https; http is for localhost, *.localhost and 127.0.0.1"
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		port = ""
	}
	if port != "" {
		port = ":" + port
	}
	return name, scheme + "://" + name + port, "", ""
}

var hostPattern = regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

func validHost(name string) bool {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && ip.Is6() && ip.Zone() == "" && name == "["+ip.String()+"]"
	}
	return len(name) <= 253 && hostPattern.MatchString(name)
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// lower folds ASCII only: nothing else belongs into a name.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
