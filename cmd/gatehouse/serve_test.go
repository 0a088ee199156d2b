package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// sink is a log that tests can read while it is written.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// gate is a running serve.
type gate struct {
	t      *testing.T
	dir    string
	log    *sink
	end    context.CancelFunc
	reload chan os.Signal
	hurry  chan struct{}
	done   chan struct{}
	err    error // of serve, once done is closed
}

const base = `
listen:
  grpc: {address: "127.0.0.1:0"}
  http: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}
providers:
- {name: corp, issuer: "%[1]s", client: {id: mesh, secret_file: secret}}
- {name: api, issuer: "%[1]s", algorithms: [RS256, ES256], bearer: {audiences: [api]}}
sessions: {store: {memory: {}}}
shutdown: {pause: 100ms, timeout: 5s}
rules:
- {name: open, hosts: ["http://app.localhost:10000"], paths: [/open], allow: anonymous}
- {name: app, hosts: ["http://app.localhost:10000"], login: corp, require: any_user}
- {name: api, hosts: [api.example.com], bearer: [api], require: {subjects: [machine]}}
`

// start serves a configuration; files are names and contents of others beside it.
func start(t *testing.T, text string, files ...string) *gate {
	t.Helper()
	g := &gate{t: t, dir: t.TempDir(), log: &sink{}, reload: make(chan os.Signal, 1), hurry: make(chan struct{}), done: make(chan struct{})}
	g.write("secret", "mesh-secret\n")
	g.write("gatehouse.yaml", text)
	for i := 0; i < len(files); i += 2 {
		g.write(files[i], files[i+1])
	}
	ctx, end := context.WithCancel(t.Context())
	g.end = end
	go func() {
		g.err = serve(ctx, filepath.Join(g.dir, "gatehouse.yaml"), g.log, told{g.reload, g.hurry})
		close(g.done)
	}()
	t.Cleanup(func() { end(); <-g.done })
	return g
}

func (g *gate) write(name, text string) {
	g.t.Helper()
	// Written beside and renamed, as volumes are updated: never half a file.
	file := filepath.Join(g.dir, name)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		g.t.Fatal(err)
	}
}

// await returns the first match in the log.
func (g *gate) await(pattern string) []string {
	g.t.Helper()
	re := regexp.MustCompile(pattern)
	for range 500 {
		if m := re.FindStringSubmatch(g.log.String()); m != nil {
			return m
		}
		select {
		case <-g.done:
			if m := re.FindStringSubmatch(g.log.String()); m != nil {
				return m
			}
			g.t.Fatalf("ended with %v before the log held %q:\n%s", g.err, pattern, g.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	g.t.Fatalf("the log does not hold %q:\n%s", pattern, g.log)
	return nil
}

func (g *gate) address(listener string) string {
	return g.await(`"listener":"` + listener + `","address":"([^"]+)"`)[1]
}

func (g *gate) get(listener, host, path string) (int, http.Header, string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), "GET", "http://"+g.address(listener)+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Accept", "text/html")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(body)
}

func (g *gate) dial() *grpc.ClientConn {
	g.t.Helper()
	conn, err := grpc.NewClient(g.address("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	return conn
}

func check(t *testing.T, conn *grpc.ClientConn, host, path string, headers map[string]string) *authv3.CheckResponse {
	t.Helper()
	resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7"}}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "GET", Host: host, Path: path, Protocol: "HTTP/2", Headers: headers,
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("google.golang.org/grpc.(*addrConn).resetTransportAndUnlock"), // a client of a test may still be backing off
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func TestServe(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	g := start(t, fmt.Sprintf(base, idp.Issuer()))
	conn := g.dial()
	token := idp.Bearer(nil)
	secrets := []string{token, "mesh-secret", "hidden-query"}

	// Decisions of every kind.
	navigation := map[string]string{"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "none", ":method": "GET"}
	if r := check(t, conn, "app.localhost:10000", "/open?hidden-query", nil); r.GetStatus().GetCode() != int32(codes.OK) {
		t.Errorf("anonymous: %v", r)
	}
	if r := check(t, conn, "app.localhost:10000", "/", navigation); r.GetDeniedResponse().GetStatus().GetCode() != 302 {
		t.Errorf("navigation: %v", r)
	}
	if r := check(t, conn, "other.example.com", "/", nil); r.GetDeniedResponse().GetStatus().GetCode() != 403 {
		t.Errorf("unknown host: %v", r)
	}
	for range 100 { // until the provider has been read
		if states := g.metric("gatehouse_provider_ready"); strings.Count(states, "} 1") == 2 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if r := check(t, conn, "api.example.com", "/", map[string]string{"authorization": "Bearer " + token}); r.GetStatus().GetCode() != int32(codes.OK) {
		t.Errorf("bearer: %v", r)
	}
	if r := check(t, conn, "api.example.com", "/", map[string]string{"authorization": "Bearer " + token + "x"}); r.GetDeniedResponse().GetStatus().GetCode() != 401 {
		t.Errorf("broken bearer: %v", r)
	}

	// The HTTP listener serves the login and nothing of ops.
	status, header, _ := g.get("http", "app.localhost:10000", "/oauth2/start?rd=%2F")
	if location := header.Get("Location"); (status != 302 && status != 303) || !strings.HasPrefix(location, idp.Issuer()) {
		t.Errorf("start: %d to %q", status, location)
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} { // V3
		if status, _, _ := g.get("http", "app.localhost:10000", path); status != 404 {
			t.Errorf("%s on the HTTP listener: %d", path, status)
		}
	}

	// Ops.
	if status, _, body := g.get("ops", "x", "/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("/readyz: %d %q", status, body)
	}
	metrics := g.metric("")
	for _, want := range []string{
		`gatehouse_decisions_total{outcome="allow",reason="anonymous",rule="open"} 1`,
		`gatehouse_decisions_total{outcome="allow",reason="allowed",rule="api"} 1`,
		`gatehouse_decisions_total{outcome="deny",reason="no_rule",rule=""} `,
		`gatehouse_rules{access="anonymous"} 1`, // A4
		`gatehouse_checks_in_flight 0`,
		`gatehouse_provider_call_duration_seconds_count{provider="corp",result="2xx"}`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}

	// The log: one line per Check, no secret in it.
	g.await(`"rule":"api","reason":"allowed"`)
	var line map[string]any
	for text := range strings.Lines(g.log.String()) {
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("no JSON: %q", text)
		}
	}
	g.await(`"decision":"allow","rule":"open","reason":"anonymous","method":"GET","host":"app.localhost","path":"/open","caller":"fetch","client":"192.0.2.7","request_id":"1"`)
	g.await(`"level":"WARN","msg":".*gatehouse.yaml:9:\d+: sessions.store.memory`)
	for _, secret := range secrets { // V2
		if strings.Contains(g.log.String(), secret) || strings.Contains(metrics, secret) {
			t.Errorf("%q is in the log or the metrics", secret)
		}
	}
}

// E2: an address counts when the provider vouches for it, or when the operator said
// that this provider need not.
func TestEmailVerified(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	g := start(t, fmt.Sprintf(`
listen: {grpc: {address: "127.0.0.1:0"}}
providers:
- {name: claim, issuer: "%[1]s", bearer: {audiences: [api]}}
- {name: trust, issuer: "%[1]s", email_verified: trust, bearer: {audiences: [api]}}
rules:
- {name: claim, hosts: [claim.example.com], bearer: [claim], require: {emails: [m@example.com]}}
- {name: trust, hosts: [trust.example.com], bearer: [trust], require: {emails: [m@example.com]}}
`, idp.Issuer()))
	conn := g.dial()
	for _, tt := range []struct {
		verified any
		host     string
		want     codes.Code
	}{
		{true, "claim.example.com", codes.OK},
		{nil, "claim.example.com", codes.PermissionDenied},
		{false, "claim.example.com", codes.PermissionDenied},
		{"true", "claim.example.com", codes.PermissionDenied},
		{nil, "trust.example.com", codes.OK},
		{false, "trust.example.com", codes.PermissionDenied},
	} {
		token := idp.Bearer(map[string]any{"email": "m@example.com", "email_verified": tt.verified})
		var got codes.Code
		for range 200 { // 503 until the provider has been read
			r := check(t, conn, tt.host, "/", map[string]string{"authorization": "Bearer " + token})
			if got = codes.Code(r.GetStatus().GetCode()); got != codes.Unavailable {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if got != tt.want {
			t.Errorf("%s, email_verified %v = %v, want %v", tt.host, tt.verified, got, tt.want)
		}
	}
}

func (g *gate) metric(prefix string) string {
	g.t.Helper()
	_, _, body := g.get("ops", "x", "/metrics")
	var b strings.Builder
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, prefix) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// N3: a bad reload keeps the old configuration, says why and counts.
func TestReload(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	good := fmt.Sprintf(base, idp.Issuer())
	g := start(t, good)
	conn := g.dial()
	allowed := func(path string) bool {
		t.Helper()
		return check(t, conn, "app.localhost:10000", path, nil).GetStatus().GetCode() == int32(codes.OK)
	}
	if !allowed("/open") || allowed("/new") {
		t.Fatal("before the reload")
	}

	g.write("gatehouse.yaml", strings.ReplaceAll(good, "allow: anonymous", "alow: anonymous"))
	g.reload <- os.Interrupt
	g.await(`gatehouse.yaml:12:\d+: rules\[0\].alow: unknown key: did you mean`)
	g.await(`was not reloaded; the old one stays`)
	if !allowed("/open") {
		t.Error("the old configuration is gone")
	}

	discovered := idp.Hits(oidctest.Discovery)
	g.write("gatehouse.yaml", strings.ReplaceAll(good, "paths: [/open]", "paths: [/new]"))
	g.await(`configuration reloaded`) // noticed without a signal
	if allowed("/open") || !allowed("/new") {
		t.Error("the new configuration is not in use")
	}
	if now := idp.Hits(oidctest.Discovery); now != discovered {
		t.Errorf("discovery was read %d times more: providers with the same configuration live on", now-discovered)
	}
	metrics := g.metric("gatehouse_config_reloads_total")
	for _, want := range []string{`{result="failure"} 1`, `{result="success"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in %s", want, metrics)
		}
	}

	g.write("gatehouse.yaml", strings.ReplaceAll(strings.ReplaceAll(good, "memory: {}", "memory: {size_mib: 1}"), "ops: {", "ops: {tls: {cert_file: secret, key_file: secret}, "))
	g.await(`needs a restart; the old value stays in use","key":"listen"`)
	g.await(`needs a restart; the old value stays in use","key":"sessions.store"`)
}

func TestDrain(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	g := start(t, strings.ReplaceAll(fmt.Sprintf(base, idp.Issuer()), "pause: 100ms", "pause: 700ms"))
	conn := g.dial()
	health := func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStatus()
	}
	if health() != healthpb.HealthCheckResponse_SERVING {
		t.Fatal("not serving")
	}
	g.end()
	g.await(`"msg":"draining"`)
	time.Sleep(100 * time.Millisecond)
	if health() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Error("a draining process says that it serves")
	}
	if status, _, _ := g.get("ops", "x", "/readyz"); status != 503 {
		t.Errorf("/readyz while draining: %d", status)
	}
	if r := check(t, conn, "app.localhost:10000", "/open", nil); r.GetStatus().GetCode() != int32(codes.OK) {
		t.Errorf("a Check during the pause: %v", r)
	}
	if <-g.done; g.err != nil {
		t.Errorf("serve = %v", g.err)
	}
	if !strings.Contains(g.log.String(), `"msg":"stopped"`) {
		t.Errorf("the last line is missing:\n%s", g.log)
	}
}

func TestDrainInAHurry(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	g := start(t, strings.ReplaceAll(fmt.Sprintf(base, idp.Issuer()), "pause: 100ms", "pause: 1m"))
	g.address("ops")
	g.end()
	time.Sleep(50 * time.Millisecond)
	close(g.hurry)
	select {
	case <-g.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the second signal did not stop it")
	}
}

func TestSealingKeysAreReadAgain(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	var key bytes.Buffer
	if code := run([]string{"keys", "new"}, &key, io.Discard); code != 0 {
		t.Fatalf("keys new = %d", code)
	}
	g := start(t, fmt.Sprintf(base, idp.Issuer()))
	_ = g.await(`"msg":"listening"`)
	g.end()
	<-g.done

	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(dir, "1")
	if err := os.WriteFile(first, key.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	g = start(t, strings.ReplaceAll(fmt.Sprintf(base, idp.Issuer()), "memory: {}}", "memory: {}}, key_files: ["+dir+"/*]"))
	g.address("ops")
	if err := os.WriteFile(filepath.Join(dir, "2"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.await(`the sealing keys changed but cannot be used`)
	var second bytes.Buffer
	run([]string{"keys", "new"}, &second, io.Discard)
	if err := os.WriteFile(filepath.Join(dir, "2"), second.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	g.await(`"msg":"sealing keys read again","keys":2`)
	for _, k := range []string{key.String(), second.String()} {
		if strings.Contains(g.log.String(), strings.Fields(k)[3]) {
			t.Error("a sealing key is in the log")
		}
	}
}
