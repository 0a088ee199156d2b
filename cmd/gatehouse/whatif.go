package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/whatif"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// loadModel reads a configuration to ask it. It needs no secret and no other file.
func loadModel(file string) (*config.Config, *whatif.Model, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, nil, err
	}
	identify, err := identifier(cfg)
	if err != nil {
		return nil, nil, err
	}
	m, err := whatif.New(cfg, identify)
	return cfg, m, err
}

// identifier recognises people by claims as the configured providers would.
func identifier(cfg *config.Config) (whatif.Identify, error) {
	if err := checkProviders(cfg); err != nil {
		return nil, err
	}
	logins, tokens := map[string]*oidc.Provider{}, map[string]*oidc.Verifier{}
	for i := range cfg.Providers {
		entry := &cfg.Providers[i]
		p, err := oidc.NewProvider(providerConfig(cfg, entry, nil))
		if err != nil {
			return nil, err
		}
		logins[entry.Name] = p
		if entry.Bearer == nil {
			continue
		}
		// The keys are never asked for: no signature is looked at.
		vc := verifierConfig(cfg, entry, p.Keys())
		if tokens[entry.Name], err = oidc.NewVerifier(vc); err != nil {
			return nil, cfg.Mistake(fmt.Sprintf("providers[%d]", i), err.Error(), "", "")
		}
	}
	return func(provider string, bearer bool, c authz.Claims) (*authz.Identity, error) {
		if bearer {
			if v := tokens[provider]; v != nil {
				return v.Identify(c)
			}
		} else if p := logins[provider]; p != nil {
			return p.Identify(c)
		}
		return nil, fmt.Errorf("provider %q does not issue that", provider)
	}, nil
}

// whoFlags say who asks: --claims FILE for a session, --token FILE for a bearer token.
type whoFlags struct{ claims, token, provider string }

func (w *whoFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&w.claims, "claims", "", "file with the claims of a session, JSON (- for standard input)")
	c.Flags().StringVar(&w.token, "token", "", "file with a bearer token, whose signature is not checked (- for standard input)")
	c.Flags().StringVar(&w.provider, "provider", "", "provider that issued the claims or the token; found by iss when left out")
	c.MarkFlagsMutuallyExclusive("claims", "token")
}

// credential is nil when nobody was named.
func (w *whoFlags) credential(cfg *config.Config, stdin io.Reader) (*whatif.Credential, error) {
	if w.claims == "" && w.token == "" {
		return nil, nil //nolint:nilnil // nobody asks
	}
	who := &whatif.Credential{Provider: w.provider, Bearer: w.token != ""}
	text, err := readInput(w.claims+w.token, stdin)
	if err != nil {
		return nil, err
	}
	if who.Bearer {
		who.Claims, err = whatif.Unverified(string(text))
	} else {
		who.Claims, err = authz.ParseClaims(text)
	}
	if err == nil && who.Provider == "" {
		who.Provider, err = whatif.IssuedBy(cfg, who.Claims, who.Bearer)
	}
	if err == nil && cfg.Provider(who.Provider) == nil {
		err = fmt.Errorf("no provider is called %q", who.Provider)
	}
	return who, err
}

// maxInput bounds a file of claims or a token.
const maxInput = 1 << 20

func readInput(file string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(text) > maxInput {
		err = fmt.Errorf("%s is larger than %d MiB", file, maxInput>>20)
	}
	return text, err
}
