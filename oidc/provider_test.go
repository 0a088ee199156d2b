package oidc_test

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/gatehouse-mesh/gatehouse/oidc"
)

func request() oidc.AuthRequest {
	return oidc.AuthRequest{RedirectURI: callback, State: "st-1", Nonce: nonce, Verifier: verifier}
}

func TestAuthorizationURL(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.answer(pathDiscovery, 200, js(with(i.metadata(), "authorization_endpoint", i.URL+"/authorize?tenant=t1")))
	p := i.provider(func(c *oidc.ProviderConfig) {
		c.Client.Params = map[string]string{"prompt": "select_account", "acr_values": "a b"}
		c.Client.MaxAge = time.Hour
	})
	a := request()
	got, err := p.AuthorizationURL(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	u := must(url.Parse(got))
	want := url.Values{
		"tenant": {"t1"}, "response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callback}, "scope": {"openid email"},
		"state": {"st-1"}, "nonce": {nonce}, "max_age": {"3600"}, "prompt": {"select_account"}, "acr_values": {"a b"},
		// RFC 7636 appendix B.
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	if d := cmp.Diff(want, u.Query()); d != "" {
		t.Errorf("query (-want +got):\n%s", d)
	}
	if u.Path != "/authorize" {
		t.Errorf("path = %q", u.Path)
	}
	a.LoginAgain = true
	if got := must(url.Parse(must(p.AuthorizationURL(t.Context(), a)))).Query()["prompt"]; !slices.Equal(got, []string{"login"}) {
		t.Errorf("prompt = %q, want login", got)
	}
	for _, change := range []func(*oidc.AuthRequest){
		func(a *oidc.AuthRequest) { a.State = "" },
		func(a *oidc.AuthRequest) { a.Nonce = "" },
		func(a *oidc.AuthRequest) { a.RedirectURI = "" },
		func(a *oidc.AuthRequest) { a.Verifier = "" },
		func(a *oidc.AuthRequest) { a.Verifier = repeat("v", 42) },
		func(a *oidc.AuthRequest) { a.Verifier = repeat("v", 42) + "=" },
	} {
		a := request()
		if change(&a); true {
			if got, err := p.AuthorizationURL(t.Context(), a); err == nil {
				t.Errorf("%+v gives %q", a, got)
			}
		}
	}
}

// L4: S256 always, one challenge per verifier, also when the metadata says "plain".
func TestL4PKCE(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.answer(pathDiscovery, 200, js(with(i.metadata(), "code_challenge_methods_supported", []string{"plain"})))
	p := i.provider()
	seen := map[string]bool{}
	for range 100 {
		a := request()
		a.Verifier = oauth2.GenerateVerifier()
		q := must(url.Parse(must(p.AuthorizationURL(t.Context(), a)))).Query()
		if q.Get("code_challenge_method") != "S256" || seen[q.Get("code_challenge")] {
			t.Fatalf("challenge %q by %q", q.Get("code_challenge"), q.Get("code_challenge_method"))
		}
		seen[q.Get("code_challenge")] = true
	}
	if n := i.count(pathDiscovery); n != 1 {
		t.Errorf("%d discoveries, want 1", n)
	}
}

// K9, K6, K7 and everything else that discovery refuses.
func TestDiscoveryRefuses(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	m := i.metadata()
	text := strings.TrimSuffix(js(m), "}")
	for name, body := range map[string]string{
		"K9 other issuer":        js(with(m, "issuer", "https://evil.test")),
		"K9 trailing slash":      js(with(m, "issuer", i.URL+"/")),
		"K9 no issuer":           js(without(m, "issuer")),
		"J14 issuer twice":       text + `,"issuer":"https://evil.test"}`,
		"J14 Issuer only":        js(with(without(m, "issuer"), "Issuer", i.URL)),
		"no jwks_uri":            js(without(m, "jwks_uri")),
		"no token_endpoint":      js(without(m, "token_endpoint")),
		"no authorization":       js(without(m, "authorization_endpoint")),
		"endpoint is a number":   js(with(m, "token_endpoint", 1)),
		"K9 http elsewhere":      js(with(m, "token_endpoint", "http://idp.test/token")),
		"javascript":             js(with(m, "authorization_endpoint", "javascript:alert(1)")),
		"relative":               js(with(m, "authorization_endpoint", "/authorize")),
		"user":                   js(with(m, "token_endpoint", "https://a:b@idp.test/token")),
		"fragment":               js(with(m, "token_endpoint", "https://idp.test/token#x")),
		"query sets ours":        js(with(m, "authorization_endpoint", i.URL+"/authorize?redirect_uri=https://evil.test")),
		"K9 revocation":          js(with(m, "revocation_endpoint", "http://idp.test/revoke")),
		"end_session a number":   js(with(m, "end_session_endpoint", 1)),
		"file":                   js(with(m, "jwks_uri", "file:///etc/passwd")),
		"iss parameter a string": js(with(m, "authorization_response_iss_parameter_supported", "true")),
		"HTML":                   "<html>",
		"empty":                  "",
		"null":                   "null",
		"too large":              `{"x":"` + repeat("x", 300<<10) + `"}`,
	} {
		i.answer(pathDiscovery, 200, body)
		if got, err := i.provider().AuthorizationURL(t.Context(), request()); !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, status := range []int{204, 301, 302, 307, 308, 400, 404, 500, 503} {
		i.handle(pathDiscovery, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", i.URL+"/elsewhere")
			w.WriteHeader(status)
		})
		i.answer("/elsewhere", 200, js(m))
		_, err := i.provider().AuthorizationURL(t.Context(), request())
		if !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%d: %v", status, err)
		}
		if status > 300 && status < 399 && !strings.Contains(err.Error(), "redirect") {
			t.Errorf("%d: %v does not speak of the redirect", status, err)
		}
	}
	i.handle(pathDiscovery, func(w http.ResponseWriter, _ *http.Request) { bomb(w) })
	if _, err := i.provider().AuthorizationURL(t.Context(), request()); err == nil || !strings.Contains(err.Error(), "KiB") {
		t.Errorf("K7: %v", err)
	}
}

// bomb writes 64 MiB of spaces in a few bytes.
func bomb(w http.ResponseWriter) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	for range 64 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			return
		}
	}
	_ = z.Close()
}

func TestNewProviderRefuses(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	for name, change := range map[string]func(*oidc.ProviderConfig){
		"http issuer":        func(c *oidc.ProviderConfig) { c.Issuer = "http://idp.test" },
		"http look-alike":    func(c *oidc.ProviderConfig) { c.Issuer = "http://127.0.0.1.evil.test" },
		"empty issuer":       func(c *oidc.ProviderConfig) { c.Issuer = "" },
		"issuer query":       func(c *oidc.ProviderConfig) { c.Issuer = "https://idp.test?a=b" },
		"issuer fragment":    func(c *oidc.ProviderConfig) { c.Issuer = "https://idp.test#" },
		"issuer user":        func(c *oidc.ProviderConfig) { c.Issuer = "https://a@idp.test" },
		"no client id":       func(c *oidc.ProviderConfig) { c.Client.ID = "" },
		"unknown method":     func(c *oidc.ProviderConfig) { c.Client.AuthMethod = "tls" },
		"none with a secret": func(c *oidc.ProviderConfig) { c.Client.AuthMethod = "none" },
		"basic without":      func(c *oidc.ProviderConfig) { c.Client.Secret, c.Client.AuthMethod = nil, "client_secret_basic" },
		"two scopes in one":  func(c *oidc.ProviderConfig) { c.Client.Scopes = []string{"a b"} },
		"param of ours":      func(c *oidc.ProviderConfig) { c.Client.Params = map[string]string{"redirect_uri": "x"} },
		"response_mode":      func(c *oidc.ProviderConfig) { c.Client.Params = map[string]string{"response_mode": "fragment"} },
		"request object":     func(c *oidc.ProviderConfig) { c.Client.Params = map[string]string{"request": "x"} },
		"alg none":           func(c *oidc.ProviderConfig) { c.Client.Algorithms = []string{"none"} },
		"alg HS256":          func(c *oidc.ProviderConfig) { c.Client.Algorithms = []string{"HS256"} },
		"max age":            func(c *oidc.ProviderConfig) { c.Client.MaxAge = time.Millisecond },
		"skew":               func(c *oidc.ProviderConfig) { c.Skew = -1 },
	} {
		cfg := oidc.ProviderConfig{Name: "corp", Issuer: i.URL, Client: i.client()}
		change(&cfg)
		if _, err := oidc.NewProvider(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method     string
		user, pass string
		form       url.Values
	}{
		{"client_secret_basic", clientID, url.QueryEscape(secret), nil},
		{"client_secret_post", "", "", url.Values{"client_id": {clientID}, "client_secret": {secret}}},
		{"none", "", "", url.Values{"client_id": {clientID}}},
	} {
		i := newIssuer(t)
		i.claims = with(i.base(), "sid", "sid-1")
		p := i.provider(func(c *oidc.ProviderConfig) {
			if c.Client.AuthMethod = tt.method; tt.method == "none" {
				c.Client.Secret = nil
			}
		})
		before := time.Now()
		g, err := exchange(t.Context(), p)
		if err != nil {
			t.Errorf("%s: %v", tt.method, err)
			continue
		}
		want := url.Values{"grant_type": {"authorization_code"}, "code": {"code-1"}, "redirect_uri": {callback}, "code_verifier": {verifier}}
		maps.Copy(want, tt.form)
		if d := cmp.Diff(want, url.Values(i.form)); d != "" {
			t.Errorf("%s: form (-want +got):\n%s", tt.method, d)
		}
		if i.auth != [2]string{tt.user, tt.pass} {
			t.Errorf("%s: basic = %q", tt.method, i.auth)
		}
		id := g.Identity
		if id.Provider != "corp" || id.Issuer != i.URL || id.Subject != "alice" || !id.EmailVerified || !slices.Equal(id.Groups, []string{"staff"}) || !id.Expires.IsZero() {
			t.Errorf("identity = %+v", id)
		}
		if g.Access != "at-1" || g.Refresh != "rt-1" || g.IDToken == "" || g.ProviderSession != "sid-1" {
			t.Errorf("grant = %+v", g)
		}
		if d := g.AccessExpires.Sub(before); d < 299*time.Second || d > 310*time.Second {
			t.Errorf("access token expires in %v", d)
		}
	}
}

// OpenID Connect Core 3.1.3.7: one altered ID token per requirement.
func TestIDToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	b := i.base()
	now := time.Now().Unix()
	p := i.provider()
	strict := i.provider(func(c *oidc.ProviderConfig) { c.Client.MaxAge = time.Hour })
	ok := error(nil)
	for _, tt := range []struct {
		id     string
		claims map[string]any
		p      *oidc.Provider
		want   error
	}{
		{"plain", b, p, ok},
		{"(2) iss", with(b, "iss", "https://evil.test"), p, oidc.ErrRejected},
		{"(2) iss slash", with(b, "iss", i.URL+"/"), p, oidc.ErrRejected},
		{"(2) no iss", without(b, "iss"), p, oidc.ErrRejected},
		{"2 no sub", without(b, "sub"), p, oidc.ErrRejected},
		{"2 empty sub", with(b, "sub", ""), p, oidc.ErrRejected},
		{"2 long sub", with(b, "sub", repeat("s", 256)), p, oidc.ErrRejected},
		{"(3) aud", with(b, "aud", "other"), p, oidc.ErrRejected},
		{"(3) no aud", without(b, "aud"), p, oidc.ErrRejected},
		{"(3) aud array", with(b, "aud", []string{clientID}), p, ok},
		{"(4) two aud without azp", with(b, "aud", []string{clientID, "x"}), p, oidc.ErrRejected},
		{"(4) two aud with azp", with(with(b, "aud", []string{clientID, "x"}), "azp", clientID), p, ok},
		{"(5) azp", with(b, "azp", "x"), p, oidc.ErrRejected},
		{"(5) azp array", with(b, "azp", []string{clientID}), p, oidc.ErrRejected},
		{"(5) azp null", with(b, "azp", nil), p, oidc.ErrRejected},
		{"(9) exp", with(b, "exp", now-61), p, oidc.ErrRejected},
		{"(9) no exp", without(b, "exp"), p, oidc.ErrRejected},
		{"(9) exp string", with(b, "exp", "4102444800"), p, oidc.ErrRejected},
		{"(10) iat", with(b, "iat", now+3600), p, oidc.ErrRejected},
		{"(10) no iat", without(b, "iat"), p, oidc.ErrRejected},
		{"nbf", with(b, "nbf", now+240), p, oidc.ErrRejected},
		{"(11) L5 nonce", with(b, "nonce", "mallory"), p, oidc.ErrRejected},
		{"(11) L6 no nonce", without(b, "nonce"), p, oidc.ErrRejected},
		{"(11) L6 number", with(b, "nonce", 1), p, oidc.ErrRejected},
		{"(11) L6 array", with(b, "nonce", []string{nonce}), p, oidc.ErrRejected},
		{"(11) L6 object", with(b, "nonce", map[string]any{"a": nonce}), p, oidc.ErrRejected},
		{"(13) L16 auth_time missing", b, strict, oidc.ErrRejected},
		{"(13) L16 auth_time stale", with(b, "auth_time", now-3700), strict, oidc.ErrRejected},
		{"(13) L16 auth_time", with(b, "auth_time", now-3000), strict, ok},
		{"(13) auth_time string", with(b, "auth_time", "x"), p, oidc.ErrRejected},
		{"3.1.3.8 at_hash", with(b, "at_hash", leftHalf("at-1")), p, ok},
		{"3.1.3.8 other at_hash", with(b, "at_hash", leftHalf("at-2")), p, oidc.ErrRejected},
		{"3.1.3.8 at_hash number", with(b, "at_hash", 1), p, oidc.ErrRejected},
		{"sid", with(b, "sid", 1), p, oidc.ErrRejected},
		{"E3 groups", with(b, "groups", []any{"a", 1}), p, oidc.ErrRejected},
		{"J27 overage", with(without(b, "groups"), "_claim_names", map[string]any{"groups": "s"}), p, oidc.ErrRejected},
		{"unknown claims", with(b, "x", map[string]any{"SUB": "victim"}), p, ok},
	} {
		i.mu.Lock()
		i.claims = tt.claims
		i.mu.Unlock()
		g, err := exchange(t.Context(), tt.p)
		if !errors.Is(err, tt.want) || (g == nil) == (err == nil) {
			t.Errorf("%s: %v, want %v", tt.id, err, tt.want)
		}
	}
}

func leftHalf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return b64(sum[:16])
}

// Signatures of ID tokens, the conformance suite's names where it has one.
func TestIDTokenSignature(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	for _, tt := range []struct {
		id, alg, header string
		key             any
		want            error
	}{
		{"sig-rs256", "RS256", `{"alg":"RS256","kid":"k1"}`, rsaKey(), nil},
		{"kid-absent-single-jwks", "RS256", `{"alg":"RS256"}`, rsaKey(), nil},
		{"sig-none", "RS256", `{"alg":"none"}`, rsaKey(), oidc.ErrRejected},
		{"invalid-sig-rs256", "RS256", `{"alg":"RS256","kid":"k1"}`, rsaOther(), oidc.ErrRejected},
		{"invalid-sig-hs256", "HS256", `{"alg":"HS256"}`, []byte(secret), oidc.ErrRejected},
		{"not the configured algorithm", "ES256", `{"alg":"ES256","kid":"e1"}`, p256(), oidc.ErrRejected},
		{"J8 access token", "RS256", `{"alg":"RS256","kid":"k1","typ":"at+jwt"}`, rsaKey(), oidc.ErrRejected},
		{"J8 logout token", "RS256", `{"alg":"RS256","kid":"k1","typ":"logout+jwt"}`, rsaKey(), oidc.ErrRejected},
		{"J6 crit", "RS256", `{"alg":"RS256","kid":"k1","crit":["x"]}`, rsaKey(), oidc.ErrRejected},
		{"unknown kid", "RS256", `{"alg":"RS256","kid":"nobody"}`, rsaKey(), oidc.ErrRejected},
	} {
		i.mu.Lock()
		i.alg, i.header, i.key = tt.alg, tt.header, tt.key
		i.mu.Unlock()
		if _, err := exchange(t.Context(), i.provider()); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.id, err, tt.want)
		}
	}
}

// An issuer on https does not send us to plain http, not even on this machine.
func TestDiscoveryOfHTTPSIssuer(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"jwks_uri", "token_endpoint", "authorization_endpoint", "end_session_endpoint", "revocation_endpoint"} {
		tr, client := fakeNetwork()
		doc := map[string]any{"issuer": "https://idp.test", "authorization_endpoint": "https://idp.test/a", "token_endpoint": "https://idp.test/t", "jwks_uri": "https://idp.test/k"}
		tr.answers[pathDiscovery] = js(with(doc, member, "http://127.0.0.1:9/x"))
		p := must(oidc.NewProvider(oidc.ProviderConfig{Name: "corp", Issuer: "https://idp.test", HTTP: client, Client: &oidc.ClientConfig{ID: clientID}}))
		if got, err := p.AuthorizationURL(t.Context(), request()); !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s on plain http: %q, %v", member, got, err)
		}
	}
}

// What one caller began goes on for the others when it leaves.
func TestReadingsOutliveTheirCaller(t *testing.T) {
	t.Parallel()
	for _, path := range []string{pathDiscovery, pathJWKS} {
		i := newIssuer(t)
		asked, release := make(chan struct{}), make(chan struct{})
		body := map[string]string{pathDiscovery: js(i.metadata()), pathJWKS: js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}})}[path]
		i.handle(path, func(w http.ResponseWriter, _ *http.Request) {
			close(asked) // a second reading would panic
			<-release
			fmt.Fprint(w, body)
		})
		p := i.provider()
		ask := func(ctx context.Context) error { _, err := p.Keys().Refresh(ctx, whatever); return err }
		if path == pathDiscovery {
			ask = func(ctx context.Context) error { _, err := p.AuthorizationURL(ctx, request()); return err }
		}
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- ask(ctx) }()
		<-asked
		leave()
		if err := <-left; !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s: the caller that left: %v", path, err)
		}
		close(release)
		if err := ask(t.Context()); err != nil {
			t.Errorf("%s: the next caller: %v", path, err)
		}
	}
}

// A login whose ID token cannot be checked now was not rejected.
func TestK4LoginWithoutKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.answer(pathJWKS, 503, "")
	if _, err := exchange(t.Context(), i.provider()); !errors.Is(err, oidc.ErrUnavailable) || errors.Is(err, oidc.ErrRejected) {
		t.Errorf("keys are down: %v, want unavailable alone", err)
	}
}

// signing-key-rotation, K2: the provider rotates between our reading and the login.
func TestK2Rotation(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	if _, err := exchange(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	i.setKeys(jwk("k2", "RS256", rsaOther()))
	i.mu.Lock()
	i.header, i.key = `{"alg":"RS256","kid":"k2"}`, rsaOther()
	i.mu.Unlock()
	if _, err := exchange(t.Context(), p); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
}

// L14, N12: a hostile or broken token endpoint never makes a session.
func TestL14TokenEndpoint(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	good := i.tokens()
	text := strings.TrimSuffix(js(good), "}")
	for name, body := range map[string]string{
		"HTML":              "<html>hello</html>",
		"empty":             "",
		"array":             "[]",
		"no id_token":       js(without(good, "id_token")),
		"id_token number":   js(with(good, "id_token", 1)),
		"id_token empty":    js(with(good, "id_token", "")),
		"no access_token":   js(without(good, "access_token")),
		"access newline":    js(with(good, "access_token", "a\nb")),
		"access huge":       js(with(good, "access_token", repeat("a", 65<<10))),
		"refresh number":    js(with(good, "refresh_token", 1)),
		"no token_type":     js(without(good, "token_type")),
		"token_type mac":    js(with(good, "token_type", "mac")),
		"duplicate":         text + `,"id_token":"x"}`,
		"ID_TOKEN only":     js(with(without(good, "id_token"), "ID_TOKEN", good["id_token"])),
		"expires_in -1":     js(with(good, "expires_in", -1)),
		"expires_in 1e18":   js(with(good, "expires_in", 1000000000000000000)),
		"expires_in 1e400":  text[:len(text)-1] + `","expires_in":1e400}`,
		"expires_in string": js(with(good, "expires_in", "3600")),
		"expires_in 1.5":    js(with(good, "expires_in", 1.5)),
		"10 MB":             js(with(good, "x", repeat("x", 10<<20))),
		"trailing":          js(good) + "x",
		"error with 200":    `{"error":"invalid_grant"}`,
		"not UTF-8":         text + ",\"x\":\"\xff\"}",
	} {
		i.answer(pathToken, 200, body)
		if g, err := exchange(t.Context(), p); !errors.Is(err, oidc.ErrUnavailable) || g != nil {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
	for name, body := range map[string]string{
		"token_type bearer": js(with(good, "token_type", "bearer")),
		"no expires_in":     js(without(good, "expires_in")),
		"expires_in 0":      js(with(good, "expires_in", 0)),
	} {
		i.answer(pathToken, 200, body)
		if g, err := exchange(t.Context(), p); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(name, "expires_in") && !g.AccessExpires.IsZero() {
			t.Errorf("%s: expires %v, want unknown", name, g.AccessExpires)
		}
	}
	for status := 201; status < 600; status++ {
		i.handle(pathToken, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", i.URL+"/elsewhere")
			w.WriteHeader(status)
			if status != 204 && status != 304 {
				fmt.Fprint(w, js(good))
			}
		})
		i.answer("/elsewhere", 200, js(good))
		if g, err := exchange(t.Context(), p); !errors.Is(err, oidc.ErrUnavailable) || g != nil {
			t.Errorf("N12 %d with good tokens: %v", status, err)
		}
	}
	for _, tt := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{"error":"invalid_grant","error_description":"code-1 is used up"}`, oidc.ErrRejected},
		{401, `{"error":"invalid_client"}`, oidc.ErrRejected},
		{403, `{"error":"access_denied"}`, oidc.ErrRejected},
		{400, `{"error":"temporarily_unavailable"}`, oidc.ErrUnavailable},
		{400, `{"error":"server_error"}`, oidc.ErrUnavailable},
		{400, `{"Error":"invalid_grant"}`, oidc.ErrUnavailable},
		{400, `{"error":{"code":1}}`, oidc.ErrUnavailable},
		{404, `<html>`, oidc.ErrUnavailable},
		{408, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{429, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{500, `{"error":"invalid_grant"}`, oidc.ErrUnavailable},
		{503, ``, oidc.ErrUnavailable},
	} {
		i.answer(pathToken, tt.status, tt.body)
		_, err := exchange(t.Context(), p)
		if !errors.Is(err, tt.want) {
			t.Errorf("%d %s: %v, want %v", tt.status, tt.body, err, tt.want)
		}
		if strings.Contains(err.Error(), "code-1") {
			t.Errorf("V2: %v shows the code", err)
		}
	}
	// A drip, or a hang, ends with the caller's patience.
	i.handle(pathToken, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := exchange(ctx, p); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("hang: %v", err)
	}
}

// L1, L2: nothing is asked for what is obviously no code.
func TestExchangeMalformed(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	for _, a := range [][4]string{
		{"", verifier, callback, nonce},
		{"c", "", callback, nonce},
		{"c", verifier, "", nonce},
		{"c", verifier, callback, ""},
		{repeat("c", 5000), verifier, callback, nonce},
	} {
		if _, err := p.Exchange(t.Context(), a[0], a[1], a[2], a[3]); !errors.Is(err, oidc.ErrRejected) {
			t.Errorf("%.40q: %v", a, err)
		}
	}
	if n := i.count(pathToken); n != 0 {
		t.Errorf("%d token requests", n)
	}
}

func TestUserinfo(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.claims = without(without(i.base(), "groups"), "email")
	p := i.provider(func(c *oidc.ProviderConfig) { c.Client.Userinfo = true })
	var auth atomic.Value
	i.handle(pathUserinfo, func(w http.ResponseWriter, r *http.Request) {
		auth.Store(r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprint(w, `{"sub":"alice","iss":"https://evil.test","aud":"evil","exp":1,"sid":"evil","groups":["admins"],"email":"a@good.test"}`)
	})
	g, err := exchange(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	id := g.Identity
	if auth.Load() != "Bearer at-1" || !slices.Equal(id.Groups, []string{"admins"}) || id.Email != "a@good.test" {
		t.Errorf("%q, %+v", auth.Load(), id)
	}
	if id.EmailVerified {
		t.Error("the ID token's email_verified was taken for userinfo's e-mail")
	}
	if id.Issuer != i.URL || id.Claims["iss"] != i.URL || id.Claims["aud"] != clientID || g.ProviderSession != "" {
		t.Errorf("userinfo replaced a protocol claim: %v", id.Claims)
	}
	for name, tt := range map[string]struct {
		status int
		typ    string
		body   string
		want   error
	}{
		"L15 other sub": {200, "application/json", `{"sub":"mallory"}`, oidc.ErrRejected},
		"L15 no sub":    {200, "application/json", `{"groups":["admins"]}`, oidc.ErrRejected},
		"L15 SUB":       {200, "application/json", `{"SUB":"alice"}`, oidc.ErrRejected},
		"L15 sub twice": {200, "application/json", `{"sub":"alice","sub":"alice"}`, oidc.ErrUnavailable},
		"signed":        {200, "application/jwt", `e30.e30.e30`, oidc.ErrUnavailable},
		"HTML":          {200, "text/html", `<html>`, oidc.ErrUnavailable},
		"401":           {401, "application/json", `{"sub":"alice"}`, oidc.ErrRejected},
		"500":           {500, "application/json", `{"sub":"alice"}`, oidc.ErrUnavailable},
		"302":           {302, "application/json", `{"sub":"alice"}`, oidc.ErrUnavailable},
	} {
		i.handle(pathUserinfo, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tt.typ)
			w.WriteHeader(tt.status)
			fmt.Fprint(w, tt.body)
		})
		if _, err := exchange(t.Context(), p); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// E2, E6: what makes an e-mail verified, and who is a user.
func TestClaimPolicy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	type change = func(*oidc.ProviderConfig)
	trust := func(c *oidc.ProviderConfig) { c.TrustEmail = true }
	byEmail := func(c *oidc.ProviderConfig) { c.Claims.User = "email" }
	nested := func(c *oidc.ProviderConfig) { c.Claims.Groups, c.Claims.User = "/realm/roles", "https://x.test/uid" }
	b := i.base()
	deep := with(with(without(b, "groups"), "realm", map[string]any{"roles": []string{"r1"}}), "https://x.test/uid", "u7")
	for _, tt := range []struct {
		id       string
		claims   map[string]any
		change   change
		user     string // empty: rejected
		verified bool
		groups   []string
	}{
		{"plain", b, nil, "alice", true, []string{"staff"}},
		{"E2 false", with(b, "email_verified", false), nil, "alice", false, []string{"staff"}},
		{"E2 absent", without(b, "email_verified"), nil, "alice", false, []string{"staff"}},
		{"E2 string", with(b, "email_verified", "true"), nil, "alice", false, []string{"staff"}},
		{"E2 number", with(b, "email_verified", 1), nil, "alice", false, []string{"staff"}},
		{"E2 array", with(b, "email_verified", []any{true}), nil, "alice", false, []string{"staff"}},
		{"E2 trusted, absent", without(b, "email_verified"), trust, "alice", true, []string{"staff"}},
		{"E2 trusted, false", with(b, "email_verified", false), trust, "alice", false, []string{"staff"}},
		{"E2 no e-mail", without(b, "email"), trust, "alice", false, []string{"staff"}},
		{"user by e-mail", b, byEmail, "alice@good.test", true, []string{"staff"}},
		{"L17 user by unverified e-mail", with(b, "email_verified", false), byEmail, "", false, nil},
		{"E6 user missing", without(b, "email"), byEmail, "", false, nil},
		{"pointers", deep, nested, "u7", true, []string{"r1"}},
		{"E6 user blank", with(deep, "https://x.test/uid", "  "), nested, "", false, nil},
		{"E6 user number", with(deep, "https://x.test/uid", 7), nested, "", false, nil},
		{"E3 one name", with(b, "groups", "staff,admins"), nil, "alice", true, []string{"staff,admins"}},
		{"E3 empty names", with(b, "groups", []any{"", "a"}), nil, "alice", true, []string{"a"}},
		{"E3 null", with(b, "groups", nil), nil, "alice", true, nil},
	} {
		i.mu.Lock()
		i.claims = tt.claims
		i.mu.Unlock()
		change := tt.change
		if change == nil {
			change = func(*oidc.ProviderConfig) {}
		}
		g, err := exchange(t.Context(), i.provider(change))
		if tt.user == "" {
			if !errors.Is(err, oidc.ErrRejected) {
				t.Errorf("%s: %v, want rejected", tt.id, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.id, err)
			continue
		}
		if id := g.Identity; id.User != tt.user || id.EmailVerified != tt.verified || !slices.Equal(id.Groups, tt.groups) || id.Subject != "alice" {
			t.Errorf("%s: %+v", tt.id, id)
		}
	}
}

// RFC 9207 section 2.4, L7.
func TestRFC9207Issuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	if err := p.CheckIssuer("", 0); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("before discovery: %v", err)
	}
	_ = must(p.AuthorizationURL(t.Context(), request()))
	i.answer(pathDiscovery, 200, js(with(i.metadata(), "authorization_response_iss_parameter_supported", true)))
	sends := i.provider()
	_ = must(sends.AuthorizationURL(t.Context(), request()))
	for _, tt := range []struct {
		p    *oidc.Provider
		iss  string
		n    int
		want error
	}{
		{p, "", 0, nil},
		{sends, "", 0, oidc.ErrRejected},
		{p, i.URL, 1, nil},
		{sends, i.URL, 1, nil},
		{p, "https://c.test", 1, oidc.ErrRejected},
		{p, i.URL + "/", 1, oidc.ErrRejected},
		{p, "", 1, oidc.ErrRejected},
		{sends, i.URL, 2, oidc.ErrRejected},
		{p, i.URL, 2, oidc.ErrRejected},
	} {
		if err := tt.p.CheckIssuer(tt.iss, tt.n); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%q ×%d: %v, want %v", tt.iss, tt.n, err, tt.want)
		}
	}
}

func TestEndSessionURL(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := i.provider()
	if got := p.EndSessionURL("x", "y", "z"); got != "" {
		t.Errorf("before discovery: %q", got)
	}
	_ = must(p.AuthorizationURL(t.Context(), request()))
	want := url.Values{"client_id": {clientID}, "id_token_hint": {"idt"}, "post_logout_redirect_uri": {"https://app.test/"}}
	if d := cmp.Diff(want, must(url.Parse(p.EndSessionURL("idt", "https://app.test/", ""))).Query()); d != "" {
		t.Errorf("query (-want +got):\n%s", d)
	}
}

// transport answers without a network, so that a fake clock can be used.
type transport struct {
	mu      sync.Mutex // guards the fields below
	down    bool
	answers map[string]string
	header  http.Header
	hits    map[string]int
}

func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.hits[r.URL.Path]++
	if tr.down {
		return nil, errors.New("connection refused")
	}
	h := tr.header
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(strings.NewReader(tr.answers[r.URL.Path])), Request: r}, nil
}

func (tr *transport) set(change func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	change()
}

func fakeNetwork() (*transport, *http.Client) {
	const base = "https://idp.test"
	tr := &transport{hits: map[string]int{}, answers: map[string]string{
		pathDiscovery: js(map[string]any{"issuer": base, "authorization_endpoint": base + "/a", "token_endpoint": base + "/t", "jwks_uri": base + pathJWKS}),
		pathJWKS:      js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}),
	}}
	return tr, &http.Client{Transport: tr}
}

// The provider is down at start, comes up, changes, goes down again.
func TestProviderRun(t *testing.T) {
	_ = rsaKey()
	synctest.Test(t, func(t *testing.T) {
		tr, client := fakeNetwork()
		tr.down = true
		p := must(oidc.NewProvider(oidc.ProviderConfig{
			Name: "corp", Issuer: "https://idp.test", HTTP: client,
			Client: &oidc.ClientConfig{ID: clientID},
		}))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Hour)
		if p.Ready() || p.Status().Discovery == nil {
			t.Error("ready while the provider is down, or no word of it")
		}
		tr.set(func() {
			if n := tr.hits[pathDiscovery]; n < 50 || n > 200 {
				t.Errorf("%d attempts in an hour, want about one a minute", n)
			}
			tr.down = false
		})
		time.Sleep(2 * time.Minute)
		if !p.Ready() || p.Status().Discovery != nil || p.Status().Keys.Usable != 1 {
			t.Errorf("2 minutes after the provider is up: %+v", p.Status())
		}
		tr.set(func() { tr.hits = map[string]int{} })
		time.Sleep(6 * time.Hour)
		tr.set(func() {
			if n := tr.hits[pathDiscovery]; n < 5 || n > 9 {
				t.Errorf("%d discoveries in 6 hours, want about one an hour", n)
			}
			if n := tr.hits[pathJWKS]; n < 36 || n > 50 {
				t.Errorf("%d readings of the keys in 6 hours, want about one in 10 minutes", n)
			}
			tr.answers[pathDiscovery] = `{"issuer":"https://evil.test"}`
			tr.answers[pathJWKS] = `{"keys":[]}`
		})
		time.Sleep(3 * time.Hour)
		if !p.Ready() || p.Status().Discovery == nil || p.Status().Keys.Failure == nil {
			t.Errorf("K4 nonsense replaced what was good: %+v", p.Status())
		}
		if u, err := p.AuthorizationURL(ctx, request()); err != nil || !strings.HasPrefix(u, "https://idp.test/a?") {
			t.Errorf("%q, %v", u, err)
		}
		time.Sleep(22 * time.Hour)
		if p.Keys().Current() != nil {
			t.Error("K4 keys serve beyond max-stale")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A storm of logins while the provider is down does not become a storm there.
func TestDiscoveryRemembersFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, client := fakeNetwork()
		tr.down = true
		p := must(oidc.NewProvider(oidc.ProviderConfig{Name: "corp", Issuer: "https://idp.test", HTTP: client, Client: &oidc.ClientConfig{ID: clientID}}))
		for range 1000 {
			if _, err := p.AuthorizationURL(t.Context(), request()); !errors.Is(err, oidc.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		tr.set(func() {
			if tr.hits[pathDiscovery] != 1 {
				t.Errorf("%d attempts, want 1", tr.hits[pathDiscovery])
			}
			tr.down = false
		})
		time.Sleep(3 * time.Second)
		if _, err := p.AuthorizationURL(t.Context(), request()); err != nil {
			t.Errorf("once it is up: %v", err)
		}
	})
}
