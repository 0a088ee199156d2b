package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

type verdict string

const (
	allow       verdict = "allow"
	bad         verdict = "bad credentials" // 401
	none        verdict = "no credentials"
	unavailable verdict = "cannot tell" // 503
)

func judge(t *testing.T, a authz.Authenticator, r *authz.Request) verdict {
	t.Helper()
	id, err := a.Authenticate(t.Context(), r)
	if (id == nil) == (err == nil) {
		t.Fatalf("Authenticate = %v, %v: want exactly one", id, err)
	}
	switch {
	case err == nil:
		if id.Subject == "" || id.User == "" || id.Issuer == "" {
			t.Fatalf("half an identity: %+v", id)
		}
		return allow
	case errors.Is(err, authz.ErrBadCredentials):
		return bad
	case errors.Is(err, authz.ErrNoCredentials):
		return none
	}
	return unavailable
}

// rule asks verifiers as a rule does that has all of them: several may share an issuer,
// and "cannot tell" outweighs "no".
type rule struct{ *authz.Authorizer }

func newRule(t *testing.T, vs ...*oidc.Verifier) rule {
	t.Helper()
	r := authz.Rule{Name: "api", Hosts: []string{"api.test"}, Require: authz.AnyUser()}
	for i, v := range vs {
		r.Sources = append(r.Sources, authz.Source{Provider: fmt.Sprint("p", i), Authenticator: v})
	}
	policy, err := authz.NewPolicy([]authz.Rule{r})
	if err != nil {
		t.Fatal(err)
	}
	return rule{must(authz.New(authz.Config{Policy: policy}))}
}

func (r rule) Authenticate(ctx context.Context, req *authz.Request) (*authz.Identity, error) {
	switch d := r.Authorize(ctx, req); d.Reason {
	case authz.ReasonAllowed:
		return d.Identity, nil
	case authz.ReasonNoCredentials:
		return nil, authz.ErrNoCredentials
	case authz.ReasonBadCredentials:
		return nil, authz.ErrBadCredentials
	default:
		return nil, errors.New(d.Reason + ": " + d.Detail)
	}
}

func (rule) Challenge(*authz.Request, error) authz.Challenge { return authz.Challenge{} }

func TestVerifierIdentity(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	c := i.access()
	c["email"], c["email_verified"], c["groups"], c["preferred_username"] = "alice@good.test", true, []string{"staff", "x,admins"}, "al"
	id, err := i.verifier().Authenticate(t.Context(), bearer(tok("ES256", es256, js(c), p256())))
	if err != nil {
		t.Fatal(err)
	}
	got := *id
	got.Claims = nil
	want := authz.Identity{
		Provider: "corp", Issuer: i.URL, Subject: "alice", User: "alice", Email: "alice@good.test", EmailVerified: true,
		PreferredUsername: "al", Groups: []string{"staff", "x,admins"}, Audience: []string{"api"}, Expires: time.Unix(c["exp"].(int64), 0),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("identity (-want +got):\n%s", d)
	}
}

// Headers: security ids J1 to J8, J17, J19.
func TestBearerHeader(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	payload := js(i.access())
	pub := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	hmacKeys := map[string][]byte{
		"DER": pub, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}),
		"modulus": rsaKey().N.Bytes(), "JWK": []byte(js(jwk("k1", "RS256", rsaKey()))), "empty": {},
	}
	for name, k := range hmacKeys {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			if got := judge(t, v, bearer(tok(alg, `{"alg":"`+alg+`","kid":"k1"}`, payload, k))); got != bad {
				t.Errorf("J2 %s with %s: %s", alg, name, got)
			}
		}
	}
	for _, tt := range []struct {
		id, header string
		want       verdict
	}{
		{"plain", `{"alg":"RS256","kid":"k1"}`, allow},
		{"J1 none", `{"alg":"none","kid":"k1"}`, bad},
		{"J1 None", `{"alg":"None","kid":"k1"}`, bad},
		{"J1 nOnE", `{"alg":"nOnE"}`, bad},
		{"J1 empty", `{"alg":"","kid":"k1"}`, bad},
		{"J1 absent", `{"kid":"k1"}`, bad},
		{"J1 array", `{"alg":["RS256"],"kid":"k1"}`, bad},
		{"J1 lower case", `{"alg":"rs256","kid":"k1"}`, bad},
		{"J3 PS256", `{"alg":"PS256","kid":"k1"}`, bad},
		{"J3 RS512", `{"alg":"RS512","kid":"k1"}`, bad},
		{"J3 ES256K", `{"alg":"ES256K","kid":"k1"}`, bad},
		{"J4 path", `{"alg":"RS256","kid":"../../dev/null"}`, bad},
		{"J4 query", `{"alg":"RS256","kid":"' OR 1=1"}`, bad},
		{"J4 number", `{"alg":"RS256","kid":1}`, bad},
		{"J4 array", `{"alg":"RS256","kid":["k1"]}`, bad},
		{"J4 null", `{"alg":"RS256","kid":null}`, bad},
		{"J4 long", `{"alg":"RS256","kid":"` + repeat("k", 257) + `"}`, bad},
		{"J5", `{"alg":"RS256","kid":"k1","jku":"` + i.URL + pathUserinfo + `","x5u":"` + i.URL + pathUserinfo + `","jwk":{"kty":"oct"},"x5c":["x"]}`, allow},
		{"J6 crit", `{"alg":"RS256","kid":"k1","crit":["x"]}`, bad},
		{"J6 crit empty", `{"alg":"RS256","kid":"k1","crit":[]}`, bad},
		{"J6 crit registered", `{"alg":"RS256","kid":"k1","crit":["alg"]}`, bad},
		{"J6 crit null", `{"alg":"RS256","kid":"k1","crit":null}`, bad},
		{"J7 b64", `{"alg":"RS256","kid":"k1","b64":false,"crit":["b64"]}`, bad},
		{"J7 b64 alone", `{"alg":"RS256","kid":"k1","b64":true}`, bad},
		{"J8 JWT", `{"alg":"RS256","kid":"k1","typ":"JWT"}`, allow},
		{"J8 at+jwt", `{"alg":"RS256","kid":"k1","typ":"at+jwt"}`, allow},
		{"J8 application", `{"alg":"RS256","kid":"k1","typ":"Application/AT+JWT"}`, allow},
		{"J8 logout", `{"alg":"RS256","kid":"k1","typ":"logout+jwt"}`, bad},
		{"J8 dpop", `{"alg":"RS256","kid":"k1","typ":"dpop+jwt"}`, bad},
		{"J8 number", `{"alg":"RS256","kid":"k1","typ":1}`, bad},
		{"J14 alg twice", `{"alg":"RS256","alg":"RS256","kid":"k1"}`, bad},
		{"J14 ALG", `{"ALG":"RS256","kid":"k1"}`, bad},
		{"J14 alg and ALG", `{"alg":"none","ALG":"RS256","kid":"k1"}`, bad},
		{"J19 zip", `{"alg":"RS256","kid":"k1","zip":"DEF"}`, bad},
		{"J19 enc", `{"alg":"RS256","kid":"k1","enc":"A256GCM"}`, bad},
		{"not an object", `"RS256"`, bad},
		{"null", `null`, bad},
		{"trailing", `{"alg":"RS256","kid":"k1"}{}`, bad},
		{"J24 other kid's alg (K12)", `{"alg":"RS256","kid":"e1"}`, bad},
	} {
		if got := judge(t, v, bearer(tok("RS256", tt.header, payload, rsaKey()))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, got, tt.want)
		}
	}
	if n := i.count(pathUserinfo); n != 0 {
		t.Errorf("J5: %d requests to an address out of a header", n)
	}
	if n := i.count(pathJWKS); n != 3 {
		t.Errorf("%d readings of the keys, want the first and one for each unknown kid", n)
	}
}

// Payloads: J9 to J15, J29.
func TestBearerClaims(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	a := i.access()
	now := time.Now().Unix()
	set := func(name string, value any) string { return js(with(a, name, value)) }
	number := func(name, n string) string { return js(with(a, name, json.Number(n))) }
	raw := strings.TrimSuffix(js(without(a, "sub")), "}")
	for _, tt := range []struct {
		id, payload string
		want        verdict
	}{
		{"plain", js(a), allow},
		{"J9 missing", js(without(a, "exp")), bad},
		{"J9 string", set("exp", "1999999999"), bad},
		{"J9 null", set("exp", nil), bad},
		{"J9 zero", number("exp", "0"), bad},
		{"J9 negative", number("exp", "-1"), bad},
		{"J9 1e30", number("exp", "1e30"), bad},
		{"J9 MaxInt64", number("exp", "9223372036854775807"), bad},
		{"J9 1e999", number("exp", "1e999"), bad},
		{"J9 fraction", number("exp", "4102444800.5"), allow},
		{"J9 exponent", number("exp", "4.1024448e9"), allow},
		{"J9 expired", set("exp", now-61), bad},
		{"J9 within skew", set("exp", now-30), allow},
		{"J10 nbf", set("nbf", now+240), bad},
		{"J10 nbf within skew", set("nbf", now+30), allow},
		{"J10 nbf string", set("nbf", "0"), bad},
		{"J10 iat", set("iat", now+86400), bad},
		{"J10 no iat", js(without(a, "iat")), allow},
		{"J10 iat string", set("iat", "now"), bad},
		{"J11 missing", js(without(a, "aud")), bad},
		{"J11 empty", set("aud", []any{}), bad},
		{"J11 empty string", set("aud", ""), bad},
		{"J11 null", set("aud", nil), bad},
		{"J11 number", set("aud", 1), bad},
		{"J11 nested", set("aud", []any{[]any{"api"}}), bad},
		{"J11 mixed", set("aud", []any{"api", 1}), bad},
		{"J11 case", set("aud", "API"), bad},
		{"J11 slash", set("aud", "api/"), bad},
		{"J11 many", set("aud", strings.Split(repeat("api,", 200)+"api", ",")), bad},
		{"J11 two", set("aud", []any{"x", "api"}), allow},
		{"J8 login client", set("aud", clientID), bad},
		{"J8 login client too", set("aud", []any{"api", clientID}), bad},
		{"J8 second login client", set("aud", []any{"api", "mesh-2"}), bad},
		{"J12 slash", set("iss", i.URL+"/"), bad},
		{"J12 case", set("iss", strings.Replace(i.URL, "http", "HTTP", 1)), bad},
		{"J12 array", set("iss", []any{i.URL}), bad},
		{"J12 missing", js(without(a, "iss")), bad},
		{"J14 sub twice", raw + `,"sub":"alice","sub":"victim"}`, bad},
		{"J14 escaped twice", raw + `,"sub":"alice","s\u0075b":"victim"}`, bad},
		{"J15 missing", js(without(a, "sub")), bad},
		{"J15 SUB only", raw + `,"SUB":"victim"}`, bad},
		{"J15 empty", set("sub", ""), bad},
		{"J15 space", set("sub", "  "), bad},
		{"J15 number", set("sub", 7), bad},
		{"J15 null", set("sub", nil), bad},
		{"J15 long", set("sub", repeat("a", 1025)), bad},
		{"J15 control", set("sub", "a\x00b"), bad},
		{"J15 newline", set("sub", "a\r\nx-auth-request-user: root"), bad},
		{"J15 bidi", set("sub", "a\u202eb"), bad},
		{"J29 cnf", set("cnf", map[string]any{"jkt": "x"}), bad},
		{"J29 cnf null", set("cnf", nil), bad},
		{"J27 overage", set("_claim_names", map[string]any{"groups": "src1"}), bad},
		{"E3 numbers", set("groups", []any{1}), bad},
		{"E3 nested", set("groups", []any{[]any{"admins"}}), bad},
		{"E3 object", set("groups", map[string]any{"admins": true}), bad},
		{"array payload", `[]`, bad},
		{"not UTF-8", strings.Replace(js(a), "alice", "al\xffce", 1), bad},
	} {
		if got := judge(t, v, bearer(tok("RS256", rs256, tt.payload, rsaKey()))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, got, tt.want)
		}
	}
	// J14: a look-alike member never wins.
	for _, extra := range []string{`"SUB":"victim"`, `"ſub":"victim"`, `"Sub":"victim"`} {
		id, err := v.Authenticate(t.Context(), bearer(tok("RS256", rs256, raw+`,"sub":"alice",`+extra+`}`, rsaKey())))
		if err != nil || id.Subject != "alice" || id.User != "alice" {
			t.Errorf("J14 %s: %v, %v; want alice", extra, id, err)
		}
	}
}

// Encoding and signatures: J16 to J24.
func TestBearerToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	good := i.good()
	seg := strings.Split(good, ".")
	h, p, s := seg[0], seg[1], seg[2]
	der := must(ecdsa.SignASN1(rand.Reader, p256(), digest(es256, js(i.access()))))
	esHead := b64([]byte(es256)) + "." + b64([]byte(js(i.access()))) + "."
	n := p256().Params().N
	half := func(r, s *big.Int) string { return esHead + b64(fixed(p256(), r, s)) }
	last := func(s string) string { // another spelling of the same bytes
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		return s[:len(s)-1] + string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])+1])
	}
	for _, tt := range []struct {
		id, token string
		want      verdict
	}{
		{"plain", good, allow},
		{"J16 flattened", `{"payload":"` + p + `","protected":"` + h + `","signature":"` + s + `"}`, bad},
		{"J16 general, two signatures", `{"payload":"` + p + `","signatures":[{"protected":"` + h + `","signature":"` + s + `"},{"protected":"` + h + `","signature":"` + s + `"}]}`, bad},
		{"J17 newline", good + "\n", bad},
		{"J17 newline inside", h + "." + p + ".\n" + s, bad},
		{"J17 padding", good + "=", bad},
		{"J17 four segments", good + ".", bad},
		{"J17 two segments", h + "." + p, bad},
		{"J17 empty header", "." + p + "." + s, bad},
		{"J17 empty payload", h + ".." + s, bad},
		{"J17 empty signature (J24)", h + "." + p + ".", bad},
		{"J17 trailing bits", last(good), bad},
		{"J17 alphabet", h + "." + p + "." + strings.NewReplacer("-", "+", "_", "/").Replace(s) + "/", bad},
		{"J18 dots", repeat(".", 1<<20), bad},
		{"J18 nested", b64([]byte(repeat("[", 8000))) + "." + p + "." + s, bad},
		{"J18 17 KiB", h + "." + b64([]byte(js(with(i.access(), "x", repeat("x", 13000))))) + "." + s, bad},
		{"J19 five parts", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA", bad},
		{"J20 ES256 with P-384 key", tok("ES256", `{"alg":"ES256","kid":"e1"}`, js(i.access()), p384()), bad},
		{"J20 DER", esHead + b64(der), bad},
		{"J20 zero", half(new(big.Int), new(big.Int)), bad},
		{"J20 r zero", half(new(big.Int), big.NewInt(1)), bad},
		{"J20 n", half(n, n), bad},
		{"J20 long", esHead + b64(make([]byte, 66)), bad},
		{"J24 cut", good[:len(good)-4], bad},
		{"J24 of another token", h + "." + b64([]byte(js(with(i.access(), "sub", "root")))) + "." + s, bad},
		{"J13 another key", tok("RS256", rs256, js(i.access()), rsaOther()), bad},
		{"opaque", "2YotnFZFEjr1zCsicMWpAA", bad},
	} {
		if got := judge(t, v, bearer(tt.token)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, got, tt.want)
		}
	}
	// Every truncation of a good token is refused.
	for cut := range len(good) {
		if got := judge(t, v, bearer(good[:cut])); got != bad {
			t.Fatalf("J24: the first %d bytes: %s", cut, got)
		}
	}
}

func digest(header, payload string) []byte {
	sum := sha256.Sum256([]byte(b64([]byte(header)) + "." + b64([]byte(payload))))
	return sum[:]
}

func TestJ21MalleableSignature(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	token := tok("ES256", es256, js(i.access()), p256())
	cut := strings.LastIndexByte(token, '.') + 1
	sig := must(base64.RawURLEncoding.DecodeString(token[cut:]))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	padded := append(append(append([]byte{}, sig[:32]...), 0), sig[32:]...)
	if got := judge(t, v, bearer(token[:cut]+b64(padded))); got != bad {
		t.Errorf("J20 s with a leading zero: %s", got)
	}
	twin := token[:cut] + b64(fixed(p256(), r, s.Sub(p256().Params().N, s)))
	if a, b := judge(t, v, bearer(token)), judge(t, v, bearer(twin)); a != allow || b != allow {
		t.Errorf("%s, %s: ECDSA is malleable; nothing may key on the bytes of a signature", a, b)
	}
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	keys := map[string]any{
		"RS256": rsaKey(), "RS384": rsaKey(), "RS512": rsaKey(), "PS256": rsaKey(), "PS384": rsaKey(), "PS512": rsaKey(),
		"ES256": p256(), "ES384": p384(), "ES512": p521(), "EdDSA": edKey(),
	}
	i.setKeys(jwk("r", "", rsaKey()), jwk("a", "", p256()), jwk("b", "", p384()), jwk("c", "", p521()), jwk("d", "", edKey()))
	kids := map[string]string{"RS": "r", "PS": "r", "ES256": "a", "ES384": "b", "ES512": "c", "Ed": "d"}
	for alg, key := range keys {
		v := i.verifier(func(c *oidc.VerifierConfig) { c.Algorithms = []string{alg} })
		kid := kids[alg[:2]] + kids[alg]
		header := `{"alg":"` + alg + `","kid":"` + kid + `"}`
		token := tok(alg, header, js(i.access()), key)
		if got := judge(t, v, bearer(token)); got != allow {
			t.Errorf("%s: %s", alg, got)
		}
		seg := strings.Split(token, ".")
		sig := must(base64.RawURLEncoding.DecodeString(seg[2]))
		sig[len(sig)/2] ^= 1
		if got := judge(t, v, bearer(seg[0]+"."+seg[1]+"."+b64(sig))); got != bad {
			t.Errorf("%s altered: %s", alg, got)
		}
	}
	// J22: S + L is another spelling of the same signature.
	v := i.verifier(func(c *oidc.VerifierConfig) { c.Algorithms = []string{"EdDSA"} })
	token := tok("EdDSA", `{"alg":"EdDSA","kid":"d"}`, js(i.access()), edKey())
	cut := strings.LastIndexByte(token, '.') + 1
	sig := must(base64.RawURLEncoding.DecodeString(token[cut:]))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	le := func(b []byte) []byte {
		out := make([]byte, len(b))
		for i := range b {
			out[len(b)-1-i] = b[i]
		}
		return out
	}
	s := new(big.Int).SetBytes(le(sig[32:]))
	copy(sig[32:], le(s.Add(s, order).FillBytes(make([]byte, 32))))
	if got := judge(t, v, bearer(token[:cut]+b64(sig))); got != bad {
		t.Errorf("J22 S+L: %s", got)
	}
}

// S7, S8, S12: the Authorization header.
func TestAuthorizationHeader(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	g := i.good()
	for _, tt := range []struct {
		lines []string
		want  verdict
	}{
		{nil, none},
		{[]string{"Bearer " + g}, allow},
		{[]string{"bearer " + g}, allow},
		{[]string{"BEARER " + g}, allow},
		{[]string{"Bearer  " + g}, bad},
		{[]string{"Bearer\t" + g}, bad},
		{[]string{" Bearer " + g}, bad},
		{[]string{"Bearer " + g + " "}, bad},
		{[]string{"Bearer " + g + ","}, bad},
		{[]string{"Bearer " + g + ", Bearer " + g}, bad},
		{[]string{"Bearer," + g}, bad},
		{[]string{"Bearer"}, bad},
		{[]string{"Bearer "}, bad},
		{[]string{"Bearer ="}, bad},
		{[]string{`Bearer "` + g + `"`}, bad},
		{[]string{"Bearer " + g, "Bearer " + g}, bad},
		{[]string{"Basic eDp5", "Bearer " + g}, bad},
		{[]string{"Basic eDp5"}, none},
		{[]string{"Bearerx " + g}, none},
		{[]string{"Bear"}, none},
		{[]string{""}, none},
		{[]string{"ＢEARER " + g}, none},
		{[]string{g}, none},
	} {
		if got := judge(t, v, lines(tt.lines...)); got != tt.want {
			t.Errorf("%.60q: %s, want %s", tt.lines, got, tt.want)
		}
	}
	r := lines()
	r.RawQuery = "access_token=" + g
	if got := judge(t, v, r); got != none {
		t.Errorf("S12: a token in the query: %s", got)
	}
}

func TestJ4TokensWithoutKID(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	token := tok("RS256", `{"alg":"RS256"}`, js(i.access()), rsaKey())
	for _, tt := range []struct {
		name string
		keys []any
		want verdict
	}{
		{"one", []any{jwk("k1", "RS256", rsaKey())}, allow},
		{"many, one verifies", []any{jwk("k1", "", rsaOther()), jwk("k2", "", rsaKey())}, allow},
		{"many, several verify", []any{jwk("k1", "", rsaKey()), jwk("k2", "", rsaKey())}, bad},
		{"none verifies", []any{jwk("k1", "", rsaOther())}, bad},
		{"too many", []any{jwk("1", "", rsaKey()), jwk("2", "", rsaOther()), jwk("3", "", rsaOther()), jwk("4", "", rsaOther()), jwk("5", "", rsaOther()), jwk("6", "", rsaOther()), jwk("7", "", rsaOther()), jwk("8", "", rsaOther()), jwk("9", "", rsaOther())}, bad},
	} {
		i.setKeys(tt.keys...)
		if got := judge(t, i.verifier(), bearer(token)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// K8, J13, J17 (L17): the unverified iss picks a configured issuer or nobody.
func TestVerifiersOfARule(t *testing.T) {
	t.Parallel()
	a, b := newIssuer(t), newIssuer(t)
	b.setKeys(jwk("k1", "RS256", rsaOther()))
	both := newRule(t, a.verifier(), b.verifier())
	ofB := func(key any) string { return tok("RS256", rs256, js(b.access()), key) }
	if got := judge(t, both, bearer(a.good())); got != allow {
		t.Errorf("issuer A: %s", got)
	}
	if got := judge(t, both, bearer(ofB(rsaOther()))); got != allow {
		t.Errorf("issuer B: %s", got)
	}
	if got := judge(t, both, bearer(ofB(rsaKey()))); got != bad {
		t.Errorf("J13 issuer B by A's key: %s", got)
	}
	canary := newIssuer(t)
	for _, iss := range []string{canary.URL, "http://169.254.169.254/", "http://127.0.0.1:6379/", ""} {
		if got := judge(t, both, bearer(tok("RS256", rs256, js(with(a.access(), "iss", iss)), rsaKey()))); got != bad {
			t.Errorf("K8 %q: %s", iss, got)
		}
	}
	if n := canary.count(pathDiscovery) + canary.count(pathJWKS); n != 0 {
		t.Errorf("K8: %d requests to an issuer that is not configured", n)
	}
	// Two providers of one issuer: each has its own audience.
	other := a.verifier(func(c *oidc.VerifierConfig) { c.Provider, c.Audiences = "corp2", []string{"other"} })
	id, err := newRule(t, other, a.verifier()).Authenticate(t.Context(), bearer(a.good()))
	if err != nil || id.Provider != "corp" {
		t.Errorf("%v, %v; want provider corp", id, err)
	}
}

// K4: keys too old to vouch for anything make a token uncertain, not bad, also
// one that was recognised before and one that another provider of its issuer refuses.
func TestK4CannotTellIsNotNo(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Now()
	clock := func() time.Time { return now }
	build := func(provider, aud string) *oidc.Verifier {
		keys := must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: i.URL + pathJWKS, HTTP: i.Client(), Now: clock, MaxStale: time.Minute}))
		return i.verifier(func(c *oidc.VerifierConfig) {
			c.Provider, c.Keys, c.Audiences, c.Now = provider, keys, []string{aud}, clock
		})
	}
	v := build("corp", "api")
	refusing := i.verifier(func(c *oidc.VerifierConfig) { c.Provider, c.Audiences = "corp2", []string{"other"} })
	if a, b := judge(t, v, bearer(i.good())), judge(t, refusing, bearer(i.good())); a != allow || b != bad {
		t.Fatal(a, b)
	}
	i.answer(pathJWKS, 503, "")
	now = now.Add(2 * time.Minute)
	for name, a := range map[string]authz.Authenticator{
		"alone": v, "before a refusal": newRule(t, v, refusing), "after a refusal": newRule(t, refusing, v),
	} {
		if got := judge(t, a, bearer(i.good())); got != unavailable {
			t.Errorf("%s: %s", name, got)
		}
	}
	i.answer(pathJWKS, 200, js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}))
	if got := judge(t, v, bearer(i.good())); got != allow {
		t.Errorf("after the outage: %s", got)
	}
}

// J28: what is cached is who, never whether, and not beyond exp or the key.
func TestJ28Cache(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Now()
	clock := func() time.Time { return now }
	keys := must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: i.URL + pathJWKS, HTTP: i.Client(), Now: clock}))
	build := func(aud string) *oidc.Verifier {
		return i.verifier(func(c *oidc.VerifierConfig) {
			c.Keys, c.Now, c.Audiences, c.CacheSize = keys, clock, []string{aud}, 4
		})
	}
	v := build("api")
	first, err := v.Authenticate(t.Context(), bearer(i.good()))
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Authenticate(t.Context(), bearer(i.good()))
	if err != nil || again != first {
		t.Errorf("the second time: %p, %v; want the cached %p", again, err, first)
	}
	if got := judge(t, build("api-admin"), bearer(i.good())); got != bad {
		t.Errorf("J28 another audience: %s", got)
	}

	es := tok("ES256", es256, js(i.access()), p256())
	if got := judge(t, v, bearer(es)); got != allow {
		t.Fatal(got)
	}
	// The key k1 is taken back; e1 stays.
	i.setKeys(jwk("e1", "ES256", p256()), jwk("k2", "RS256", rsaOther()))
	if got := judge(t, v, bearer(tok("RS256", `{"alg":"RS256","kid":"k2"}`, js(i.access()), rsaOther()))); got != allow {
		t.Fatal(got)
	}
	if got := judge(t, v, bearer(i.good())); got != bad {
		t.Errorf("J28 K3 after its key was taken back: %s", got)
	}
	before := i.count(pathJWKS)
	if got := judge(t, v, bearer(es)); got != allow {
		t.Errorf("a token whose key stayed: %s", got)
	}
	if n := i.count(pathJWKS); n != before {
		t.Errorf("%d more readings of the keys", n-before)
	}
	now = now.Add(time.Hour + 61*time.Second)
	if got := judge(t, v, bearer(es)); got != bad {
		t.Errorf("J28 after exp: %s", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier(func(c *oidc.VerifierConfig) { c.CacheSize = 8 })
	for n := range 100 {
		if got := judge(t, v, bearer(tok("ES256", es256, js(with(i.access(), "jti", n)), p256()))); got != allow {
			t.Fatal(got)
		}
	}
	if n := v.CacheLen(); n > 8 {
		t.Errorf("%d identities cached, want at most 8", n)
	}
}

func TestMaxLifetime(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier(func(c *oidc.VerifierConfig) { c.MaxLifetime = 30 * time.Minute })
	if got := judge(t, v, bearer(i.good())); got != bad {
		t.Errorf("J9 an hour: %s", got)
	}
	short := with(i.access(), "exp", time.Now().Add(20*time.Minute).Unix())
	if got := judge(t, v, bearer(tok("RS256", rs256, js(short), rsaKey()))); got != allow {
		t.Errorf("J9 20 minutes: %s", got)
	}
	if got := judge(t, v, bearer(tok("RS256", rs256, js(without(short, "iat")), rsaKey()))); got != bad {
		t.Errorf("J9 without iat: %s", got)
	}
}

// N2: what must not start.
func TestNewVerifierRefuses(t *testing.T) {
	t.Parallel()
	keys := must(oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: "ES256", Data: pemOf(p256().Public())}))
	good := oidc.VerifierConfig{Issuer: "https://a.test", Audiences: []string{"api"}, Keys: keys}
	if _, err := oidc.NewVerifier(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*oidc.VerifierConfig){
		"no audience":    func(c *oidc.VerifierConfig) { c.Audiences = nil },
		"empty audience": func(c *oidc.VerifierConfig) { c.Audiences = []string{"api", ""} },
		"no issuer":      func(c *oidc.VerifierConfig) { c.Issuer = "" },
		"no keys":        func(c *oidc.VerifierConfig) { c.Keys = nil },
		"none":           func(c *oidc.VerifierConfig) { c.Algorithms = []string{"none"} },
		"HS256":          func(c *oidc.VerifierConfig) { c.Algorithms = []string{"RS256", "HS256"} },
		"skew":           func(c *oidc.VerifierConfig) { c.Skew = -time.Second },
		"age":            func(c *oidc.VerifierConfig) { c.MaxAge = -time.Second },
		"empty name":     func(c *oidc.VerifierConfig) { c.AlsoIssuers = []string{""} },
	} {
		c := good
		change(&c)
		if _, err := oidc.NewVerifier(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func pemOf(public any) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))})
}

var _ http.Handler = (*issuer)(nil)
