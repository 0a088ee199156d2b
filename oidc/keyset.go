package oidc

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// maxKeys bounds the keys taken from one document; the rest is skipped.
const maxKeys = 100

// KeySet is an immutable set of verification keys of one issuer.
type KeySet struct {
	generation uint64 // unique in this process; equal sets read twice keep theirs
	keys       []verificationKey
}

// verificationKey is a public key that passed checkKey.
type verificationKey struct {
	kid    string // may be empty
	alg    string // may be empty: any that fits
	public crypto.PublicKey
	print  keyPrint
}

// keyPrint tells one key (with its kid and alg) from every other.
type keyPrint [sha256.Size]byte

var generations atomic.Uint64

func newKeySet(keys []verificationKey) *KeySet {
	return &KeySet{generation: generations.Add(1), keys: keys}
}

// Generation changes whenever the keys change, and only then.
func (s *KeySet) Generation() uint64 { return s.generation }

// Len is the number of usable keys.
func (s *KeySet) Len() int { return len(s.keys) }

// has reports whether the key that verified a token is still there.
func (s *KeySet) has(k signer) bool {
	if k.generation == s.generation {
		return true
	}
	for i := range s.keys {
		if s.keys[i].print == k.print {
			return true
		}
	}
	return false
}

func (s *KeySet) equal(keys []verificationKey) bool {
	return slices.EqualFunc(s.keys, keys, func(a, b verificationKey) bool { return a.print == b.print })
}

// knows reports whether any key is called kid, usable or not for a given token.
func (s *KeySet) knows(kid string) bool {
	return slices.ContainsFunc(s.keys, func(k verificationKey) bool { return k.kid == kid })
}

// candidates are the keys a token may be signed with: of its kid, or all when
// it has none; of its algorithm, when the key names one (RFC 8725 section 3.1:
// one algorithm per key); of a kind that fits.
func (s *KeySet) candidates(a *algorithm, kid string) []*verificationKey {
	var found []*verificationKey
	for i := range s.keys {
		k := &s.keys[i]
		if (kid == "" || k.kid == kid) && (k.alg == "" || k.alg == a.name) && a.fits(k.public) {
			found = append(found, k)
		}
	}
	return found
}

// newVerificationKey checks a key and its algorithm.
func newVerificationKey(kid, alg string, public crypto.PublicKey) (verificationKey, error) {
	if err := checkKey(public); err != nil {
		return verificationKey{}, err
	}
	if alg != "" {
		a, ok := algorithmNamed(alg)
		if !ok {
			return verificationKey{}, fmt.Errorf("algorithm %q is not supported", alg)
		}
		if !a.fits(public) {
			return verificationKey{}, fmt.Errorf("the key is of another kind than algorithm %q", alg)
		}
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return verificationKey{}, errors.New("the key is malformed")
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(kid), []byte(alg), der} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // bounded by maxDocument
		h.Write(part)
	}
	return verificationKey{kid: kid, alg: alg, public: public, print: keyPrint(h.Sum(nil))}, nil
}

// parseKeys reads a JWK Set (RFC 7517 section 5). Entries that are malformed or
// not for verifying are skipped and counted, as the section asks; a document
// without a usable key is an error.
func parseKeys(document []byte) (keys []verificationKey, skipped int, err error) {
	doc, err := authz.ParseClaims(document)
	if err != nil {
		return nil, 0, fmt.Errorf("key set: %w", err)
	}
	entries, ok := doc["keys"].([]any)
	if !ok {
		return nil, 0, errors.New("key set: keys is missing or not an array")
	}
	for _, e := range entries {
		entry, ok := e.(map[string]any)
		if !ok || len(keys) == maxKeys {
			skipped++
			continue
		}
		k, err := parseKey(entry)
		if err != nil {
			skipped++
			continue
		}
		keys = append(keys, k)
	}
	keys, dropped := withoutTwins(keys)
	if skipped += dropped; len(keys) == 0 {
		return nil, skipped, fmt.Errorf("key set: none of %d entries is a usable signature key", len(entries))
	}
	return keys, skipped, nil
}

// withoutTwins drops keys that differ but answer to the same kid and algorithm:
// which of them is meant cannot be told. (The same kid for another kind of key
// or another algorithm is allowed, RFC 7517 section 4.5.)
func withoutTwins(keys []verificationKey) (kept []verificationKey, dropped int) {
	twins := func(a, b *verificationKey) bool {
		return a.kid != "" && a.kid == b.kid && a.print != b.print && (a.alg == "" || b.alg == "" || a.alg == b.alg) &&
			slices.ContainsFunc(algorithms, func(alg algorithm) bool { return alg.fits(a.public) && alg.fits(b.public) })
	}
	for i := range keys {
		same := func(k verificationKey) bool { return k.print == keys[i].print }
		if slices.ContainsFunc(keys, func(k verificationKey) bool { return twins(&keys[i], &k) }) || slices.ContainsFunc(kept, same) {
			dropped++
			continue
		}
		kept = append(kept, keys[i])
	}
	return kept, dropped
}

// parseKey reads one JWK. go-jose decodes the points; it gets only the members
// that make up a public key, so that no certificate chain is parsed and nothing
// private is touched.
func parseKey(entry authz.Claims) (verificationKey, error) {
	var none verificationKey
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := entry[private]; ok {
			return none, errors.New("the key is not public")
		}
	}
	kid, okKID := optionalString(entry, "kid")
	alg, okAlg := optionalString(entry, "alg")
	use, okUse := optionalString(entry, "use")
	if !okKID || len(kid) > maxKID || !okAlg || !okUse {
		return none, errors.New("kid, alg or use is malformed")
	}
	if use != "" && use != "sig" {
		return none, errors.New("the key is not for signatures")
	}
	if ops, ok := entry["key_ops"]; ok {
		if list, ok := ops.([]any); !ok || !slices.Contains(list, any("verify")) {
			return none, errors.New("the key is not for verifying")
		}
	}
	public, err := publicKey(entry)
	if err != nil {
		return none, err
	}
	return newVerificationKey(kid, alg, public)
}

func publicKey(entry authz.Claims) (crypto.PublicKey, error) {
	text := map[string]string{}
	number := map[string][]byte{}
	for _, name := range []string{"kty", "crv", "n", "e", "x", "y"} {
		s, ok := optionalString(entry, name)
		if !ok {
			return nil, fmt.Errorf("%s is not a string", name)
		}
		if s == "" {
			continue
		}
		text[name] = s
		if name == "kty" || name == "crv" {
			continue
		}
		var err error
		if number[name], err = segment(s); err != nil { // one spelling here too
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	switch kty := text["kty"]; kty {
	case "RSA":
		return rsaPublicKey(number["n"], number["e"])
	case "EC", "OKP":
		b, err := json.Marshal(text)
		if err != nil {
			return nil, err
		}
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(b); err != nil {
			return nil, err
		}
		return jwk.Key, nil
	default:
		return nil, fmt.Errorf("key type %.40q is not supported", kty)
	}
}

// rsaPublicKey reads the numbers itself, because go-jose stops at 4096 bits for
// the whole process. checkKey judges them.
func rsaPublicKey(n, e []byte) (crypto.PublicKey, error) {
	exponent := new(big.Int).SetBytes(e)
	if len(n) == 0 || exponent.BitLen() > 31 {
		return nil, errors.New("n or e is malformed")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}
