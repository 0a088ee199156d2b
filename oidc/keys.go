package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// KeySource finds the keys that one issuer signs with. It is implemented by
// RemoteKeys and StaticKeys, and safe for concurrent use.
type KeySource interface {
	// Current returns the keys in use, without I/O; nil when there are none that
	// may still be used.
	Current() *KeySet

	// Refresh returns a set for which enough holds, or else one that was read
	// after the call: what is missing there is not there. It is asked because a
	// token that passed every cheap check names a key that is not in Current. An
	// error means that this cannot be told now.
	Refresh(ctx context.Context, enough func(*KeySet) bool) (*KeySet, error)
}

var (
	_ KeySource = (*RemoteKeys)(nil)
	_ KeySource = (*StaticKeys)(nil)
)

// StaticKey is one configured key.
type StaticKey struct {
	KID  string // of a token's header; empty: as the JWK says, or none
	Alg  string // the only algorithm of this key; may be empty for a JWK that names it
	Data []byte // PEM (PUBLIC KEY, EC PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE) or one JWK
}

// StaticKeys is a KeySource that never changes.
type StaticKeys struct{ set *KeySet }

// NewStaticKeys refuses, unlike a document of a provider, every key that cannot
// be used. The error joins every mistake.
func NewStaticKeys(keys ...StaticKey) (*StaticKeys, error) {
	var errs []error
	var list []verificationKey
	for i, k := range keys {
		v, err := k.parse()
		if err != nil {
			errs = append(errs, fmt.Errorf("key %d (%q): %w", i+1, k.KID, err))
			continue
		}
		list = append(list, v)
	}
	if len(keys) == 0 {
		errs = append(errs, errors.New("no key is given"))
	}
	list, dropped := withoutTwins(list)
	if dropped > 0 {
		errs = append(errs, errors.New("several keys have the same kid"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &StaticKeys{set: newKeySet(list)}, nil
}

// Current implements KeySource.
func (s *StaticKeys) Current() *KeySet { return s.set }

// Refresh implements KeySource: there is never anything newer.
func (s *StaticKeys) Refresh(context.Context, func(*KeySet) bool) (*KeySet, error) { return s.set, nil }

func (k StaticKey) parse() (verificationKey, error) {
	data := bytes.Trim(k.Data, " \t\r\n")
	if !bytes.HasPrefix(data, []byte("{")) {
		public, err := parsePEM(data)
		if err != nil {
			return verificationKey{}, err
		}
		if k.Alg == "" {
			return verificationKey{}, errors.New("a PEM key needs its algorithm (alg)")
		}
		return newVerificationKey(k.KID, k.Alg, public)
	}
	entry, err := authz.ParseClaims(data)
	if err != nil {
		return verificationKey{}, fmt.Errorf("JWK: %w", err)
	}
	v, err := parseKey(entry)
	if err != nil {
		return verificationKey{}, fmt.Errorf("JWK: %w", err)
	}
	kid, alg := v.kid, v.alg
	if k.KID != "" {
		kid = k.KID
	}
	if k.Alg != "" {
		if alg != "" && alg != k.Alg {
			return verificationKey{}, fmt.Errorf("the JWK is for %q, not for %q", alg, k.Alg)
		}
		alg = k.Alg
	}
	if alg == "" {
		return verificationKey{}, errors.New("neither the JWK nor the configuration names its algorithm (alg)")
	}
	return newVerificationKey(kid, alg, v.public)
}

func parsePEM(data []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("this is neither PEM nor a JWK")
	}
	if len(bytes.Trim(rest, " \t\r\n")) > 0 {
		return nil, errors.New("there is something after the first PEM block")
	}
	switch block.Type {
	case "PUBLIC KEY", "EC PUBLIC KEY": // the second label is in no standard, and in use
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	return nil, fmt.Errorf("a PEM block of type %q holds no public key", block.Type)
}
