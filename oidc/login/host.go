package login

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// Host is a host on which browsers sign in.
type Host struct {
	Name      string   // as in authz.Request.Host
	Origin    string   // https://app.example.com, or http://app.localhost:10000
	Providers []string // names of providers that its rules use, in order
}

// site is a host with its providers.
type site struct {
	Host
	gates     []*gate
	handsOver bool // the login host signs in for this one
}

// gate is one provider on one host.
type gate struct {
	provider    *oidc.Provider
	host        string
	key         string // names provider, issuer and client in what a browser carries while it signs in
	redirectURI string
	cookie      string // name of the session cookie
	bind        string // what the session cookie is bound to
	challenge   string // WWW-Authenticate
	start       string // address that starts a login, up to and with "rd="
}

func (l *Login) addHosts() error {
	providers, err := byName(l.cfg.Providers)
	if err != nil {
		return err
	}
	for _, h := range l.cfg.Hosts {
		if err := l.addHost(h, providers, l.cfg.LoginHost != nil); err != nil {
			return err
		}
	}
	if l.cfg.LoginHost == nil {
		return nil
	}
	if err := l.addHost(*l.cfg.LoginHost, providers, false); err != nil {
		return err
	}
	l.loginSite = l.hosts[l.cfg.LoginHost.Name]
	return l.checkLoginHost()
}

// checkLoginHost: the login host signs in for the others, so it needs all their providers.
func (l *Login) checkLoginHost() error {
	for _, h := range l.cfg.Hosts {
		for _, g := range l.hosts[h.Name].gates {
			if l.loginSite.gateOf(g.key) == nil {
				return fmt.Errorf("login: host %q signs in with provider %q, which the login host lacks", h.Name, g.provider.Name())
			}
		}
	}
	return nil
}

func byName(all []*oidc.Provider) (map[string]*oidc.Provider, error) {
	providers := make(map[string]*oidc.Provider)
	for _, p := range all {
		if !validProvider(p.Name()) {
			return nil, fmt.Errorf("login: provider name %q is not a lower-case name of up to 32 letters, digits and dashes, or is \"p\"", p.Name())
		}
		if p.ClientID() == "" {
			return nil, fmt.Errorf("login: provider %q has no client, so nobody can sign in with it", p.Name())
		}
		providers[p.Name()] = p
	}
	return providers, nil
}

func (l *Login) addHost(h Host, providers map[string]*oidc.Provider, handsOver bool) error {
	if err := checkOrigin(h); err != nil {
		return err
	}
	if l.hosts[h.Name] != nil {
		return fmt.Errorf("login: host %q is given twice", h.Name)
	}
	s := &site{Host: h, handsOver: handsOver}
	for _, name := range h.Providers {
		p := providers[name]
		if p == nil {
			return fmt.Errorf("login: host %q names provider %q, which is not there", h.Name, name)
		}
		s.gates = append(s.gates, l.gate(h, p))
	}
	if len(s.gates) == 0 {
		return fmt.Errorf("login: host %q has no provider", h.Name)
	}
	l.hosts[h.Name] = s
	return nil
}

func (l *Login) gate(h Host, p *oidc.Provider) *gate {
	cookie := authz.CookiePrefix + p.Name()
	start := l.Address("start")
	query := "?rd="
	if len(h.Providers) > 1 {
		query = "?provider=" + p.Name() + "&rd="
	}
	key := sha256.Sum256(pack("gate", p.Name(), p.Issuer(), p.ClientID()))
	return &gate{
		provider:    p,
		host:        h.Name,
		key:         string(key[:16]),
		redirectURI: h.Origin + l.Address("callback"),
		cookie:      cookie,
		bind:        string(pack(h.Name, cookie, p.Issuer(), p.ClientID())),
		challenge:   fmt.Sprintf("Cookie form-action=%q, cookie-name=%q", start, cookie),
		start:       start + query,
	}
}

// gate finds a provider of a host by its name.
func (s *site) gate(provider string) *gate {
	for _, g := range s.gates {
		if g.provider.Name() == provider {
			return g
		}
	}
	return nil
}

// gateOf finds a provider of a host by the key of a gate, here or on another host. A
// provider whose issuer or client was changed meanwhile has another key.
func (s *site) gateOf(key string) *gate {
	for _, g := range s.gates {
		if g.key == key {
			return g
		}
	}
	return nil
}

// choose finds the providers with the given names, separated by commas; all of the
// host for none. nil when one of them is not there.
func (s *site) choose(names string) []*gate {
	if names == "" {
		return s.gates
	}
	var chosen []*gate
	seen := make(map[*gate]bool)
	for name := range strings.SplitSeq(names, ",") {
		g := s.gate(name)
		if g == nil {
			return nil
		}
		if !seen[g] {
			chosen = append(chosen, g)
		}
		seen[g] = true
	}
	return chosen
}

func validPrefix(prefix string) bool {
	return len(prefix) > 1 && prefix[len(prefix)-1] != '/' && localAddress(prefix) && !strings.ContainsAny(prefix, `?%;"`)
}

func validProvider(name string) bool {
	for i := range len(name) {
		c := name[i]
		if letter := 'a' <= c && c <= 'z'; !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 32 && name != "p"
}

// checkOrigin wants scheme://name[:port], with http on loopback names only: elsewhere
// a browser drops our cookies, and the code would travel in the clear.
func checkOrigin(h Host) error {
	scheme, rest, _ := strings.Cut(h.Origin, "://")
	port, ok := strings.CutPrefix(rest, h.Name)
	loopback := h.Name == "localhost" || h.Name == "127.0.0.1" || strings.HasSuffix(h.Name, ".localhost")
	switch {
	case h.Name == "" || !ok || port != "" && !validPort(port):
		return fmt.Errorf("login: origin %q is not https://%s with at most a port behind it", h.Origin, h.Name)
	case scheme == "https", scheme == "http" && loopback:
		return nil
	default:
		return fmt.Errorf("login: origin %q must begin with https:// (http is for loopback names only)", h.Origin)
	}
}

func validPort(s string) bool {
	if len(s) < 2 || len(s) > 6 || s[0] != ':' {
		return false
	}
	return strings.Trim(s[1:], "0123456789") == ""
}
