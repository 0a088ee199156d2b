package oidc

import (
	"context"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// KeySource finds verification keys. Implementations: RemoteKeys, StaticKeys.
// The oidc helper owns its methods.
type KeySource interface{}

// VerifierConfig is what a Verifier works with.
type VerifierConfig struct {
	Provider      string // name in the configuration
	Issuer        string
	Audiences     []string // one of them must be in aud; empty is refused
	Algorithms    []string // default RS256, ES256 … fixed per issuer
	Keys          KeySource
	Claims        ClaimNames
	TrustEmail    bool
	Skew          time.Duration // default 60 s
	CacheSize     int           // identities; default 10,000
	LoginClientID string        // the login client's own id: refused as audience unless listed in Audiences
	Now           func() time.Time
}

// Verifier recognises bearer JWTs of one issuer. It implements authz.Authenticator.
type Verifier struct{ _ int }

func NewVerifier(cfg VerifierConfig) (*Verifier, error) { panic("contract") }

func (v *Verifier) Authenticate(ctx context.Context, r *authz.Request) (*authz.Identity, error) {
	panic("contract")
}
func (v *Verifier) Challenge(r *authz.Request, err error) authz.Challenge { panic("contract") }

// Verifiers joins several verifiers of one rule: the token's unverified iss picks one, which then verifies.
func Verifiers(vs ...*Verifier) authz.Authenticator { panic("contract") }
