package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

const (
	insertHost = "vminsert.homelab.example.com"
	inlineHost = "inline.homelab.example.com" // the same by keys that stand in the configuration
)

// homekit signs by hand: an issuer that nobody can ask.
type homekit struct {
	*oidctest.Provider
	kid, other string // ES256 keys: the configured one, and one that is not
	jwk        map[string]any
	pem        []byte // under the label that the scenario has
}

func newHomekit(t testing.TB) *homekit {
	t.Helper()
	p, err := oidctest.New(oidctest.Config{Issuer: "https://jwts.example.net", Alg: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	h := &homekit{Provider: p, kid: p.Kid("ES256")}
	recorded := httptest.NewRecorder()
	p.ServeHTTP(recorded, httptest.NewRequest(http.MethodGet, "https://jwts.example.net/jwks", nil))
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(recorded.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k["kid"] == h.kid {
			h.jwk = k
		}
	}
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		half, err := base64.RawURLEncoding.DecodeString(h.jwk[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, half...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	h.pem = pem.EncodeToMemory(&pem.Block{Type: "EC PUBLIC KEY", Bytes: der})
	h.other = p.Rotate("ES256")
	return h
}

// token is what a machine sends: typ JWT, kid vicmet, and an exp in the year 2050.
func (h *homekit) token(claims map[string]any, edit ...func(*oidctest.JWT)) string {
	all := map[string]any{"client_id": nil, "jti": nil, "sub": "homekit", "aud": insertHost, "iat": 1719591241, "exp": 2540042041}
	for k, v := range claims {
		all[k] = v
	}
	return h.Bearer(all, append([]func(*oidctest.JWT){func(j *oidctest.JWT) {
		j.Alg, j.Kid, j.Header = "ES256", h.kid, map[string]any{"typ": "JWT", "kid": "vicmet"}
	}}, edit...)...)
}

// refusedProxy is where requests to other machines would go; it counts them.
func refusedProxy(t testing.TB) (env string, asked *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			c.Close()
		}
	}()
	return "HTTPS_PROXY=http://" + l.Addr().String(), asked
}

// E2: an issuer by its public key alone.
func TestE2StaticKeys(t *testing.T) {
	t.Parallel()
	h := newHomekit(t)
	proxy, asked := refusedProxy(t)
	m := newMachines(t, freePort(t), fmt.Sprintf(`
providers:
- name: homekit
  issuer: https://jwts.example.net
  bearer: {audiences: [%[1]s], keys: [{kid: vicmet, alg: ES256, pem_file: %[2]s}]}
- name: inline
  issuer: https://jwts.example.net
  bearer:
    audiences: [%[1]s]
    keys:
    - kid: vicmet
      alg: ES256
      pem: |
%[3]s
- name: jwk
  issuer: https://jwts.example.net
  bearer: {audiences: [%[1]s], keys: [{kid: vicmet, alg: ES256, jwk: {kty: EC, crv: P-256, x: %[4]s, y: %[5]s}}]}
rules:
- {name: ingest, hosts: [%[1]s], bearer: [homekit], require: {subjects: [homekit]}}
- {name: inline, hosts: [%[6]s], paths: [/pem/**], bearer: [inline], require: {subjects: [homekit]}}
- {name: jwk, hosts: [%[6]s], paths: [/jwk/**], bearer: [jwk], require: {subjects: [homekit]}}
`, insertHost, write(t, "vicmet.pem", string(h.pem)), indent(h.pem, "        "), h.jwk["x"], h.jwk["y"], inlineHost), proxy)

	good := h.token(nil)
	if got := m.ask(t, insertHost, "/insert", good).seen(t).values("x-auth-request-user"); len(got) != 1 || got[0] != "homekit" {
		t.Errorf("user %q", got)
	}
	for _, path := range []string{"/pem/x", "/jwk/x"} {
		m.ask(t, inlineHost, path, good).seen(t)
	}
	header := func(name string, value any) func(*oidctest.JWT) {
		return func(j *oidctest.JWT) { j.Header[name] = value }
	}
	for name, token := range map[string]string{
		"RS256":                       h.token(nil, func(j *oidctest.JWT) { j.Alg, j.Kid = "RS256", "" }),
		"HS256 by the public key":     h.token(nil, func(j *oidctest.JWT) { j.Alg, j.Kid, j.Secret = "HS256", "", h.pem }),
		"none":                        h.token(nil, func(j *oidctest.JWT) { j.Alg, j.Kid = "none", "" }),
		"another kid":                 h.token(nil, header("kid", "other")),
		"another kid of another key":  h.token(nil, header("kid", h.other), func(j *oidctest.JWT) { j.Kid = h.other }),
		"another key under its kid":   h.token(nil, func(j *oidctest.JWT) { j.Kid = h.other }),
		"another aud":                 h.token(map[string]any{"aud": "grafana.homelab.example.com"}),
		"another iss":                 h.token(map[string]any{"iss": "https://example.eu.auth0.com/"}),
		"a key that it brings itself": h.token(nil, header("kid", "x"), header("jwk", h.jwk), header("jku", "https://jwts.example.net/jwks")),
	} {
		if a := m.ask(t, insertHost, "/refused", token); a.Status != http.StatusUnauthorized || a.Header.Get("www-authenticate") != fmt.Sprintf(`Bearer realm=%q, error="invalid_token"`, insertHost) {
			t.Errorf("%s: %v, want 401 invalid_token", name, a)
		}
	}
	neverArrived(t, m.app, "/refused")
	if n := asked.Load(); n != 0 {
		t.Errorf("the network was used %d times", n)
	}
	if log := m.gatehouse.output(); !strings.Contains(log, "tokens by these keys are good for as long as whoever made them wrote") {
		t.Error("E3: nothing flags tokens without a bound")
	}
}

// E3: a machine rule beside browser login on one host, and hand-made tokens that
// max_token_age limits.
func TestE3MachineBesideBrowser(t *testing.T) {
	t.Parallel()
	h := newHomekit(t)
	idp := oidctest.Start(t, oidctest.Config{})
	port := freePort(t)
	host := fmt.Sprintf("app.localhost:%d", port)
	m := newMachines(t, port, fmt.Sprintf(`
providers:
- {name: people, issuer: %q, client: {id: mesh, secret_file: %s}}
- name: homekit
  issuer: https://jwts.example.net
  bearer: {audiences: [%s], max_token_age: 1h, keys: [{kid: vicmet, alg: ES256, pem_file: %s}]}
sessions: {store: {memory: {}}}
rules:
- {name: app, hosts: ["http://%[5]s"], login: people, require: {email_domains: [example.com]}}
- {name: write, hosts: ["http://%[5]s"], paths: [/api/**], bearer: [homekit], require: {subjects: [homekit, "sensor-*"]}}
`, idp.Issuer(), write(t, "secret", "mesh-secret"), insertHost, write(t, "vicmet.pem", string(h.pem)), host))
	note("client secret", "mesh-secret")

	now := time.Now().Unix()
	young := h.token(map[string]any{"iat": now})
	m.ask(t, host, "/api/write", young).seen(t)
	m.ask(t, host, "/api/write", h.token(map[string]any{"iat": now, "sub": "sensor-7"})).seen(t)
	m.expectAt(t, "a subject that is not listed", host, "/api/x", h.token(map[string]any{"iat": now, "sub": "doorbell"}), http.StatusForbidden)
	m.expectAt(t, "a machine where people sign in", host, "/dashboard", young, http.StatusUnauthorized)
	if a := get(t, port, host, "/dashboard", navigation...); a.Status != http.StatusFound {
		t.Errorf("a browser: %v, want 302", a)
	}
	if a := get(t, port, host, "/api/x", navigation...); a.Status != http.StatusUnauthorized {
		t.Errorf("a browser at the machine's place: %v, want 401", a)
	}
	for name, claims := range map[string]map[string]any{"issued in 2024": nil, "without iat": {"iat": nil}} {
		a := m.ask(t, host, "/api/old", h.token(claims))
		want := fmt.Sprintf(`Bearer realm=%q, error="invalid_token", error_description="The access token is too old"`, "app.localhost")
		if a.Status != http.StatusUnauthorized || a.Header.Get("www-authenticate") != want {
			t.Errorf("%s: %v, want 401 %s", name, a, want)
		}
	}
	for _, line := range m.lines(t, "/api/old", 2) {
		if detail, _ := line["detail"].(string); !strings.Contains(detail, "issued longer ago than allowed") {
			t.Errorf("the log says %q", detail)
		}
	}
}
