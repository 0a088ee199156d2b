package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// checker finds what is wrong with a file that reads well.
type checker struct {
	config   *Config
	mistakes Mistakes
	refused  map[string]bool // keys with a mistake already: one is enough
}

func (ck *checker) all() {
	if ck.refused[""] {
		return
	}
	ck.listen()
	ck.prefix()
	ck.loginURL()
	ck.providers()
	ck.sessions()
	ck.rules()
	ck.tracing()
	ck.probe()
	if ck.config.CheckTimeout > 20*time.Second {
		ck.wrong("check_timeout", "longer than any proxy waits", ck.config.CheckTimeout.String(), "make it at most 20s, and shorter than the timeout of ext_authz in Envoy")
	}
}

// wrong notes a mistake at key, unless reading it or what holds it failed before.
func (ck *checker) wrong(key, problem, found, hint string) {
	if ck.foundWrongAbove(key) {
		return
	}
	ck.refused[key] = true
	ck.mistakes = append(ck.mistakes, ck.config.Mistake(key, problem, found, hint))
}

// foundWrongAbove reports whether key or what holds it has a mistake already.
func (ck *checker) foundWrongAbove(key string) bool {
	for ; key != ""; key = parent(key) {
		if ck.refused[key] {
			return true
		}
	}
	return ck.refused[""]
}

// Mistake makes a mistake at key, or at the nearest thing around it that stands in the file.
func (c *Config) Mistake(key, problem, found, hint string) Mistake {
	m := Mistake{File: c.file, Key: key, Problem: problem, Found: found, Hint: hint}
	for k := key; ; k = parent(k) {
		if p, ok := c.place[k]; ok {
			m.Line, m.Column = p.Line, p.Column
			return m
		}
		if k == "" {
			return m
		}
	}
}

func parent(key string) string {
	return key[:max(strings.LastIndexAny(key, ".["), 0)]
}

var prefixPattern = regexp.MustCompile(`^(/[A-Za-z0-9_-]+)+$`)

func (ck *checker) prefix() {
	if !prefixPattern.MatchString(ck.config.Prefix) {
		ck.wrong("prefix", "not a plain path", quote(ck.config.Prefix), "write for example /oauth2")
	}
}

var providerPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// maxSkew is how far clocks that somebody looks after can be apart.
const maxSkew = 5 * time.Minute

func (ck *checker) providers() {
	seen := map[string]string{}
	for i := range ck.config.Providers {
		p, key := &ck.config.Providers[i], index("providers", i)
		switch {
		case !providerPattern.MatchString(p.Name):
			ck.wrong(key+".name", "not a name for a provider", quote(p.Name), `write a letter, then letters, digits or "-", all lower case, at most 32`)
		case p.Name == "p":
			ck.wrong(key+".name", `"p" is taken: it names the cookies of logins that are under way`, "", "choose another name")
		case seen[p.Name] != "":
			ck.wrong(key+".name", "the same name as "+seen[p.Name], quote(p.Name), "give each provider its own name")
		}
		seen[p.Name] = key
		if p.Skew > maxSkew {
			ck.wrong(key+".skew", "tokens would be accepted that long after they expired", quote(p.Skew.String()), "at most 5m; set the clocks instead")
		}
		ck.issuer(key+".issuer", p.Issuer)
		ck.client(key+".client", p.Client)
		ck.bearer(key+".bearer", p)
		if p.Client == nil && p.Bearer == nil {
			ck.wrong(key, "neither client nor bearer: nobody could be recognised", "", "add client (browsers sign in) or bearer (tokens are accepted)")
		}
		if p.Client == nil {
			ck.needsClient(key, p)
		}
	}
}

func (ck *checker) issuer(key, issuer string) {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "":
		ck.wrong(key, "not an https URL", quote(issuer), "copy the issuer from the provider's /.well-known/openid-configuration")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		ck.wrong(key, "an issuer has no user, query or fragment", quote(issuer), "copy the issuer from the provider's /.well-known/openid-configuration")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		ck.wrong(key, "http outside this machine: anybody on the way could forge sign-ins", quote(issuer), "use https; http is for localhost and 127.0.0.1")
	}
}

// loopback reports whether a name or address can only be this machine.
func loopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return loopbackName(host)
}

func loopbackName(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func (ck *checker) client(key string, c *Client) {
	switch {
	case c == nil:
	case c.AuthMethod == "none" && c.SecretFile != "":
		ck.wrong(key+".secret_file", "a public client has no secret", "", "leave out secret_file, or auth_method: none")
	case c.AuthMethod != "none" && c.SecretFile == "":
		ck.wrong(key+".secret_file", "missing", "", "name the file with the client secret, or write auth_method: none for a public client")
	}
}

func (ck *checker) needsClient(key string, p *Provider) {
	if p.Userinfo {
		ck.wrong(key+".userinfo", "only a provider with a client has it", "", "leave it out")
	}
	if p.AuthorizationParams != nil {
		ck.wrong(key+".authorization_params", "only a provider with a client has it", "", "leave it out")
	}
}

func (ck *checker) sessions() {
	s := ck.config.Sessions
	if s.IdleTimeout > s.AbsoluteTimeout {
		ck.wrong("sessions.idle_timeout", "longer than absolute_timeout", s.IdleTimeout.String(), "make it at most "+s.AbsoluteTimeout.String())
	}
	if s.AbsoluteTimeout > 0 && s.AbsoluteTimeout < time.Minute {
		ck.wrong("sessions.absolute_timeout", "too short to work with", s.AbsoluteTimeout.String(), "make it at least 1m")
	}
	if s.NotBefore.After(time.Now()) {
		ck.wrong("sessions.not_before", "in the future: nobody could stay signed in until then", s.NotBefore.Format(time.RFC3339), "write the moment before which sign-ins no longer count, at most now")
	}
	switch {
	case s.Store == nil:
		if ck.config.hasLogin() {
			ck.wrong("sessions.store", "missing: a rule has a login, and no store is chosen", "", "write store: {redis: {addresses: [redis:6379]}}, or store: {memory: {}} for a single process")
		}
	case s.Store.Memory == nil && s.Store.Redis == nil:
		ck.wrong("sessions.store", "no store is chosen", "", "write redis: {addresses: [redis:6379]} or memory: {}")
	case s.Store.Memory != nil && s.Store.Redis != nil:
		ck.wrong("sessions.store", "two stores are chosen", "", "keep one of memory and redis")
	case s.Store.Redis != nil:
		ck.redis("sessions.store.redis", s.Store.Redis)
	}
}

func (c *Config) hasLogin() bool {
	return slices.ContainsFunc(c.Rules, func(r Rule) bool { return len(r.Login) > 0 })
}

func (ck *checker) tracing() {
	t := ck.config.Tracing
	if t == nil {
		return
	}
	u, err := url.Parse(t.OTLPEndpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		ck.wrong("tracing.otlp_endpoint", "not the address of a collector", quote(t.OTLPEndpoint), "write for example http://otel-collector:4317")
	}
}

func (ck *checker) probe() {
	p := ck.config.Probe
	if p == nil {
		return
	}
	if p.Interval < time.Second {
		ck.wrong("probe.interval", "every host would be asked all the time", p.Interval.String(), "make it at least 1s")
	}
	for from, to := range p.Connect {
		ck.address("probe.connect."+clip(from), from)
		ck.address("probe.connect."+clip(from), to)
	}
}

func index(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }
