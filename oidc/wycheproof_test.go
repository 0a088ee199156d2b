package oidc_test

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// vectors is a file of testdata/wycheproof; see the README there.
type vectors struct {
	NumberOfTests int
	TestGroups    []vectorGroup
}

type vectorGroup struct {
	Comment, Sha, MgfSha         string
	SLen                         int
	PublicKeyPem                 string
	PublicKeyJwk, KeyJwk, Public json.RawMessage
	Private                      json.RawMessage
	Tests                        []vector
}

type vector struct {
	TcID     int
	Comment  string
	Msg, Sig string
	JWS, JWE any
	Result   string
	Flags    []string
}

// readVectors reads a file and makes sure that none of its tests is lost on the way.
func readVectors(t *testing.T, name string) vectors {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/wycheproof", name+"_test.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range v.TestGroups {
		n += len(g.Tests)
	}
	if n == 0 || n != v.NumberOfTests {
		t.Fatalf("%s: %d tests of %d", name, n, v.NumberOfTests)
	}
	return v
}

var allAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// J20, J22 to J24: signatures of messages that are no tokens, by keys in PEM.
func TestWycheproofSignatures(t *testing.T) {
	t.Parallel()
	for name, alg := range map[string]string{
		"ecdsa_secp256r1_sha256_p1363": "ES256",
		"ecdsa_secp384r1_sha384_p1363": "ES384",
		"ecdsa_secp521r1_sha512_p1363": "ES512",
		"ed25519":                      "EdDSA",
		"rsa_signature_2048_sha256":    "RS256",
		"rsa_signature_2048_sha384":    "RS384",
		"rsa_signature_2048_sha512":    "RS512",
		"rsa_pss_2048_sha256_mgf1_32":  "PS256",
		"rsa_pss_2048_sha384_mgf1_48":  "PS384",
		"rsa_pss_4096_sha512_mgf1_64":  "PS512",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			valid := 0
			for _, g := range readVectors(t, name).TestGroups {
				keys, err := oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: alg, Data: []byte(g.PublicKeyPem)})
				for _, v := range g.Tests {
					got := err
					if err == nil {
						got = oidc.VerifySignature(t.Context(), alg, unhex(t, v.Msg), unhex(t, v.Sig), keys)
					}
					if (got == nil) != (v.Result == "valid") {
						t.Errorf("%d %s (%s %v): %v", v.TcID, v.Comment, v.Result, v.Flags, got)
					}
					if got == nil {
						valid++
					}
				}
			}
			if valid == 0 {
				t.Error("nothing was accepted: the test proves nothing")
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keysOf(g vectorGroup) (*oidc.StaticKeys, error) {
	key := g.Public
	if key == nil {
		key = g.Private
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(key, &set); err == nil && set.Keys != nil {
		return oidc.KeysOf(key)
	}
	return oidc.KeysOf(fmt.Appendf(nil, `{"keys":[%s]}`, key))
}

// Reasons to refuse what a vector calls valid.
const (
	sharedSecret = "a MAC under a shared secret: an issuer's public keys would make tokens (J2)"
	emptyPayload = "an empty payload is no claims; parseToken wants three segments with something in them (J17)"
	mismatch     = "the vector's key is for PS256 and its token says PS384: one algorithm per key (K12)"
	noSuchName   = "the vector's key names ES521, which no specification knows"
)

// refusedThough are the vectors called valid that are refused here. There is nothing
// in the other direction: what a vector calls invalid is refused.
var refusedThough = map[string]map[int]string{
	"json_web_signature": {
		1: sharedSecret, 348: sharedSecret, 352: sharedSecret, 357: sharedSecret, 358: sharedSecret, 359: sharedSecret,
		372: sharedSecret, 373: sharedSecret, 376: sharedSecret, 377: sharedSecret,
		259: emptyPayload, 264: emptyPayload, 268: emptyPayload, 272: emptyPayload, 320: emptyPayload, 325: emptyPayload,
		346: mismatch, 350: mismatch,
		347: noSuchName, 351: noSuchName,
	},
	"json_web_key":    {2: sharedSecret, 13: sharedSecret, 14: sharedSecret, 15: sharedSecret},
	"json_web_crypto": {1: sharedSecret, 48: sharedSecret},
}

// J1 to J7, J16, J17, J23, K5, K12: tokens with their keys as JWK Sets.
func TestWycheproofTokens(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"json_web_signature", "json_web_key", "json_web_crypto"} {
		differs := map[int]bool{}
		for _, g := range readVectors(t, name).TestGroups {
			keys, noKey := keysOf(g)
			for _, v := range g.Tests {
				raw, got := tokenOf(v), noKey
				if noKey == nil {
					got = oidc.VerifyCompact(t.Context(), raw, keys, allAlgorithms)
					neverAccepted(t, keys, raw)
				}
				want := v.Result == "valid" && v.JWE == nil // what is encrypted is not for us
				if refusedThough[name][v.TcID] != "" {
					differs[v.TcID], want = want, false
				}
				if (got == nil) != want {
					t.Errorf("%s %d: %s %s (%s %v): %v", name, v.TcID, g.Comment, v.Comment, v.Result, v.Flags, got)
				}
			}
		}
		for id := range refusedThough[name] {
			if !differs[id] {
				t.Errorf("%s %d is listed as different, and is not", name, id)
			}
		}
	}
}

// tokenOf is the token of a vector, JWS or JWE; a JSON serialisation is an object.
func tokenOf(v vector) string {
	token := v.JWS
	if token == nil {
		token = v.JWE
	}
	if raw, ok := token.(string); ok {
		return raw
	}
	return js(token)
}

// neverAccepted: as a bearer token none of the vectors is, since none has claims.
func neverAccepted(t *testing.T, keys *oidc.StaticKeys, raw string) {
	t.Helper()
	v := must(oidc.NewVerifier(oidc.VerifierConfig{
		Provider: "w", Issuer: "https://idp.test", Audiences: []string{"api"}, Keys: keys, Algorithms: allAlgorithms,
	}))
	if got := judge(t, v, bearer(raw)); got != bad {
		t.Errorf("%.80q: %s", raw, got)
	}
}

// J19: nothing is decrypted, whatever a vector says about it.
func TestWycheproofEncryption(t *testing.T) {
	t.Parallel()
	keys := must(oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: "ES256", Data: pemOf(p256().Public())}))
	for _, g := range readVectors(t, "json_web_encryption").TestGroups {
		for _, v := range g.Tests {
			if err := oidc.VerifyCompact(t.Context(), tokenOf(v), keys, allAlgorithms); err == nil {
				t.Errorf("%d %s: accepted", v.TcID, v.Comment)
			}
			neverAccepted(t, keys, tokenOf(v))
		}
	}
}

// A curve that is not in the list has no keys here (RFC 8725 section 3.2).
func TestWycheproofOtherCurve(t *testing.T) {
	t.Parallel()
	for _, g := range readVectors(t, "ecdsa_secp256k1_sha256_p1363").TestGroups {
		if _, err := oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: "ES256", Data: []byte(g.PublicKeyPem)}); err == nil {
			t.Error("a key on secp256k1 is accepted")
		}
	}
}

// RFC 7518 section 3.5: MGF1 with the same hash, a salt as long as the hash. Every
// other parameter is refused, although the signature is right by itself.
func TestWycheproofPSSParameters(t *testing.T) {
	t.Parallel()
	type parameters struct {
		sha  string
		salt int
	}
	algorithms := map[parameters]string{{"SHA-256", 32}: "PS256", {"SHA-384", 48}: "PS384", {"SHA-512", 64}: "PS512"}
	accepted, refused := 0, 0
	for _, g := range readVectors(t, "rsa_pss_misc").TestGroups {
		alg := algorithms[parameters{g.Sha, g.SLen}]
		fits := alg != "" && g.Sha == g.MgfSha
		for _, try := range []string{"PS256", "PS384", "PS512"} {
			keys := must(oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: try, Data: []byte(g.PublicKeyPem)}))
			for _, v := range g.Tests {
				err := oidc.VerifySignature(t.Context(), try, unhex(t, v.Msg), unhex(t, v.Sig), keys)
				if want := fits && try == alg && v.Result == "valid"; (err == nil) != want {
					t.Errorf("%d by %s (%s, %s, %d): %v", v.TcID, try, g.Sha, g.MgfSha, g.SLen, err)
				}
				if err == nil {
					accepted++
				} else {
					refused++
				}
			}
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the test proves nothing", accepted, refused)
	}
}
