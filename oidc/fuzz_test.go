package oidc_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// fuzzVerifier has static keys and a clock that stands still.
func fuzzVerifier(tb testing.TB) (v *oidc.Verifier, claims string, now time.Time) {
	tb.Helper()
	keys := must(oidc.NewStaticKeys(
		oidc.StaticKey{KID: "e1", Alg: "ES256", Data: pemOf(p256().Public())},
		oidc.StaticKey{KID: "k1", Alg: "RS256", Data: pemOf(rsaKey().Public())},
	))
	now = time.Unix(1_800_000_000, 0)
	v = must(oidc.NewVerifier(oidc.VerifierConfig{
		Provider: "corp", Issuer: "https://idp.test", Audiences: []string{"api"}, Keys: keys,
		Now: func() time.Time { return now },
	}))
	return v, `{"iss":"https://idp.test","sub":"alice","aud":"api","exp":1800000300,"iat":1800000000}`, now
}

// FuzzJWT: no panic; what was not signed here is never accepted, and a token has
// one spelling only.
func FuzzJWT(f *testing.F) {
	v, claims, _ := fuzzVerifier(f)
	minted := map[string]bool{}
	for _, header := range []string{es256, `{"alg":"ES256"}`, `{"alg":"ES256","kid":"e1","typ":"at+jwt"}`} {
		token := tok("ES256", header, claims, p256())
		minted[token] = true
		f.Add(token)
	}
	token := tok("RS256", `{"alg":"RS256","kid":"k1"}`, claims, rsaKey())
	minted[token] = true
	for _, seed := range []string{
		token, token + "\n", token + "=", token[:len(token)-1], "..", "...", "e30.e30.e30", "a.b.c", "",
		tok("HS256", `{"alg":"HS256","kid":"k1"}`, claims, []byte("secret")),
		b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(claims)) + ".",
		b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(claims)) + ".e30",
		`{"payload":"e30","protected":"e30","signature":"e30"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Authenticate(context.Background(), bearer(token))
		if err == nil {
			// (r, n-s) also verifies (J21): only the signature may differ.
			known := false
			for m := range minted {
				known = known || m[:strings.LastIndexByte(m, '.')] == token[:strings.LastIndexByte(token, '.')]
			}
			if !known || id.Subject != "alice" {
				t.Fatalf("accepted %q as %+v", token, id)
			}
			return
		}
		if id != nil || !errors.Is(err, authz.ErrBadCredentials) && !errors.Is(err, authz.ErrNoCredentials) {
			t.Fatalf("%v, %v", id, err)
		}
	})
}

// FuzzClaims signs whatever payload comes: who is accepted must be who a second
// opinion, go-oidc, reads too, unless the payload plays with member names.
func FuzzClaims(f *testing.F) {
	v, claims, now := fuzzVerifier(f)
	second := gooidc.NewVerifier("https://idp.test", &gooidc.StaticKeySet{PublicKeys: []crypto.PublicKey{p256().Public()}}, &gooidc.Config{
		ClientID: "api", SupportedSigningAlgs: []string{string(jose.ES256)}, Now: func() time.Time { return now.Add(-time.Minute) }, // our skew
	})
	f.Add(claims)
	f.Add(strings.Replace(claims, `"sub":"alice"`, `"sub":"alice","SUB":"victim"`, 1))
	f.Add(strings.Replace(claims, `"sub":"alice"`, `"sub":"alice","sub":"victim"`, 1))
	f.Add(strings.Replace(claims, `"aud":"api"`, `"aud":["x","api"],"groups":["a"]`, 1))
	f.Add(strings.Replace(claims, `1800000300`, `1.8000003e9`, 1))
	f.Fuzz(func(t *testing.T, payload string) {
		token := tok("ES256", es256, payload, p256())
		id, err := v.Authenticate(context.Background(), bearer(token))
		if err != nil {
			return
		}
		other, err := second.Verify(context.Background(), token)
		if err != nil {
			if plain(id.Claims) {
				t.Fatalf("accepted %s as %+v; go-oidc: %v", payload, id, err)
			}
			return
		}
		if plain(id.Claims) && (other.Subject != id.Subject || other.Issuer != id.Issuer) {
			t.Fatalf("%s is %q for us and %q for go-oidc", payload, id.Subject, other.Subject)
		}
	})
}

// plain reports whether no member looks like another to encoding/json, and none
// has a form that only one of the two readers takes.
func plain(c authz.Claims) bool {
	for name := range c {
		for _, known := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "_claim_names", "_claim_sources"} {
			if strings.EqualFold(name, known) && (name != known || strings.HasPrefix(known, "_") || known == "nonce" || known == "at_hash") {
				return false
			}
		}
	}
	return true
}

// FuzzProfile signs whatever payload comes, for a verifier with every bound there
// is: what is accepted keeps each of them, also the second time, out of the cache.
func FuzzProfile(f *testing.F) {
	keys := must(oidc.NewStaticKeys(oidc.StaticKey{KID: "e1", Alg: "ES256", Data: pemOf(p256().Public())}))
	now := time.Unix(1_800_000_000, 0)
	v := must(oidc.NewVerifier(oidc.VerifierConfig{
		Provider: "corp", Issuer: "https://idp.test", AlsoIssuers: []string{"https://old.test"}, Audiences: []string{"api"}, Keys: keys,
		RFC9068: true, MaxAge: time.Hour, MaxLifetime: 2 * time.Hour, LoginClientIDs: []string{"mesh"}, Now: func() time.Time { return now },
	}))
	good := `{"iss":"https://idp.test","sub":"alice","aud":"api","exp":1800000300,"iat":1800000000,"jti":"1","client_id":"c"}`
	f.Add(good)
	for _, change := range [][2]string{
		{"https://idp.test", "https://old.test"},
		{`"api"`, `["api","mesh"]`},
		{"1800000000", "1799990000"},
		{"1800000300", "1.9e9"},
		{`"jti":"1"`, `"jti":""`},
		{`"client_id":"c"`, `"CLIENT_ID":"c"`},
		{`"alice"`, `"\u0061lice","cnf":null`},
	} {
		f.Add(strings.Replace(good, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		r := bearer(tok("ES256", `{"alg":"ES256","kid":"e1","typ":"at+jwt"}`, payload, p256()))
		id, err := v.Authenticate(context.Background(), r)
		again, errAgain := v.Authenticate(context.Background(), r)
		if id != again || (err == nil) != (errAgain == nil) {
			t.Fatalf("%v, %v; the second time %v, %v", id, err, again, errAgain)
		}
		if err != nil {
			if id != nil || !errors.Is(err, authz.ErrBadCredentials) {
				t.Fatalf("%v, %v", id, err)
			}
			return
		}
		iss, _ := id.Claims["iss"].(string)
		client, _ := id.Claims["client_id"].(string)
		jti, _ := id.Claims["jti"].(string)
		iat, _ := id.Claims["iat"].(json.Number)
		issued, _ := iat.Float64()
		bound := slices.Contains(id.Audience, "mesh") || id.Claims["cnf"] != nil
		if iss != "https://idp.test" && iss != "https://old.test" || id.Issuer != "https://idp.test" || client == "" || jti == "" || id.Subject == "" || bound ||
			!slices.Contains(id.Audience, "api") || issued < 1_800_000_000-3660 || issued > 1_800_000_060 || id.Expires.Sub(time.Unix(int64(issued), 0)) > 2*time.Hour+time.Second {
			t.Fatalf("accepted %s as %+v", payload, id)
		}
	})
}

// FuzzStaticKey: no panic; whatever the file holds, it is one key of the algorithm
// that was asked for, or none.
func FuzzStaticKey(f *testing.F) {
	f.Add(pemOf(p256().Public()))
	f.Add([]byte(strings.ReplaceAll(string(pemOf(p256().Public())), "PUBLIC KEY", "EC PUBLIC KEY")))
	f.Add(pemOf(rsaKey().Public()))
	f.Add([]byte(js(jwk("k", "ES256", p256()))))
	f.Add([]byte(js(with(jwk("k", "", p256()), "d", "AQAB"))))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := oidc.NewStaticKeys(oidc.StaticKey{KID: "k", Alg: "ES256", Data: data})
		if (err == nil) != (keys != nil) || keys != nil && keys.Current().Len() != 1 {
			t.Fatalf("%v, %v", keys, err)
		}
	})
}

// FuzzJWKS: no panic; what is usable is counted right.
func FuzzJWKS(f *testing.F) {
	f.Add([]byte(js(map[string]any{"keys": []any{jwk("a", "RS256", rsaKey()), jwk("b", "", p256()), jwk("c", "EdDSA", edKey())}})))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":""},{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"oct","k":"AA"},null,1]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		usable, skipped, err := oidc.ParseKeys(document)
		if (err == nil) != (usable > 0) || usable < 0 || skipped < 0 || usable > 100 {
			t.Fatalf("%d usable, %d skipped, %v", usable, skipped, err)
		}
	})
}

// FuzzDiscovery: no panic; an accepted document leads nowhere but to https.
func FuzzDiscovery(f *testing.F) {
	const issuer = "https://idp.test"
	f.Add([]byte(js(map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/a", "token_endpoint": issuer + "/t", "jwks_uri": issuer + "/k"})))
	f.Add([]byte(js(map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/a?x=y", "token_endpoint": "http://idp.test", "jwks_uri": "//x"})))
	f.Fuzz(func(t *testing.T, document []byte) {
		endpoints, err := oidc.ParseMetadata(document, issuer)
		if err != nil {
			return
		}
		for _, e := range endpoints {
			if e != "" && (!strings.HasPrefix(strings.ToLower(e), "https://") || strings.ContainsAny(e, "#\r\n ")) {
				t.Fatalf("endpoint %q", e)
			}
		}
	})
}

// FuzzTokenResponse: no panic; what is accepted is whole.
func FuzzTokenResponse(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":300,"refresh_token":"r","id_token":"a.b.c"}`))
	f.Add([]byte(`{"access_token":"a","token_type":"bearer","expires_in":1e300,"id_token":"a.b.c"}`))
	f.Add([]byte(`{"error":"invalid_grant"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		access, id, lifetime, err := oidc.ParseTokens(body)
		if err == nil && (access == "" || id == "" || lifetime < 0 || lifetime > 11*365*24*time.Hour || strings.ContainsAny(access+id, "\r\n\x00")) {
			t.Fatalf("%q, %q, %v", access, id, lifetime)
		}
	})
}

// FuzzRenewal: no panic; what is accepted has an access token and a lifetime, and
// nothing in it can break a header.
func FuzzRenewal(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":300,"refresh_token":"r","id_token":"a.b.c"}`))
	f.Add([]byte(`{"access_token":"a","token_type":"bearer","expires_in":-1e300,"refresh_token":null,"id_token":null}`))
	f.Add([]byte(`{"access_token":"a","token_type":"bearer","expires_in":"300","refresh_token":7,"id_token":7}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		access, refresh, _, lifetime, err := oidc.ParseRenewal(body)
		if err == nil && (access == "" || lifetime <= 0 || lifetime > 11*365*24*time.Hour || strings.ContainsAny(access+refresh, "\r\n\x00")) {
			t.Fatalf("%q, %q, %v", access, refresh, lifetime)
		}
		if err != nil && errors.Is(err, oidc.ErrRejected) == errors.Is(err, oidc.ErrUnavailable) {
			t.Fatalf("%v is both or neither", err)
		}
	})
}

// FuzzLogoutToken signs whatever payload comes, as well as taking it for the token:
// no panic; what is accepted names somebody, has a jti and dates that are near.
func FuzzLogoutToken(f *testing.F) {
	tr, client := fakeNetwork()
	tr.answers[pathJWKS] = js(map[string]any{"keys": []any{jwk("e1", "ES256", p256())}})
	now := time.Unix(1_800_000_000, 0)
	p := must(oidc.NewProvider(oidc.ProviderConfig{
		Name: "corp", Issuer: "https://idp.test", HTTP: client, Now: func() time.Time { return now },
		Client: &oidc.ClientConfig{ID: clientID, Algorithms: []string{"ES256"}},
	}))
	good := `{"iss":"https://idp.test","aud":"mesh","iat":1800000000,"exp":1800000100,"jti":"j","sub":"alice","sid":"s","events":{"` + oidc.LogoutEvent + `":{}}}`
	f.Add(good)
	f.Add(strings.Replace(good, `"sub":"alice"`, `"nonce":"n"`, 1))
	f.Add(strings.Replace(good, `:{}}`, `:[]}`, 1))
	f.Add(strings.Replace(good, "1800000000", "1799999000", 1))
	f.Add(strings.Replace(good, "1800000100", "1e300", 1))
	f.Add(tok("ES256", es256, good, p256()))
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := p.VerifyLogoutToken(context.Background(), text); err == nil && !strings.Contains(text, b64([]byte(good))) {
			t.Fatalf("accepted %q as %+v", text, l)
		}
		token := tok("ES256", es256, text, p256())
		l, err := p.VerifyLogoutToken(context.Background(), token)
		if err != nil {
			if l != nil || !errors.Is(err, oidc.ErrRejected) && len(token) < 16<<10 {
				t.Fatalf("%+v, %v", l, err)
			}
			return
		}
		if iss, err := oidc.LogoutIssuer(token); err != nil || iss != l.Issuer {
			t.Fatalf("issuer %q and %q, %v", iss, l.Issuer, err)
		}
		if l.ID == "" || l.Subject == "" && l.SessionID == "" || !l.Expires.After(now) || l.Expires.Sub(now) > 13*time.Minute || now.Sub(l.IssuedAt) > 11*time.Minute {
			t.Fatalf("accepted %s as %+v", text, l)
		}
	})
}

func BenchmarkVerifierWarm(b *testing.B) {
	v, claims, _ := fuzzVerifier(b)
	r := bearer(tok("ES256", es256, claims[:len(claims)-1]+`,"groups":["`+repeat("g", 400)+`"]}`, p256()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Authenticate(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkFirst(b *testing.B, alg, header string, key any) {
	v, claims, _ := fuzzVerifier(b)
	r := bearer(tok(alg, header, claims[:len(claims)-1]+`,"groups":["`+repeat("g", 400)+`"]}`, key))
	b.ReportAllocs()
	for b.Loop() {
		v.Forget()
		if _, err := v.Authenticate(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifierFirstES256(b *testing.B) { benchmarkFirst(b, "ES256", es256, p256()) }
func BenchmarkVerifierFirstRS256(b *testing.B) {
	benchmarkFirst(b, "RS256", `{"alg":"RS256","kid":"k1"}`, rsaKey())
}
