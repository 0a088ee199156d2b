package oidc_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// K5, J20, J22, J23: what a JWK Set may hold.
func TestK5JWKS(t *testing.T) {
	t.Parallel()
	good := jwk("good", "RS256", rsaKey())
	ec := jwk("ec", "", p256())
	ed := jwk("ed", "EdDSA", edKey())
	big := func(bits int) map[string]any {
		n := new(big.Int).SetBit(new(big.Int), bits-1, 1)
		n.SetBit(n, 0, 1)
		return map[string]any{"kty": "RSA", "kid": "big", "n": b64(n.Bytes()), "e": "AQAB"}
	}
	small := func(y string) map[string]any {
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "small", "x": b64(must(hex.DecodeString(y)))}
	}
	for name, tt := range map[string]struct {
		entry any
		ok    bool
	}{
		"RSA":                {jwk("k", "RS256", rsaKey()), true},
		"no alg, no kid":     {jwk("", "", rsaKey()), true},
		"use sig":            {with(good, "use", "sig"), true},
		"key_ops verify":     {with(good, "key_ops", []any{"verify"}), true},
		"x5c is not read":    {with(good, "x5c", []any{"junk"}), true},
		"EC":                 {ec, true},
		"Ed25519":            {ed, true},
		"use enc":            {with(good, "use", "enc"), false},
		"use number":         {with(good, "use", 1), false},
		"key_ops sign":       {with(good, "key_ops", []any{"sign"}), false},
		"key_ops empty":      {with(good, "key_ops", []any{}), false},
		"key_ops string":     {with(good, "key_ops", "verify"), false},
		"oct":                {map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "o", "alg": "HS256"}, false},
		"private RSA":        {with(good, "d", "AQAB"), false},
		"private EC":         {with(ec, "d", "AQAB"), false},
		"alg HS256":          {with(good, "alg", "HS256"), false},
		"alg none":           {with(good, "alg", "none"), false},
		"alg RSA-OAEP":       {with(good, "alg", "RSA-OAEP"), false},
		"alg of another kty": {with(good, "alg", "ES256"), false},
		"alg of another crv": {with(ec, "alg", "ES384"), false},
		"kid number":         {with(good, "kid", 1), false},
		"kid long":           {with(good, "kid", repeat("k", 300)), false},
		"kty missing":        {without(good, "kty"), false},
		"kty unknown":        {with(good, "kty", "AKP"), false},
		"n missing":          {without(good, "n"), false},
		"n with a newline":   {with(good, "n", good["n"].(string)[:40]+"\n"+good["n"].(string)[40:]), false},
		"n padded":           {with(good, "n", good["n"].(string)+"=="), false},
		"J23 1024 bits":      {jwk("w", "RS256", rsaWeak()), false},
		"J23 8192 bits":      {big(8192), true},
		"J23 8193 bits":      {big(8193), false},
		"J23 16384 bits":     {big(16384), false},
		"J23 e=1":            {with(good, "e", "AQ"), false},
		"J23 e even":         {with(good, "e", "Ag"), false},
		"J23 e cut to 65537": {with(good, "e", b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})), false},
		"J20 off the curve":  {with(ec, "x", b64(make([]byte, 32))), false},
		"J20 short":          {with(ec, "x", "AQ"), false},
		"curve unknown":      {with(ec, "crv", "secp256k1"), false},
		"X25519":             {with(ed, "crv", "X25519"), false},
		"Ed25519 short":      {with(ed, "x", "AQ"), false},
		"J22 order 1":        {small("0100000000000000000000000000000000000000000000000000000000000000"), false},
		"J22 order 2":        {small("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), false},
		"J22 order 4":        {small("0000000000000000000000000000000000000000000000000000000000000080"), false},
		"J22 order 8":        {small("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), false},
		"J22 order 8 too":    {small("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"), false},
		"J22 not canonical":  {small("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), false},
		"a string":           {"key", false},
		"null":               {nil, false},
	} {
		usable, skipped, err := oidc.ParseKeys([]byte(js(map[string]any{"keys": []any{jwk("other", "ES384", p384()), tt.entry}})))
		want := 1
		if tt.ok {
			want = 2
		}
		if err != nil || usable != want || skipped != 2-want {
			t.Errorf("%s: %d usable, %d skipped, %v; want %d usable", name, usable, skipped, err, want)
		}
	}
	for name, tt := range map[string]struct {
		keys   []any
		usable int // 0: an error
	}{
		"K5 one kid, two keys": {[]any{jwk("k", "", rsaKey()), jwk("k", "", rsaOther()), ec}, 1},
		"one kid, two kinds":   {[]any{jwk("k", "", rsaKey()), jwk("k", "", p256())}, 2},
		"one kid, two algs":    {[]any{jwk("k", "RS256", rsaKey()), jwk("k", "PS256", rsaKey())}, 2},
		"the same twice":       {[]any{good, good}, 1},
		"K5 empty":             {[]any{}, 0},
		"K5 nothing usable":    {[]any{with(good, "use", "enc")}, 0},
	} {
		usable, _, err := oidc.ParseKeys([]byte(js(map[string]any{"keys": tt.keys})))
		if usable != tt.usable || (err == nil) != (tt.usable > 0) {
			t.Errorf("%s: %d usable, %v; want %d", name, usable, err, tt.usable)
		}
	}
	many := make([]any, 300)
	for n := range many {
		many[n] = jwk(fmt.Sprint("k", n), "", p256())
	}
	if usable, skipped, err := oidc.ParseKeys([]byte(js(map[string]any{"keys": many}))); usable != 100 || skipped != 200 || err != nil {
		t.Errorf("300 keys: %d usable, %d skipped, %v", usable, skipped, err)
	}
	for _, document := range []string{``, `null`, `[]`, `{}`, `{"keys":null}`, `{"keys":{}}`, `{"Keys":[]}`, `{"keys":[],"keys":[]}`, `{"keys":[`, `<html>`} {
		if n, _, err := oidc.ParseKeys([]byte(document)); err == nil {
			t.Errorf("%q: %d keys", document, n)
		}
	}
}

// K12: one algorithm per key.
func TestK12KeyAlgorithm(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.setKeys(jwk("k1", "PS256", rsaKey()))
	v := i.verifier(func(c *oidc.VerifierConfig) { c.Algorithms = []string{"RS256", "PS256"} })
	if got := judge(t, v, bearer(i.good())); got != bad {
		t.Errorf("RS256 by a PS256 key: %s", got)
	}
	if got := judge(t, v, bearer(tok("PS256", `{"alg":"PS256","kid":"k1"}`, js(i.access()), rsaKey()))); got != allow {
		t.Errorf("PS256 by a PS256 key: %s", got)
	}
	if n := i.count(pathJWKS); n != 1 {
		t.Errorf("%d readings; a known kid causes none", n)
	}
}

// K1: junk tokens can not make us flood a provider, nor lock good ones out.
func TestK1UnknownKID(t *testing.T) {
	_, _ = rsaKey(), rsaOther()
	synctest.Test(t, func(t *testing.T) {
		tr, client := fakeNetwork()
		i := &issuer{Server: &httptest.Server{URL: "https://idp.test"}, t: t}
		keys := must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: "https://idp.test" + pathJWKS, HTTP: client}))
		v := i.verifier(func(c *oidc.VerifierConfig) { c.Keys = keys })
		good := i.good()
		if got := judge(t, v, bearer(good)); got != allow {
			t.Fatal(got)
		}
		seen := map[verdict]int{}
		junk := func(n int) string {
			return tok("ES256", fmt.Sprintf(`{"alg":"ES256","kid":"junk-%d"}`, n), js(i.access()), p256())
		}
		for n := range 300 {
			seen[judge(t, v, bearer(junk(n)))]++
			// What fails a cheap check does not cause a reading at all.
			judge(t, v, bearer(tok("ES256", `{"alg":"ES256","kid":"junk"}`, js(with(i.access(), "exp", 1)), p256())))
			judge(t, v, bearer(tok("PS256", `{"alg":"PS256","kid":"junk"}`, js(i.access()), rsaKey())))
		}
		tr.set(func() {
			if n := tr.hits[pathJWKS]; n != 5 {
				t.Errorf("%d readings, want 5: the first and what the bucket allows", n)
			}
		})
		// Four were told for certain; then it can not be told.
		if seen[bad] != 4 || seen[unavailable] != 296 {
			t.Errorf("verdicts = %v", seen)
		}
		if got := judge(t, v, bearer(good)); got != allow {
			t.Errorf("a good token meanwhile: %s", got)
		}
		// K2: after a rotation the first token gets in as soon as the bucket allows.
		tr.set(func() { tr.answers[pathJWKS] = js(map[string]any{"keys": []any{jwk("k2", "RS256", rsaOther())}}) })
		rotated := tok("RS256", `{"alg":"RS256","kid":"k2"}`, js(i.access()), rsaOther())
		if got := judge(t, v, bearer(rotated)); got != unavailable {
			t.Errorf("with an empty bucket: %s", got)
		}
		time.Sleep(31 * time.Second)
		if got := judge(t, v, bearer(rotated)); got != allow {
			t.Errorf("30 s later: %s", got)
		}
	})
}

// What is asked of Refresh: any keys, or those of a reading that begins now.
func whatever(*oidc.KeySet) bool { return true }
func newer(*oidc.KeySet) bool    { return false }

// K3 to K7: taken back, down, redirected, huge.
func TestRemoteKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	keys := must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: i.URL + pathJWKS, HTTP: i.Client(), Now: clock, MaxStale: time.Hour}))
	if keys.Current() != nil {
		t.Fatal("keys before they were read")
	}
	first, err := keys.Refresh(t.Context(), whatever)
	if err != nil || first.Len() != 2 {
		t.Fatal(first, err)
	}
	again, err := keys.Refresh(t.Context(), newer)
	if err != nil || again != first {
		t.Errorf("equal keys: another set of generation %d, %v", again.Generation(), err)
	}
	if got, err := keys.Refresh(t.Context(), whatever); got != first || err != nil || i.count(pathJWKS) != 2 {
		t.Errorf("newer keys than none are there: %v, %v after %d readings", got, err, i.count(pathJWKS))
	}
	advance := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	for name, h := range map[string]http.HandlerFunc{
		"K4 down":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"K6 redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, i.URL+"/good", http.StatusFound) },
		"K7 bomb":     func(w http.ResponseWriter, _ *http.Request) { bomb(w) },
		"K5 10 MB":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, repeat(" ", 10<<20)) },
		"garbage":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "{")
		},
	} {
		i.handle("/good", func(http.ResponseWriter, *http.Request) { t.Error("K6: a redirect was followed") })
		i.handle(pathJWKS, h)
		advance(time.Minute)
		if set, err := keys.Refresh(t.Context(), newer); !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s: %v, %v", name, set, err)
		}
		if keys.Current() != first {
			t.Errorf("%s: the last good set is gone", name)
		}
		if keys.Status().Failure == nil {
			t.Errorf("%s: no word of it", name)
		}
	}
	advance(time.Hour)
	if keys.Current() != nil {
		t.Error("K4: keys serve beyond max-stale")
	}
	v := i.verifier(func(c *oidc.VerifierConfig) { c.Keys = keys })
	if got := judge(t, v, bearer(i.good())); got != unavailable {
		t.Errorf("K4 beyond max-stale: %s", got)
	}
	i.answer(pathJWKS, 200, js(map[string]any{"keys": []any{jwk("k2", "RS256", rsaOther())}}))
	advance(time.Minute)
	second, err := keys.Refresh(t.Context(), newer)
	if err != nil || second.Generation() == first.Generation() || second.Len() != 1 {
		t.Errorf("after the outage: %v, %v", second, err)
	}
	if got := judge(t, v, bearer(i.good())); got != bad {
		t.Errorf("K3 a key that was taken back: %s", got)
	}
}

// K4 at start: 503, and 200 once the keys can be read.
func TestK4DownAtStart(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.answer(pathJWKS, 500, "")
	v := i.verifier()
	if got := judge(t, v, bearer(i.good())); got != unavailable {
		t.Errorf("down: %s", got)
	}
	i.answer(pathJWKS, 200, js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}))
	if got := judge(t, v, bearer(i.good())); got != allow {
		t.Errorf("up: %s", got)
	}
}

// K11: a thousand at once, one reading. K10: a slow issuer holds nobody else up,
// and its own callers only as long as they have patience.
func TestK11OneReading(t *testing.T) {
	t.Parallel()
	slow, fast := newIssuer(t), newIssuer(t)
	release := make(chan struct{})
	slow.handle(pathJWKS, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}))
	})
	v := slow.verifier()
	both := newRule(t, v, fast.verifier())
	token := bearer(slow.good())
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if _, err := both.Authenticate(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	began := time.Now()
	if got := judge(t, both, bearer(fast.good())); got != allow || time.Since(began) > 5*time.Second {
		t.Errorf("K10: %s after %v", got, time.Since(began))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := v.Authenticate(ctx, token); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("no patience: %v", err)
	}
	close(release)
	wg.Wait()
	if n := slow.count(pathJWKS); n != 1 {
		t.Errorf("%d readings, want 1", n)
	}
}

func TestKeysInterval(t *testing.T) {
	_ = rsaKey()
	for _, tt := range []struct {
		header   string
		min, max int // readings in a day
	}{
		{"", 144, 193},
		{"public, max-age=1800", 48, 65},
		{"max-age=0", 1440, 1930},
		{"max-age=31536000", 24, 33},
		{"max-age=99999999999999999999", 24, 33},
		{"Max-Age=-5", 144, 193},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr, client := fakeNetwork()
			tr.header = http.Header{"Cache-Control": {tt.header}}
			keys := must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: "https://idp.test" + pathJWKS, HTTP: client}))
			ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
			defer stop()
			if err := keys.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if n := tr.hits[pathJWKS]; n < tt.min || n > tt.max {
				t.Errorf("%q: %d readings in a day, want %d to %d", tt.header, n, tt.min, tt.max)
			}
		})
	}
}

func TestStaticKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	keys, err := oidc.NewStaticKeys(
		oidc.StaticKey{KID: "vicmet", Alg: "ES256", Data: pemOf(p256().Public())},
		oidc.StaticKey{KID: "k1", Alg: "RS256", Data: []byte(" " + js(jwk("other", "", rsaKey())) + "\n")},
	)
	if err != nil {
		t.Fatal(err)
	}
	v := i.verifier(func(c *oidc.VerifierConfig) { c.Keys = keys })
	if got := judge(t, v, bearer(i.good())); got != allow {
		t.Errorf("JWK: %s", got)
	}
	if got := judge(t, v, bearer(tok("ES256", `{"alg":"ES256","kid":"vicmet"}`, js(i.access()), p256()))); got != allow {
		t.Errorf("PEM: %s", got)
	}
	if got := judge(t, v, bearer(tok("ES256", `{"alg":"ES256","kid":"nobody"}`, js(i.access()), p256()))); got != bad {
		t.Errorf("unknown kid: %s", got)
	}
	block := func(typ string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	if _, err := oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: "RS256", Data: block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey))}); err != nil {
		t.Errorf("PKCS #1: %v", err)
	}
	for name, k := range map[string]oidc.StaticKey{
		"private":           {KID: "k", Alg: "ES256", Data: block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256())))},
		"private PKCS #8":   {KID: "k", Alg: "ES256", Data: block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(p256())))},
		"no alg":            {KID: "k", Data: pemOf(p256().Public())},
		"JWK without alg":   {KID: "k", Data: []byte(js(jwk("", "", p256())))},
		"JWK of other alg":  {KID: "k", Alg: "ES384", Data: []byte(js(jwk("", "ES256", p256())))},
		"alg of other kind": {KID: "k", Alg: "RS256", Data: pemOf(p256().Public())},
		"alg of other crv":  {KID: "k", Alg: "ES256", Data: pemOf(p384().Public())},
		"HS256":             {KID: "k", Alg: "HS256", Data: pemOf(p256().Public())},
		"weak":              {KID: "k", Alg: "RS256", Data: pemOf(rsaWeak().Public())},
		"two blocks":        {KID: "k", Alg: "ES256", Data: append(pemOf(p256().Public()), pemOf(p256B().Public())...)},
		"empty":             {KID: "k", Alg: "ES256"},
		"text":              {KID: "k", Alg: "ES256", Data: []byte("secret")},
		"small order":       {KID: "k", Alg: "EdDSA", Data: pemOf(ed25519.PublicKey(make([]byte, 32)))},
		"e=1":               {KID: "k", Alg: "RS256", Data: pemOf(&rsa.PublicKey{N: rsaKey().N, E: 1})},
	} {
		if _, err := oidc.NewStaticKeys(k); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v shows what is in the file", name, err)
		}
	}
	twice := oidc.StaticKey{KID: "k", Alg: "ES256", Data: pemOf(p256().Public())}
	other := oidc.StaticKey{KID: "k", Alg: "ES256", Data: pemOf(p256B().Public())}
	if _, err := oidc.NewStaticKeys(twice, other); err == nil {
		t.Error("two keys of one kid: accepted")
	}
	if _, err := oidc.NewStaticKeys(); err == nil {
		t.Error("no key: accepted")
	}
}

func TestNewRemoteKeysRefuses(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "http://idp.test/jwks", "file:///etc/passwd", "/jwks", "https://a:b@idp.test/jwks"} {
		if _, err := oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: u}); err == nil {
			t.Errorf("%q: accepted", u)
		}
	}
}
