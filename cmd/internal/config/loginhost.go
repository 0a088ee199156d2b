package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// LoginHost is the host that signs in for all others, with every provider that a rule
// signs in with; nil without login_url.
func (c *Config) LoginHost() *Host { return c.loginHost }

// Passage is where Check lets browsers through to our own pages on the login host.
func (c *Config) Passage() authz.Passage {
	if c.loginHost == nil {
		return authz.Passage{}
	}
	scheme, authority, _ := strings.Cut(c.loginHost.Origin, "://")
	authority = strings.TrimSuffix(authority, map[string]string{"https": ":443", "http": ":80"}[scheme])
	return authz.Passage{Authority: authority, Prefix: c.Prefix}
}

// loginURL checks login_url. The rest of what belongs to it needs the rules.
func (ck *checker) loginURL() {
	url := ck.config.LoginURL
	if url == "" {
		return
	}
	name, origin, problem, hint := parseHost(url)
	switch {
	case !strings.Contains(url, "://") || strings.Count(url, "/") > 2 || strings.ContainsAny(url, "?#"):
		ck.wrong("login_url", "not an origin: no path, no query", quote(url), "write for example https://auth.example.com")
	case strings.Contains(url, "*"):
		ck.wrong("login_url", "a wildcard is not one host", quote(url), "write for example https://auth.example.com")
	case problem != "":
		ck.wrong("login_url", problem, quote(url), hint)
	default:
		ck.config.loginHost = &Host{Name: name, Origin: origin}
	}
	if ck.config.Listen.HTTP == nil {
		ck.wrong("listen.http", "missing: with login_url the pages of the login host are served there", "", `write http: {address: ":8080"}, and route `+ck.config.Prefix+" of the login host to it")
	}
}

// sessionHosts adds the hosts below wildcards that people sign in on.
func (ck *checker) sessionHosts() {
	covered := map[string]bool{}
	for i, entry := range ck.config.Sessions.Hosts {
		k := index("sessions.hosts", i)
		name, origin, problem, hint := parseHost(entry)
		switch {
		case problem != "":
			ck.wrong(k, problem, quote(entry), hint)
			continue
		case strings.HasPrefix(name, "*."):
			ck.wrong(k, "a wildcard: a dangling name below it could fetch somebody's session", quote(entry), "list each host that people sign in on")
			continue
		case ck.config.LoginURL == "":
			ck.wrong(k, "only with login_url: without it every host signs in by itself", quote(entry), "add login_url, or leave it out")
			continue
		}
		pattern := ck.config.wildcardOf(name)
		logins := ck.config.loginsOf(pattern)
		switch at := ck.config.ruleOf(name); {
		case at != "":
			ck.wrong(k, "named by "+at+" already: rules of a wildcard host do not apply to it", quote(entry), "leave it out here")
		case len(logins) == 0:
			ck.wrong(k, "no rule with a login covers this host", quote(entry), "leave it out, or write a rule with a login for a wildcard host above it")
		case slices.ContainsFunc(ck.config.hosts, func(h Host) bool { return h.Name == name }):
			ck.wrong(k, "the same host twice", quote(entry), "keep one of them")
		default:
			covered[pattern] = true
			ck.config.addLogin(name, origin, logins)
		}
	}
	ck.wildcards(covered)
}

// wildcards refuses a login on wildcard hosts where nobody could sign in.
func (ck *checker) wildcards(covered map[string]bool) {
	for i, r := range ck.config.Rules {
		for j, entry := range r.Hosts {
			k := index(index("rules", i)+".hosts", j)
			switch {
			case len(r.Login) == 0 || !strings.HasPrefix(entry, "*.") || covered[entry]:
			case ck.config.LoginURL == "":
				ck.wrong(k, "a wildcard host with a login needs login_url: it has no redirect address of its own", quote(entry), "add login_url and list its hosts in sessions.hosts, or name each host here")
			case !ck.foundWrong("sessions.hosts"):
				ck.wrong(k, "nobody could sign in: sessions.hosts lists no host that this wildcard covers", quote(entry), "list there each host that people sign in on")
			}
		}
	}
}

// loginProviders gives the login host what all others sign in with.
func (ck *checker) loginProviders() {
	h := ck.config.loginHost
	if h == nil {
		return
	}
	for _, app := range ck.config.hosts {
		for _, p := range app.Providers {
			if !slices.Contains(h.Providers, p) {
				h.Providers = append(h.Providers, p)
			}
		}
	}
	if !ck.config.hasLogin() {
		ck.wrong("login_url", "no rule has a login", quote(ck.config.LoginURL), "leave it out, or add login to a rule")
	}
}

// wildcardOf returns the wildcard host of the rules that judge name, as authz finds it:
// the longest. Empty: there is none.
func (c *Config) wildcardOf(name string) string {
	for rest := name; ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			return ""
		}
		if slices.ContainsFunc(c.Rules, func(r Rule) bool { return slices.Contains(r.Hosts, "*."+parent) }) {
			return "*." + parent
		}
		rest = parent
	}
}

// loginsOf are the providers of the rules of a wildcard host, in their order.
func (c *Config) loginsOf(pattern string) []string {
	var all []string
	for _, r := range c.Rules {
		if pattern != "" && slices.Contains(r.Hosts, pattern) {
			all = append(all, r.Login...)
		}
	}
	return all
}

// ruleOf says which rule names a host exactly, or login_url if it does.
func (c *Config) ruleOf(name string) string {
	if c.loginHost != nil && c.loginHost.Name == name {
		return "login_url"
	}
	for i, r := range c.Rules {
		if slices.ContainsFunc(r.Hosts, func(entry string) bool { host, _, _, _ := parseHost(entry); return host == name }) {
			return fmt.Sprintf("rules[%d]", i)
		}
	}
	return ""
}
