package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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
	oidc        *oidc.Provider // nil when only configured keys are used
	verifier    *oidc.Verifier // nil without bearer
	stop        context.CancelFunc
}

// transporter wraps the transport to a provider, to measure it.
type transporter func(provider string, base http.RoundTripper) http.RoundTripper

// buildProviders makes the configured providers, taking over from running those that stayed the same.
func buildProviders(cfg *config.Config, running []*provider, wrap transporter) ([]*provider, error) {
	var all []*provider
	var mistakes config.Mistakes
	for i := range cfg.Providers {
		p, err := buildProvider(cfg, i, running, wrap)
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

func buildProvider(cfg *config.Config, i int, running []*provider, wrap transporter) (*provider, error) {
	entry := &cfg.Providers[i]
	print, err := fingerprint(cfg, entry)
	if err != nil {
		return nil, err
	}
	if same := slices.IndexFunc(running, func(p *provider) bool { return p.fingerprint == print }); same >= 0 {
		return running[same], nil
	}
	p := &provider{name: entry.Name, fingerprint: print}
	base, err := transport(cfg, entry)
	if err != nil {
		return nil, err
	}
	if entry.Client != nil || len(entry.Bearer.Keys) == 0 {
		p.oidc, err = oidc.NewProvider(providerConfig(cfg, entry, &http.Client{Transport: wrap(entry.Name, base)}))
		if err != nil {
			return nil, err
		}
	}
	if entry.Bearer != nil {
		p.verifier, err = buildVerifier(cfg, entry, p.oidc)
	}
	return p, err
}

// fingerprint changes when anything changes that a provider is built from.
func fingerprint(cfg *config.Config, entry *config.Provider) ([sha256.Size]byte, error) {
	parts := []any{entry, loginClients(cfg, entry)}
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
	if entry.CAFile != "" {
		names = append(names, entry.CAFile)
	}
	if entry.Bearer != nil {
		for _, k := range entry.Bearer.Keys {
			names = append(names, k.PEMFile)
		}
	}
	return names
}

// loginClients are the client ids at the issuer of entry: their tokens are for us, not for an API.
func loginClients(cfg *config.Config, entry *config.Provider) []string {
	var ids []string
	for _, p := range cfg.Providers {
		if p.Issuer == entry.Issuer && p.Client != nil {
			ids = append(ids, p.Client.ID)
		}
	}
	return ids
}

func providerConfig(cfg *config.Config, entry *config.Provider, client *http.Client) oidc.ProviderConfig {
	pc := oidc.ProviderConfig{
		Name: entry.Name, Issuer: entry.Issuer, HTTP: client,
		Claims: oidc.ClaimNames(entry.Claims), TrustEmail: entry.EmailVerified == "trust", Skew: skew(entry),
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

// verifierConfig is a verifier but for its keys.
func verifierConfig(cfg *config.Config, entry *config.Provider) oidc.VerifierConfig {
	vc := oidc.VerifierConfig{
		Provider: entry.Name, Issuer: entry.Issuer, Audiences: entry.Bearer.Audiences, Algorithms: entry.Algorithms,
		Claims: oidc.ClaimNames(entry.Claims), TrustEmail: entry.EmailVerified == "trust", Skew: skew(entry),
	}
	vc.LoginClientIDs = loginClients(cfg, entry)
	return vc
}

func buildVerifier(cfg *config.Config, entry *config.Provider, p *oidc.Provider) (*oidc.Verifier, error) {
	vc := verifierConfig(cfg, entry)
	if len(entry.Bearer.Keys) == 0 {
		vc.Keys = p.Keys()
		return oidc.NewVerifier(vc)
	}
	var keys []oidc.StaticKey
	vc.Algorithms = nil
	for _, k := range entry.Bearer.Keys {
		data, err := config.ReadFile(cfg.Path(k.PEMFile))
		if err != nil {
			return nil, err
		}
		keys = append(keys, oidc.StaticKey{KID: k.Kid, Alg: k.Alg, Data: data})
		if !slices.Contains(vc.Algorithms, k.Alg) {
			vc.Algorithms = append(vc.Algorithms, k.Alg)
		}
	}
	static, err := oidc.NewStaticKeys(keys...)
	if err != nil {
		return nil, err
	}
	vc.Keys = static
	return oidc.NewVerifier(vc)
}

// transport reaches a provider, checking its certificate against the configured authorities.
func transport(cfg *config.Config, entry *config.Provider) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if entry.CAFile == "" {
		return t, nil
	}
	pool, err := readCAs(cfg.Path(entry.CAFile))
	t.TLSClientConfig.RootCAs = pool
	return t, err
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
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	return nil
}
