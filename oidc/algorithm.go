package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // for the algorithms below
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// algorithm is one signature algorithm of RFC 7518 section 3.1 or RFC 8037
// section 3.1. Neither "none" nor anything with a shared secret is here, and
// so none of it can be configured.
type algorithm struct {
	name  string
	hash  crypto.Hash // of the signed text and of at_hash
	kind  keyKind
	curve elliptic.Curve // of kind ecdsa: one curve each (RFC 7518 section 3.4)
}

type keyKind int

const (
	rsaPKCS1 keyKind = iota
	rsaPSS
	ecdsaKey
	ed25519Key
)

var algorithms = []algorithm{
	{"RS256", crypto.SHA256, rsaPKCS1, nil},
	{"RS384", crypto.SHA384, rsaPKCS1, nil},
	{"RS512", crypto.SHA512, rsaPKCS1, nil},
	{"PS256", crypto.SHA256, rsaPSS, nil},
	{"PS384", crypto.SHA384, rsaPSS, nil},
	{"PS512", crypto.SHA512, rsaPSS, nil},
	{"ES256", crypto.SHA256, ecdsaKey, elliptic.P256()},
	{"ES384", crypto.SHA384, ecdsaKey, elliptic.P384()},
	{"ES512", crypto.SHA512, ecdsaKey, elliptic.P521()},
	{"EdDSA", crypto.SHA512, ed25519Key, nil},
}

func algorithmNamed(name string) (*algorithm, bool) {
	for i := range algorithms {
		if algorithms[i].name == name {
			return &algorithms[i], true
		}
	}
	return nil, false
}

// checkAlgorithms refuses an empty list and whatever is no asymmetric signature.
func checkAlgorithms(names []string) error {
	if len(names) == 0 {
		return errors.New("no signature algorithm is allowed")
	}
	var errs []error
	for _, n := range names {
		if _, ok := algorithmNamed(n); !ok {
			errs = append(errs, fmt.Errorf("signature algorithm %q is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA", n))
		}
	}
	return errors.Join(errs...)
}

// fits binds the kind of a key to the algorithm (RFC 8725 section 3.1).
func (a *algorithm) fits(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return a.kind == rsaPKCS1 || a.kind == rsaPSS
	case *ecdsa.PublicKey:
		return a.kind == ecdsaKey && k.Curve == a.curve
	case ed25519.PublicKey:
		return a.kind == ed25519Key
	}
	return false
}

// verify reports whether signature is key's signature of signed.
func (a *algorithm) verify(key crypto.PublicKey, signed string, signature []byte) bool {
	if !a.fits(key) {
		return false
	}
	if a.kind == ed25519Key {
		return ed25519.Verify(key.(ed25519.PublicKey), []byte(signed), signature)
	}
	h := a.hash.New()
	h.Write([]byte(signed))
	digest := h.Sum(nil)
	switch a.kind {
	case rsaPKCS1:
		return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), a.hash, digest, signature) == nil
	case rsaPSS:
		// RFC 7518 section 3.5: the salt is as long as the hash.
		return rsa.VerifyPSS(key.(*rsa.PublicKey), a.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case ecdsaKey:
		// RFC 7518 section 3.4: r and s, each as long as the curve's order; not DER.
		half := (a.curve.Params().BitSize + 7) / 8
		if len(signature) != 2*half {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return ecdsa.Verify(key.(*ecdsa.PublicKey), digest, r, s)
	default:
		return false
	}
}

// Bounds of RSA keys: shorter is weak, longer makes a verification slow.
const minRSA, maxRSA = 2048, 8192

// checkKey refuses keys that would verify what nobody signed.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("an RSA key of %d bits is not between %d and %d", bits, minRSA, maxRSA)
		}
		if k.E < 3 || k.E&1 == 0 || k.N.Bit(0) == 0 {
			return errors.New("the RSA key is malformed")
		}
		if guessable(k.N) {
			return errors.New("the RSA key was made by a generator whose keys can be factored (CVE-2017-15361)")
		}
		return nil
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, k.Curve) {
			return errors.New("the curve is not P-256, P-384 or P-521")
		}
		if _, err := k.ECDH(); err != nil { // on the curve, not at infinity
			return errors.New("the point is not on the curve")
		}
		return nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize || smallOrder(k) {
			return errors.New("the Ed25519 key is malformed")
		}
		return nil
	}
	return fmt.Errorf("a key of type %T verifies nothing here", key)
}

// smallPrimes are the first odd primes. For all of them the keys of the generator
// below are powers of 65537; of other keys one in 2^150 is.
var smallPrimes = []uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// guessable reports whether a modulus has the mark of the generator of CVE-2017-15361
// (ROCA): its primes, and with them their product, are powers of 65537 modulo every
// small prime.
func guessable(n *big.Int) bool {
	for _, p := range smallPrimes {
		rest := new(big.Int).Mod(n, new(big.Int).SetUint64(p)).Uint64()
		power := uint64(1)
		for range p {
			if power == rest {
				break
			}
			power = power * 65537 % p
		}
		if power != rest {
			return false
		}
	}
	return true
}

// order8 is the y of the points of order 8 that is below p/2 (RFC 8032's curve).
var order8, _ = new(big.Int).SetString("2707385501144840649318225287225658788936804267575313519463743609750303021", 10)

// smallOrder reports whether a key is one of the eight points for which a
// signature can be made without a private key, in any spelling.
func smallOrder(key ed25519.PublicKey) bool {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	b := slices.Clone(key)
	slices.Reverse(b)
	b[0] &= 0x7f // the sign of x
	y := new(big.Int).SetBytes(b)
	y.Mod(y, p)
	for _, small := range []*big.Int{
		big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)),
		order8, new(big.Int).Sub(p, order8),
	} {
		if y.Cmp(small) == 0 {
			return true
		}
	}
	return false
}
