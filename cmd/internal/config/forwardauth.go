package config

import (
	"net/netip"
	"strings"
)

func (ck *checker) forwardAuth(key string, f *ForwardAuth) {
	ck.address(key+".address", f.Address)
	ck.tls(key+".tls", f.TLS)
	if len(f.TrustedProxies) == 0 {
		ck.wrong(key+".trusted_proxies", "missing: nobody may ask, so that every request would be refused", "", "name the networks of the proxies, for example [10.0.0.0/8]")
	}
	for i, entry := range f.TrustedProxies {
		if _, problem, hint := parseNetwork(entry); problem != "" {
			ck.wrong(index(key+".trusted_proxies", i), problem, quote(entry), hint)
		}
	}
	if strings.HasSuffix(f.Profile, "nginx") && ck.config.Listen.HTTP == nil && ck.config.hasLogin() {
		ck.wrong(key+".profile", "nobody could sign in: nginx passes no page or cookie of ours on, and there is no listen.http", quote(f.Profile), "add listen.http and route the prefix of every host with a login to it")
	}
}

// parseNetwork takes 10.0.0.0/8, or one address for the network of it alone.
func parseNetwork(s string) (p netip.Prefix, problem, hint string) {
	const example = "write for example 10.0.0.0/8, or the address of one proxy"
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		p = netip.PrefixFrom(a, a.BitLen())
	} else if p, err = netip.ParsePrefix(s); err != nil {
		return p, "not a network", example
	}
	switch {
	case p.Addr().Is4In6():
		return p, "an IPv4 network in the form of IPv6", example
	case p != p.Masked():
		return p, "an address within a network", "write " + p.Masked().String() + ", or the address alone"
	}
	return p, "", ""
}

// Trusted are the networks of TrustedProxies.
func (f *ForwardAuth) Trusted() []netip.Prefix {
	var all []netip.Prefix
	for _, entry := range f.TrustedProxies {
		p, _, _ := parseNetwork(entry) // was checked
		all = append(all, p)
	}
	return all
}

// Proven reports whether who connects has shown a certificate.
func (f *ForwardAuth) Proven() bool { return f.TLS != nil && f.TLS.ClientCAFile != "" }

// forwardWarnings are choices of listeners that work and are dangerous all the same.
func (c *Config) forwardWarnings() (ms Mistakes) {
	tokens := (&checker{config: c}).forwards()
	for i := range c.Listen.ForwardAuth {
		f, key := &c.Listen.ForwardAuth[i], index("listen.forward_auth", i)
		for j, p := range f.Trusted() {
			if p.Bits() == 0 {
				ms = append(ms, c.Mistake(index(key+".trusted_proxies", j), "every address may ask about any request", f.TrustedProxies[j], "name the networks of the proxies"))
			}
		}
		if f.SecretFile != "" && f.TLS == nil {
			ms = append(ms, c.Mistake(key+".secret_file", "the secret crosses the network unencrypted, and with it tokens", "", "add tls, unless the mesh encrypts"))
		}
		if tokens && f.SecretFile == "" && !f.Proven() {
			ms = append(ms, c.Mistake(key, "a rule forwards tokens, and this listener leaves them out: its proxies do not prove who they are", "", "add client_ca_file to tls, or secret_file"))
		}
	}
	return ms
}
