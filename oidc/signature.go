package oidc

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// maxTries bounds the keys tried for a token without kid.
const maxTries = 8

var (
	errNoKey        = errors.New("the issuer has no such key for this algorithm")
	errBadSignature = errors.New("the signature does not verify")
)

// signer names the key that a token was verified with.
type signer struct {
	print      keyPrint
	generation uint64
}

// verify checks the signature of t with one of the allowed algorithms. An error
// that wraps ErrUnavailable means that it cannot be told whether the issuer has
// such a key; any other is a refusal. Cheap checks belong before it: it may
// have keys read.
func (t *signedToken) verify(ctx context.Context, keys KeySource, allowed []string) (signer, error) {
	a, ok := algorithmNamed(t.alg)
	if !ok || !slices.Contains(allowed, t.alg) {
		return signer{}, fmt.Errorf("algorithm %.40q is not allowed for this issuer", t.alg)
	}
	var by signer
	var err error
	// A known kid is final. Without a kid a failing signature may mean a new key.
	settled := func(set *KeySet) bool {
		by, err = t.signedBy(set, a)
		return err == nil || t.kid != "" && set.knows(t.kid)
	}
	if set := keys.Current(); set != nil && settled(set) {
		return by, err
	}
	newer, failure := keys.Refresh(ctx, settled)
	switch {
	case failure != nil:
		return signer{}, unavailable(failure)
	case newer == nil:
		return signer{}, fmt.Errorf("%w: there are no keys", ErrUnavailable)
	}
	return t.signedBy(newer, a)
}

// signedBy tries the candidates of one set. A token without kid must verify
// with exactly one of them.
func (t *signedToken) signedBy(set *KeySet, a *algorithm) (signer, error) {
	candidates := set.candidates(a, t.kid)
	if len(candidates) == 0 || len(candidates) > maxTries {
		return signer{}, errNoKey
	}
	var found *verificationKey
	for _, k := range candidates {
		if !a.verify(k.public, t.signed, t.signature) {
			continue
		}
		if found != nil {
			return signer{}, errors.New("the signature verifies with several keys")
		}
		found = k
	}
	if found == nil {
		return signer{}, errBadSignature
	}
	return signer{print: found.print, generation: set.generation}, nil
}
