package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// ask sends a proxy's question about path of the application.
func (g *gate) ask(listener, path string, lines ...string) (int, http.Header) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), "GET", "http://"+g.address(listener)+"/oauth2/auth", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range append(lines, "X-Forwarded-Method: GET", "X-Forwarded-Host: app.localhost:10000", "X-Forwarded-Uri: "+path) {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func withForwardAuth(idp *oidctest.Server) string {
	text := strings.Replace(fmt.Sprintf(base, idp.Issuer()), "pause: 100ms", "pause: 1s", 1)
	return strings.Replace(text, "  ops:", `  forward_auth:
  - {address: "127.0.0.1:0", profile: traefik, trusted_proxies: [127.0.0.1]}
  - {address: "127.0.0.1:0", profile: nginx, trusted_proxies: [10.0.0.0/8]}
  - {address: "127.0.0.1:0", profile: caddy, trusted_proxies: [127.0.0.0/8], secret_file: proxy-secret}
  ops:`, 1)
}

func TestForwardAuth(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	first, second := strings.Repeat("1", 32), strings.Repeat("2", 32)
	g := start(t, withForwardAuth(idp), "proxy-secret", first+"\n")
	const asked, stranger, secret = `forward_auth\[0\]`, `forward_auth\[1\]`, `forward_auth\[2\]`

	if status, _ := g.ask(asked, "/open"); status != 200 {
		t.Errorf("anonymous rule: %d, want 200", status)
	}
	if status, _ := g.ask(asked, "/app"); status != 401 {
		t.Errorf("a script without a session: %d, want 401", status)
	}
	// C1: the deep link with its query is kept; the address is what browsers know.
	status, header := g.ask(asked, "/app?a=1&b=2", "Accept: text/html")
	if at := header.Get("Location"); status != 302 || at != "http://app.localhost:10000/oauth2/start?rd=/app%3Fa%3D1%26b%3D2" {
		t.Errorf("navigation: %d to %q", status, at)
	}
	// In band: the way to the provider begins through the proxy.
	status, header = g.ask(asked, "/oauth2/start?rd=/app", "Accept: text/html")
	if at := header.Get("Location"); status != 302 || !strings.HasPrefix(at, idp.Issuer()) || header.Get("Set-Cookie") == "" {
		t.Errorf("start: %d to %q with %q", status, at, header.Get("Set-Cookie"))
	}

	// Who is not trusted is refused, said once and counted each time.
	for range 3 {
		if status, _ := g.ask(stranger, "/open"); status != 403 {
			t.Errorf("stranger: %d, want 403", status)
		}
	}
	g.await(`"msg":"a proxy is set up wrongly","listener":"forward_auth\[1\]","fault":"untrusted_peer","why":"127.0.0.1 is not in trusted_proxies`)
	if n := strings.Count(g.log.String(), `"fault":"untrusted_peer"`); n != 1 {
		t.Errorf("%d lines about one fault", n)
	}
	if got := g.metric(`gatehouse_forward_auth_faults_total{kind="untrusted_peer",listener="forward_auth[1]"}`); !strings.HasSuffix(got, " 3\n") {
		t.Errorf("counter %q, want 3", got)
	}
	g.await(`"reason":"proxy_wiring"`)

	// The secret is read again; while it cannot be read nobody may ask.
	if status, _ := g.ask(secret, "/open"); status != 403 {
		t.Errorf("without the secret: %d, want 403", status)
	}
	if status, _ := g.ask(secret, "/open", "X-Gatehouse-Secret: "+first); status != 200 {
		t.Errorf("with the secret: %d, want 200", status)
	}
	g.write("proxy-secret", second)
	if status, _ := g.ask(secret, "/open", "X-Gatehouse-Secret: "+first); status != 403 {
		t.Errorf("with the secret of before: %d, want 403", status)
	}
	if status, _ := g.ask(secret, "/open", "X-Gatehouse-Secret: "+second); status != 200 {
		t.Errorf("with the new secret: %d, want 200", status)
	}
	g.write("proxy-secret", "short")
	if status, _ := g.ask(secret, "/open", "X-Gatehouse-Secret: short"); status != 503 {
		t.Errorf("with a secret that is too short: %d, want 503", status)
	}
	g.await(`"msg":"the secret of a proxy cannot be read`)
	if log := g.log.String(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("the log shows a secret")
	}

	// During the pause of a drain it is answered.
	g.end()
	g.await(`"msg":"draining"`)
	if status, _ := g.ask(asked, "/open"); status != 200 {
		t.Errorf("draining: %d, want 200", status)
	}
	select {
	case <-g.done:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestForwardAuthNeedsItsSecret(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	g := start(t, withForwardAuth(idp), "proxy-secret", "short")
	<-g.done
	if g.err == nil || !strings.Contains(g.err.Error(), "secret_file") || strings.Contains(g.err.Error(), `"short"`) {
		t.Errorf("serve = %v, want a mistake at secret_file", g.err)
	}
}

// N10, S17: with client_ids only the listed proxies come as far as a question.
func TestForwardAuthClientIDs(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "gatehouse")
	proxy := identify(t, dir, "proxy.pem", "spiffe://mesh/ns/ingress/sa/proxy")
	other := identify(t, dir, "other.pem", "spiffe://mesh/ns/apps/sa/app")
	var cas []byte
	for _, name := range []string{"proxy.pem", "other.pem"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, data...)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), cas, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
listen:
  grpc: {address: "127.0.0.1:0"}
  forward_auth:
  - address: "127.0.0.1:0"
    profile: traefik
    trusted_proxies: [127.0.0.1]
    tls: {cert_file: %[1]s/tls.crt, key_file: %[1]s/tls.key, client_ca_file: %[1]s/ca.pem, client_ids: [spiffe://mesh/ns/ingress/sa/proxy]}
shutdown: {pause: 0s, timeout: 5s}
rules: [{name: open, hosts: [a.example.com], allow: anonymous}]
`, dir)
	g := start(t, text)
	address := g.address(`forward_auth\[0\]`)
	for name, c := range map[string]struct {
		certificates []tls.Certificate
		want         bool
	}{"proxy": {[]tls.Certificate{proxy}, true}, "another": {[]tls.Certificate{other}, false}, "nobody": {nil, false}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: c.certificates}}
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+address+"/oauth2/auth", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"X-Forwarded-Method": "GET", "X-Forwarded-Host": "a.example.com", "X-Forwarded-Uri": "/"} {
			r.Header.Set(name, value)
		}
		resp, err := transport.RoundTrip(r)
		if got := err == nil && resp.StatusCode == 200; got != c.want {
			t.Errorf("%s: allowed %v, want %v: %v", name, got, c.want, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		transport.CloseIdleConnections()
	}
}
