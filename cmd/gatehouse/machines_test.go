package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// What a configuration says about bearer tokens reaches the verifier: keys at an
// address without discovery, the profile, the bounds, every login client.
func TestBearerConfiguration(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice", Clients: []oidctest.Client{{ID: "mesh", Secret: "s"}, {ID: "shop", Secret: "s"}}})
	const text = `
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}}
providers:
- {name: mesh, issuer: %[1]q, client: {id: mesh, secret_file: secret}}
- {name: shop, issuer: %[1]q, client: {id: shop, secret_file: secret}}
- {name: api, issuer: %[1]q, bearer: {audiences: [api, more], jwks_url: "%[1]s/jwks", rfc9068: true, max_lifetime: 1h, max_token_age: 30m%[2]s}}
sessions: {store: {memory: {}}}
rules: [{name: api, hosts: [api.example.com], bearer: [api], require: any_user}]
`
	g := start(t, fmt.Sprintf(text, idp.Issuer(), ""), "secret", "s\n")
	conn := g.dial()
	answer := func(token string) int32 {
		r := check(t, conn, "api.example.com", "/", map[string]string{"authorization": "Bearer " + token})
		return int32(r.GetDeniedResponse().GetStatus().GetCode())
	}
	now := time.Now().Unix()
	const old = "https://old.example.com"
	for _, tt := range []struct {
		name   string
		claims map[string]any
		edit   func(*oidctest.JWT)
		want   int32
	}{
		{name: "good"},
		{name: "second audience", claims: map[string]any{"aud": "more"}},
		{name: "type JWT", edit: func(j *oidctest.JWT) { j.Header["typ"] = "JWT" }, want: 401},
		{name: "no jti", claims: map[string]any{"jti": nil}, want: 401},
		{name: "lives long", claims: map[string]any{"exp": now + 7200}, want: 401},
		{name: "old", claims: map[string]any{"iat": now - 2000, "exp": now + 600}, want: 401},
		{name: "for the first login client", claims: map[string]any{"aud": []string{"api", "mesh"}}, want: 401},
		{name: "for the second login client", claims: map[string]any{"aud": []string{"api", "shop"}}, want: 401},
		{name: "ES256", edit: func(j *oidctest.JWT) { j.Alg = "ES256" }, want: 401},
		{name: "another name of the issuer", claims: map[string]any{"iss": old}, want: 401},
	} {
		edit := tt.edit
		if edit == nil {
			edit = func(*oidctest.JWT) {}
		}
		if got := answer(idp.Bearer(tt.claims, edit)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}

	// D4: the other name of the issuer is taken once a reload says so, and nobody else's.
	moved := idp.Bearer(map[string]any{"iss": old})
	g.write("gatehouse.yaml", fmt.Sprintf(text, idp.Issuer(), ", also_issuers: [\""+old+"\"]"))
	for end := time.Now().Add(30 * time.Second); answer(moved) != 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
	}
	for token, want := range map[string]int32{moved: 0, idp.Bearer(nil): 0, idp.Bearer(map[string]any{"iss": old + "/"}): 401} {
		if got := answer(token); got != want {
			t.Errorf("after the reload: %d, want %d", got, want)
		}
	}
}

// Keys that stand in the configuration are looked at without a secret or a file.
func TestValidateReadsInlineKeys(t *testing.T) {
	for key, want := range map[string]string{
		"jwk: {kty: EC, crv: P-256, x: AQ, y: AQ}":                                      "providers[0].bearer.keys[0]: not a key that can be used",
		"jwk: {kty: oct, k: c2VjcmV0}":                                                  "not public",
		"jwk: {kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}": "another kind",
	} {
		code, _, stderr := runWith("validate", "-c", file(t, open0+"providers: [{name: a, issuer: 'https://a.example.com', bearer: {audiences: [a], max_token_age: 1h, keys: [{kid: k, alg: ES256, "+key+"}]}}]"))
		if code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stderr, "c2VjcmV0") {
			t.Errorf("%s: %d %q, want %q", key, code, stderr, want)
		}
	}
}
