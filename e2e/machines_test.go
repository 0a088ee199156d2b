package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// machines is Envoy, Gatehouse and an application, for callers that are no browsers.
type machines struct {
	port      int // of Envoy
	app       *app
	gatehouse *gatehouse
}

// newMachines starts Gatehouse with providers and rules as they stand in the file.
func newMachines(t testing.TB, port int, config string, env ...string) *machines {
	t.Helper()
	m := &machines{port: port, app: startApp(t), gatehouse: &gatehouse{grpc: freePort(t), ops: freePort(t)}}
	head := fmt.Sprintf("listen: {grpc: {address: %q}, ops: {address: %q}}\nlog: {level: debug, access: all}\ncheck_timeout: 5s\n", addr(m.gatehouse.grpc), addr(m.gatehouse.ops))
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	m.gatehouse.launch = launch{name: "gatehouse", path: bin, env: env, args: []string{"serve", "--config", write(t, "gatehouse.yaml", head+config)}}
	m.gatehouse.up(t)
	t.Cleanup(func() { m.gatehouse.keepMetrics(t) })
	startEnvoy(t, envoyConfig{
		version: newestEnvoy, listeners: []listener{{port: port, normalise: true, rawHeaders: true}},
		app: m.app.port, grpc: []endpoint{{port: m.gatehouse.grpc}},
	})
	return m
}

// ask sends a GET with a bearer token through Envoy.
func (m *machines) ask(t testing.TB, host, path, token string) answer {
	t.Helper()
	return get(t, m.port, host, path, bearer(token)...)
}

// expect fails unless the answer to a token has this status.
func (m *machines) expect(t testing.TB, what, host, token string, status int) {
	t.Helper()
	m.expectAt(t, what, host, "/expect", token, status)
}

func (m *machines) expectAt(t testing.TB, what, host, path, token string, status int) {
	t.Helper()
	if a := m.ask(t, host, path, token); a.Status != status {
		t.Errorf("%s at %s%s: %v, want %d", what, host, path, a, status)
	}
}

// lines are the lines of the access log about a path, when all want of them are written.
func (m *machines) lines(t testing.TB, path string, want int) (found []map[string]any) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		found = nil
		for scan := bufio.NewScanner(strings.NewReader(m.gatehouse.output())); scan.Scan(); {
			var line map[string]any
			if json.Unmarshal(scan.Bytes(), &line) == nil && line["msg"] == "check" && line["path"] == path {
				found = append(found, line)
			}
		}
		if len(found) < want {
			return fmt.Errorf("%d lines about %s, want %d", len(found), path, want)
		}
		return nil
	})
	return found
}

// apiServer is a Kubernetes API server that issues service account tokens: HTTPS under its own
// authority, discovery and keys only for who shows a token.
type apiServer struct {
	*oidctest.Provider
	addr   string
	cert   *authority
	server *http.Server
	guard  atomic.Pointer[string] // the token that has to be shown
	asked  atomic.Int64           // requests with the right token
}

const oldIssuer = "https://kubernetes.default.svc.cluster.local"

func startAPIServer(t testing.TB) *apiServer {
	t.Helper()
	c := &apiServer{addr: addr(freePort(t)), cert: newAuthority(t)}
	p, err := oidctest.New(oidctest.Config{Issuer: "https://" + c.addr})
	if err != nil {
		t.Fatal(err)
	}
	c.Provider = p
	token := "reader." + random()
	c.guard.Store(&token)
	note("issuer token", token)
	c.serve(t, c.cert)
	t.Cleanup(func() { c.server.Close() })
	return c
}

// serve (re)starts the server under a certificate.
func (c *apiServer) serve(t testing.TB, cert *authority) {
	t.Helper()
	if c.server != nil {
		c.server.Close()
	}
	var l net.Listener
	eventually(t, 10*time.Second, func() (err error) {
		l, err = net.Listen("tcp", c.addr)
		return err
	})
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func(s *http.Server) { _ = s.ServeTLS(l, cert.file("server.pem"), cert.file("server.key")) }(c.server)
}

func (c *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+*c.guard.Load() {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.asked.Add(1)
	c.Provider.ServeHTTP(w, r)
}

// account is a service account token as Kubernetes makes it: no e-mail, claims below
// a member with a dot in its name.
func (c *apiServer) account(namespace, name string, claims map[string]any) string {
	now := time.Now().Unix()
	all := map[string]any{
		"client_id": nil, "jti": nil, "aud": []string{"gatehouse"}, "sub": "system:serviceaccount:" + namespace + ":" + name,
		"iat": now, "nbf": now, "exp": now + 43200,
		"kubernetes.io": map[string]any{"namespace": namespace, "pod": map[string]any{"name": name + "-0"}, "serviceaccount": map[string]any{"name": name}},
	}
	for k, v := range claims {
		all[k] = v
	}
	return c.Bearer(all, func(j *oidctest.JWT) { j.Header["typ"] = nil })
}

// indent puts by before every line.
func indent(text []byte, by string) string {
	return by + strings.ReplaceAll(string(bytes.TrimSpace(text)), "\n", "\n"+by)
}
