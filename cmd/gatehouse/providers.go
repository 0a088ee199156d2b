package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// provider is what one entry of providers stands for. It lives on over reloads
// as long as its configuration stays the same, so that a reload during an
// outage of the provider loses nothing.
type provider struct {
	name        string
	fingerprint [sha256.Size]byte
	oidc        *oidc.Provider   // nil when neither discovery nor a login is used
	keys        *oidc.RemoteKeys // of bearer tokens, at an address of their own; nil: none
	verifier    *oidc.Verifier   // nil without bearer
	stop        context.CancelFunc
}

// transporter wraps the transport to a provider, to measure it.
type transporter func(provider string, base http.RoundTripper) http.RoundTripper

// buildProviders makes the configured providers, taking over from running those that stayed the same.
func buildProviders(cfg *config.Config, running []*provider, wrap transporter, log *slog.Logger) ([]*provider, error) {
	var all []*provider
	var mistakes config.Mistakes
	for i := range cfg.Providers {
		p, err := buildProvider(cfg, i, running, wrap, log)
		if err != nil {
			mistakes = append(mistakes, cfg.Mistake(fmt.Sprintf("providers[%d]", i), err.Error(), "", ""))
			continue
		}
		all = append(all, p)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return all, nil
}

func buildProvider(cfg *config.Config, i int, running []*provider, wrap transporter, log *slog.Logger) (*provider, error) {
	entry := &cfg.Providers[i]
	print, err := fingerprint(cfg, entry)
	if err != nil {
		return nil, err
	}
	if same := slices.IndexFunc(running, func(p *provider) bool { return p.fingerprint == print }); same >= 0 {
		return running[same], nil
	}
	p := &provider{name: entry.Name, fingerprint: print}
	base, err := transport(cfg, entry, log)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: wrap(entry.Name, base)}
	if discovers(entry) {
		if p.oidc, err = oidc.NewProvider(providerConfig(cfg, entry, client)); err != nil {
			return nil, err
		}
	}
	if entry.Bearer == nil {
		return p, nil
	}
	keys, err := p.keySource(cfg, entry, client)
	if err != nil {
		return nil, err
	}
	p.verifier, err = oidc.NewVerifier(verifierConfig(cfg, entry, keys))
	return p, err
}

// discovers reports whether a provider's discovery document is used: to sign in, or
// to find its keys.
func discovers(entry *config.Provider) bool {
	return entry.Client != nil || entry.Bearer.Keys == nil && entry.Bearer.JWKSURL == ""
}

// keySource is where the keys of bearer tokens come from.
func (p *provider) keySource(cfg *config.Config, entry *config.Provider, client *http.Client) (oidc.KeySource, error) {
	b := entry.Bearer
	switch {
	case b.Keys != nil:
		keys, err := staticKeys(cfg, b.Keys)
		if err != nil {
			return nil, err
		}
		return oidc.NewStaticKeys(keys...)
	case b.JWKSURL != "":
		var err error
		p.keys, err = oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: b.JWKSURL, HTTP: client, Token: issuerToken(cfg, entry)})
		return p.keys, err
	}
	return p.oidc.Keys(), nil
}

// ready reports whether everything that is fetched has been.
func (p *provider) ready() bool {
	return (p.oidc == nil || p.oidc.Ready()) && (p.keys == nil || p.keys.Current() != nil)
}

// run keeps what is fetched fresh until ctx ends.
func (p *provider) run(ctx context.Context) {
	var wg sync.WaitGroup
	if p.oidc != nil {
		wg.Go(func() { _ = p.oidc.Run(ctx) })
	}
	if p.keys != nil {
		wg.Go(func() { _ = p.keys.Run(ctx) })
	}
	wg.Wait()
}

// fingerprint changes when anything changes that a provider is built from.
func fingerprint(cfg *config.Config, entry *config.Provider) ([sha256.Size]byte, error) {
	parts := []any{entry, cfg.LoginClients(entry)}
	for _, name := range builtFrom(entry) {
		data, err := config.ReadFile(cfg.Path(name))
		if err != nil {
			return [sha256.Size]byte{}, err
		}
		parts = append(parts, name, data)
	}
	text, err := json.Marshal(parts)
	return sha256.Sum256(text), err
}

// builtFrom are the files that are read when a provider is built, and not at every use.
func builtFrom(entry *config.Provider) []string {
	var names []string
	if entry.Bearer != nil {
		for _, k := range entry.Bearer.Keys {
			if name := k.File(); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

func providerConfig(cfg *config.Config, entry *config.Provider, client *http.Client) oidc.ProviderConfig {
	pc := oidc.ProviderConfig{
		Name: entry.Name, Issuer: entry.Issuer, HTTP: client,
		Claims: oidc.ClaimNames(entry.Claims), TrustEmail: entry.EmailVerified == "trust", Skew: skew(entry),
	}
	if entry.Bearer != nil {
		pc.AlsoIssuers, pc.Token = entry.Bearer.AlsoIssuers, issuerToken(cfg, entry)
	}
	if c := entry.Client; c != nil {
		pc.Client = &oidc.ClientConfig{
			ID: c.ID, AuthMethod: c.AuthMethod, Scopes: c.Scopes, MaxAge: c.MaxAge,
			Params: entry.AuthorizationParams, Userinfo: entry.Userinfo, Algorithms: entry.Algorithms,
		}
		if c.SecretFile != "" {
			path := cfg.Path(c.SecretFile)
			pc.Client.Secret = func() (string, error) { return config.ReadSecret(path) }
		}
	}
	return pc
}

// skew turns "none" into the least that is not the default.
func skew(entry *config.Provider) time.Duration {
	return max(entry.Skew, time.Nanosecond)
}

// issuerToken reads the token that the issuer wants to see, or is nil.
func issuerToken(cfg *config.Config, entry *config.Provider) func() (string, error) {
	if entry.Bearer.TokenFile == "" {
		return nil
	}
	path := cfg.Path(entry.Bearer.TokenFile)
	return func() (string, error) { return config.ReadSecret(path) }
}

func verifierConfig(cfg *config.Config, entry *config.Provider, keys oidc.KeySource) oidc.VerifierConfig {
	b := entry.Bearer
	vc := oidc.VerifierConfig{
		Provider: entry.Name, Issuer: entry.Issuer, AlsoIssuers: b.AlsoIssuers, Audiences: b.Audiences,
		Algorithms: entry.Algorithms, Keys: keys, RFC9068: b.RFC9068, MaxLifetime: b.MaxLifetime, MaxAge: b.MaxTokenAge,
		Claims: oidc.ClaimNames(entry.Claims), TrustEmail: entry.EmailVerified == "trust", Skew: skew(entry),
		LoginClientIDs: cfg.LoginClients(entry),
	}
	if b.Keys != nil {
		vc.Algorithms = nil
		for _, k := range b.Keys {
			if !slices.Contains(vc.Algorithms, k.Alg) {
				vc.Algorithms = append(vc.Algorithms, k.Alg)
			}
		}
	}
	return vc
}

// staticKeys reads the keys of a configuration.
func staticKeys(cfg *config.Config, keys []config.Key) ([]oidc.StaticKey, error) {
	var all []oidc.StaticKey
	for _, k := range keys {
		data, err := inlineKey(&k)
		if name := k.File(); err == nil && name != "" {
			data, err = config.ReadFile(cfg.Path(name))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, oidc.StaticKey{KID: k.Kid, Alg: k.Alg, Data: data})
	}
	return all, nil
}

// inlineKey is a key that stands in the configuration itself, or nothing.
func inlineKey(k *config.Key) ([]byte, error) {
	if k.JWK != nil {
		return json.Marshal(k.JWK)
	}
	return []byte(k.PEM), nil
}

func readCAs(path string) (*x509.CertPool, error) {
	data, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// checkProviders builds every provider without its files, for what only the
// protocol's own code knows to be wrong. It needs no secret and asks nobody.
func checkProviders(cfg *config.Config) error {
	var mistakes config.Mistakes
	for i := range cfg.Providers {
		pc := providerConfig(cfg, &cfg.Providers[i], nil)
		if _, err := oidc.NewProvider(pc); err != nil {
			mistakes = append(mistakes, cfg.Mistake(fmt.Sprintf("providers[%d]", i), err.Error(), "", ""))
		}
		mistakes = append(mistakes, checkInlineKeys(cfg, i)...)
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	return nil
}

// checkInlineKeys looks at the keys that stand in the configuration itself.
func checkInlineKeys(cfg *config.Config, i int) (mistakes config.Mistakes) {
	entry := &cfg.Providers[i]
	if entry.Bearer == nil {
		return nil
	}
	for j, k := range entry.Bearer.Keys {
		if k.File() != "" {
			continue
		}
		data, err := inlineKey(&k)
		if err == nil {
			_, err = oidc.NewStaticKeys(oidc.StaticKey{KID: k.Kid, Alg: k.Alg, Data: data})
		}
		if err != nil {
			mistakes = append(mistakes, cfg.Mistake(fmt.Sprintf("providers[%d].bearer.keys[%d]", i, j), "not a key that can be used", err.Error(), ""))
		}
	}
	return mistakes
}
