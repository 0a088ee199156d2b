package main

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/logout"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// lasting is what a process keeps over reloads.
type lasting struct {
	log     *telemetry.Log
	metrics *telemetry.Metrics
	traces  *telemetry.Traces
	ring    *seal.Ring                           // nil without sessions
	store   session.Store                        // nil without sessions
	find    func(provider string) *oidc.Provider // in the configuration of now; nil: there is none
}

// graph is everything that one configuration stands for. It is immutable, and
// swapped as a whole.
type graph struct {
	config     *config.Config
	providers  []*provider
	sessions   *sessions      // nil without a rule with a login
	login      *login.Login   // nil without a rule with a login
	logout     *logout.Logout // nil like login
	authorizer *authz.Authorizer
	client     authz.ClientAddress
	origins    map[string]string // of hosts on which people sign in, as browsers see them
}

// build makes the graph of cfg and starts nothing. It takes over what stays the same
// from running, the graph that it will replace (the zero graph: none).
func (l *lasting) build(cfg *config.Config, running *graph) (*graph, error) {
	g := &graph{config: cfg, client: clientAddress(cfg.ClientAddress), origins: origins(cfg)}
	var err error
	if g.providers, err = buildProviders(cfg, running.providers, l.transport, l.logger()); err != nil {
		return nil, err
	}
	if err = l.buildLogin(g, running.sessions); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	policy, err := cfg.Policy(g.sources())
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	g.authorizer, err = authz.New(authz.Config{
		Policy: policy, Passage: cfg.Passage(), Endpoints: g.endpoints(), Render: login.Render, Observe: l.observer(cfg.Log.Access),
	})
	return g, err
}

func (l *lasting) logger() *slog.Logger { return l.log.Logger() }

// buildLogin makes login and logout when a rule has a login.
func (l *lasting) buildLogin(g *graph, running *sessions) (err error) {
	hosts, loginHost := g.config.LoginHosts(), g.config.LoginHost()
	if len(hosts) == 0 && loginHost == nil {
		return nil
	}
	if g.sessions, err = l.manage(g.config, running); err != nil {
		return err
	}
	lc := login.Config{
		Prefix: g.config.Prefix, Sessions: g.sessions.Manager, Ring: l.ring, Log: l.logger(),
		CheckTimeout:   g.config.CheckTimeout * 8 / 10, // the page has to reach Envoy in time
		Reauthenticate: g.config.Sessions.WithoutRefreshToken == "reauthenticate",
	}
	for _, h := range hosts {
		lc.Hosts = append(lc.Hosts, login.Host(h))
	}
	if loginHost != nil {
		lc.LoginHost = (*login.Host)(loginHost)
		hosts = append(slices.Clip(hosts), *loginHost)
	}
	lc.Providers = loginProviders(g.providers, hosts)
	if g.login, err = login.New(lc); err != nil {
		return err
	}
	g.logout, err = logout.New(logout.Config{
		Login: g.login, Sessions: g.sessions.Manager, Ring: l.ring, Providers: lc.Providers, Client: g.client, Log: l.logger(),
	})
	return err
}

// loginProviders are those that hosts sign in with.
func loginProviders(all []*provider, hosts []config.Host) []*oidc.Provider {
	var used []*oidc.Provider
	for _, p := range all {
		if slices.ContainsFunc(hosts, func(h config.Host) bool { return slices.Contains(h.Providers, p.name) }) {
			used = append(used, p.oidc)
		}
	}
	return used
}

// provider returns the provider of that name if people can sign in there, or nil.
func (g *graph) provider(name string) *oidc.Provider {
	for _, p := range g.providers {
		if p.name == name && p.oidc != nil && p.oidc.ClientID() != "" {
			return p.oidc
		}
	}
	return nil
}

// sources finds the authenticators of rules; the configuration was checked, so they are there.
func (g *graph) sources() config.Sources {
	verifiers := map[string]*oidc.Verifier{}
	for _, p := range g.providers {
		verifiers[p.name] = p.verifier
	}
	return config.Sources{
		Login: func(name string, tokens bool, choice []string) authz.Authenticator {
			return g.login.Authenticator(name, tokens, choice...)
		},
		Bearer: func(name string) authz.Authenticator { return verifiers[name] },
	}
}

// endpoints are the addresses that Gatehouse answers itself: logout knows its
// own, login all that is left below the prefix.
func (g *graph) endpoints() func(host, path string) authz.Endpoint {
	if g.login == nil {
		return nil
	}
	return func(host, path string) authz.Endpoint {
		if e := g.logout.Endpoint(host, path); e != nil {
			return e
		}
		return g.login.Endpoint(host, path)
	}
}

func origins(cfg *config.Config) map[string]string {
	all := map[string]string{}
	for _, h := range cfg.LoginHosts() {
		all[h.Name] = h.Origin
	}
	if h := cfg.LoginHost(); h != nil {
		all[h.Name] = h.Origin
	}
	return all
}

// observer writes and counts decisions.
func (l *lasting) observer(access string) func(*authz.Request, *authz.Decision, time.Duration) {
	lines := l.log.Access(access)
	return func(r *authz.Request, d *authz.Decision, took time.Duration) {
		l.metrics.Observe(r, d, took)
		lines.Observe(r, d, took)
	}
}

func clientAddress(c config.ClientAddress) authz.ClientAddress {
	switch {
	case c.Hops > 0:
		return authz.ForwardedFor(c.Hops)
	case c.Header != "":
		return authz.HeaderAddress(c.Header)
	default:
		return authz.PeerAddress()
	}
}
