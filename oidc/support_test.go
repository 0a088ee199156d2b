package oidc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// Keys are made once: RSA is slow.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	rsaOther = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	rsaWeak  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	p256     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p256B    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return must(k, err)
	})
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tok signs the exact bytes given, so that duplicates and odd spellings survive.
func tok(alg, header, payload string, key any) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(sign(alg, signed, key))
}

func sign(alg, signed string, key any) []byte {
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	hash := hashes[alg[2:]]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		h.Write([]byte(signed))
		digest = h.Sum(nil)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if alg[:2] == "PS" {
			return must(rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(nil, k, hash, digest))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			panic(err)
		}
		return fixed(k, r, s)
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(signed))
	case []byte:
		m := hmac.New(hash.New, k)
		m.Write([]byte(signed))
		return m.Sum(nil)
	}
	panic("unknown key")
}

func fixed(k *ecdsa.PrivateKey, r, s *big.Int) []byte {
	n := (k.Params().BitSize + 7) / 8
	return append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
}

func jwk(kid, alg string, key crypto.Signer) map[string]any {
	m := map[string]any{}
	if kid != "" {
		m["kid"] = kid
	}
	if alg != "" {
		m["alg"] = alg
	}
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point := must(k.Bytes())[1:]
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Params().Name, b64(point[:len(point)/2]), b64(point[len(point)/2:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	return m
}

func with(m map[string]any, name string, v any) map[string]any {
	m = maps.Clone(m)
	m[name] = v
	return m
}

func without(m map[string]any, name string) map[string]any {
	m = maps.Clone(m)
	delete(m, name)
	return m
}

func js(v any) string { return string(must(json.Marshal(v))) }

// issuer is a provider whose every answer a test can replace.
type issuer struct {
	*httptest.Server
	t    *testing.T
	hits map[string]*atomic.Int64 // by path

	mu       sync.Mutex // guards the fields below
	handlers map[string]http.HandlerFunc
	jwks     []any
	claims   map[string]any // of the next ID token
	header   string
	key      any
	alg      string
	form     map[string][]string // of the last token request
	auth     [2]string           // of the last token request
}

const (
	pathDiscovery = "/.well-known/openid-configuration"
	pathJWKS      = "/jwks"
	pathToken     = "/token"
	pathUserinfo  = "/userinfo"
	pathRevoke    = "/revoke"
)

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, handlers: map[string]http.HandlerFunc{}, hits: map[string]*atomic.Int64{}}
	for _, p := range []string{pathDiscovery, pathJWKS, pathToken, pathUserinfo, pathRevoke} {
		i.hits[p] = new(atomic.Int64)
	}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	i.alg, i.key, i.header = "RS256", rsaKey(), `{"alg":"RS256","kid":"k1","typ":"JWT"}`
	i.jwks = []any{jwk("k1", "RS256", rsaKey()), jwk("e1", "ES256", p256())}
	i.handle(pathDiscovery, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, js(i.metadata())) })
	i.handle(pathJWKS, func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		fmt.Fprint(w, js(map[string]any{"keys": i.jwks}))
	})
	i.handle(pathToken, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, js(i.tokens())) })
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n, ok := i.hits[r.URL.Path]; ok {
		n.Add(1)
	}
	if r.Method == http.MethodPost {
		_ = r.ParseForm()
		i.mu.Lock()
		i.form = r.PostForm
		i.auth[0], i.auth[1], _ = r.BasicAuth()
		i.mu.Unlock()
	}
	i.mu.Lock()
	h := i.handlers[r.URL.Path]
	i.mu.Unlock()
	if h == nil {
		http.NotFound(w, r)
		return
	}
	h(w, r)
}

func (i *issuer) handle(path string, h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handlers[path] = h
}

func (i *issuer) answer(path string, status int, body string) {
	i.handle(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

func (i *issuer) setKeys(keys ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.jwks = keys
}

func (i *issuer) count(path string) int { return int(i.hits[path].Load()) }

func (i *issuer) metadata() map[string]any {
	return map[string]any{
		"issuer":                 i.URL,
		"authorization_endpoint": i.URL + "/authorize",
		"token_endpoint":         i.URL + pathToken,
		"jwks_uri":               i.URL + pathJWKS,
		"userinfo_endpoint":      i.URL + pathUserinfo,
		"end_session_endpoint":   i.URL + "/end",
		"revocation_endpoint":    i.URL + pathRevoke,
	}
}

const (
	clientID = "mesh"
	secret   = "s3cr&t +%"
	nonce    = "n-0S6_WzA2Mj"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	callback = "https://app.test/oauth2/callback"
)

// base are the claims of a good ID token.
func (i *issuer) base() map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": i.URL, "sub": "alice", "aud": clientID, "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(),
		"nonce": nonce, "email": "alice@good.test", "email_verified": true, "groups": []string{"staff"},
	}
}

func (i *issuer) tokens() map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	claims := i.claims
	if claims == nil {
		claims = i.base()
	}
	return map[string]any{
		"access_token": "at-1", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt-1",
		"id_token": tok(i.alg, i.header, js(claims), i.key),
	}
}

func (i *issuer) client() *oidc.ClientConfig {
	return &oidc.ClientConfig{ID: clientID, Secret: func() (string, error) { return secret, nil }, Scopes: []string{"email"}}
}

func (i *issuer) provider(change ...func(*oidc.ProviderConfig)) *oidc.Provider {
	i.t.Helper()
	cfg := oidc.ProviderConfig{Name: "corp", Issuer: i.URL, Client: i.client(), HTTP: i.Client()}
	for _, c := range change {
		c(&cfg)
	}
	p, err := oidc.NewProvider(cfg)
	if err != nil {
		i.t.Fatal(err)
	}
	return p
}

func exchange(ctx context.Context, p *oidc.Provider) (*oidc.Grant, error) {
	return p.Exchange(ctx, "code-1", verifier, callback, nonce)
}

func (i *issuer) verifier(change ...func(*oidc.VerifierConfig)) *oidc.Verifier {
	i.t.Helper()
	cfg := oidc.VerifierConfig{Provider: "corp", Issuer: i.URL, Audiences: []string{"api"}, LoginClientIDs: []string{clientID, "mesh-2"}}
	for _, c := range change {
		c(&cfg)
	}
	if cfg.Keys == nil {
		cfg.Keys = must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: i.URL + pathJWKS, HTTP: i.Client()}))
	}
	v, err := oidc.NewVerifier(cfg)
	if err != nil {
		i.t.Fatal(err)
	}
	return v
}

// access are the claims of a good access token.
func (i *issuer) access() map[string]any {
	now := time.Now()
	return map[string]any{"iss": i.URL, "sub": "alice", "aud": "api", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "scope": "read"}
}

// good is a good access token.
func (i *issuer) good() string { return tok("RS256", rs256, js(i.access()), rsaKey()) }

const (
	rs256 = `{"alg":"RS256","kid":"k1","typ":"at+jwt"}`
	es256 = `{"alg":"ES256","kid":"e1"}`
)

func bearer(token string) *authz.Request { return lines("Bearer " + token) }

func lines(values ...string) *authz.Request {
	r := &authz.Request{Method: "GET", Host: "api.test", Path: "/v1/x"}
	for _, v := range values {
		r.Header = append(r.Header, authz.Field{Name: "authorization", Value: v})
	}
	return r
}

func repeat(s string, n int) string { return strings.Repeat(s, n) }
