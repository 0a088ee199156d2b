package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// Host names of the fixture. Browsers resolve NAME.localhost by themselves.
const (
	appHost    = "app.localhost"    // login; /static/** anonymous, /admin/** for admins
	goodHost   = "good.localhost"   // login, verified e-mail in good.test
	tokensHost = "tokens.localhost" // login, the application gets the access token
	bothHost   = "both.localhost"   // login or bearer
	apiHost    = "api.test"         // bearer
	openHost   = "open.test"        // anonymous everywhere
)

// fixture says which stack to start.
type fixture struct {
	certified bool       // logins at npm's oidc-provider; else at oidctest
	redis     bool       // else memory
	http      bool       // endpoints over the HTTP listener; else in band
	late      bool       // the certified provider is not started
	envoy     string     // version; empty: the newest
	listeners []listener // empty: one, normalising, with raw headers
}

// stack is everything between a browser and an application.
type stack struct {
	port      int // of the first listener
	listeners []listener
	app       *app
	idp       *oidctest.Server // bearer tokens, and logins unless certified
	certified *certified       // nil with oidctest
	redis     *redis           // nil with memory
	gatehouse *gatehouse
	envoy     *envoy
	client    client
	keyFile   string
}

func newStack(t testing.TB, f fixture) *stack {
	t.Helper()
	s := &stack{listeners: f.listeners}
	if len(s.listeners) == 0 {
		s.listeners = []listener{{normalise: true, rawHeaders: true}}
	}
	for i := range s.listeners {
		s.listeners[i].port, s.listeners[i].http = freePort(t), f.http
	}
	s.port = s.listeners[0].port
	s.client = client{id: "mesh", secret: "secret-" + random()}
	for _, h := range []string{appHost, goodHost, tokensHost, bothHost} {
		s.client.redirects = append(s.client.redirects, s.url(h, "/oauth2/callback"))
		s.client.post = append(s.client.post, s.url(h, "/oauth2/signed_out"))
	}
	note("client secret", s.client.secret)
	s.app = startApp(t)
	s.startProviders(t, f)
	if f.redis {
		s.redis = startRedis(t)
	}
	s.gatehouse = s.startGatehouse(t, f.http)
	version := f.envoy
	if version == "" {
		version = newestEnvoy
	}
	s.envoy = startEnvoy(t, envoyConfig{
		version: version, listeners: s.listeners, grpc: []int{s.gatehouse.grpc}, httpPort: s.gatehouse.http, app: s.app.port,
	})
	return s
}

func (s *stack) startProviders(t testing.TB, f fixture) {
	t.Helper()
	var users []oidctest.User
	for name, p := range people {
		users = append(users, oidctest.User{
			Subject: name, Email: p.Email, EmailVerified: p.EmailVerified, Name: p.Name, PreferredUsername: p.PreferredUsername, Groups: p.Groups,
		})
	}
	s.idp = oidctest.Start(t, oidctest.Config{Users: users, Clients: []oidctest.Client{
		{ID: s.client.id, Secret: s.client.secret, RedirectURIs: s.client.redirects, PostLogoutRedirectURIs: s.client.post},
	}})
	t.Cleanup(func() { note("oidctest", s.idp.Secrets()...) })
	if f.certified || f.late {
		s.certified = newCertified(t, s.client)
		if !f.late {
			s.certified.up(t)
		}
	}
}

// issuer is where users sign in.
func (s *stack) issuer() string {
	if s.certified != nil {
		return s.certified.issuer
	}
	return s.idp.Issuer()
}

// url is an address as the browser uses it.
func (s *stack) url(host, path string) string {
	return fmt.Sprintf("http://%s:%d%s", host, s.port, path)
}

// gatehouse is the built binary, serving.
type gatehouse struct {
	*process
	grpc, http, ops int
}

func (s *stack) startGatehouse(t testing.TB, overHTTP bool) *gatehouse {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	g := &gatehouse{grpc: freePort(t), http: freePort(t), ops: freePort(t)}
	file := write(t, "gatehouse.yaml", s.config(t, g, overHTTP))
	g.process = start(t, launch{name: "gatehouse", path: bin, args: []string{"serve", "--config", file}})
	g.await(t, answers200("http://"+addr(g.ops)+"/readyz"))
	t.Cleanup(func() { g.keepMetrics(t) })
	return g
}

// keepMetrics hands what the metrics say to the leak gate.
func (g *gatehouse) keepMetrics(t testing.TB) {
	if !g.running() {
		return
	}
	resp, err := http.Get("http://" + addr(g.ops) + "/metrics")
	if err != nil {
		t.Errorf("metrics: %v", err)
		return
	}
	defer resp.Body.Close()
	file, err := os.Create(filepath.Join(run.dir, fmt.Sprintf("metrics-%d.log", g.ops)))
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if _, err := file.ReadFrom(resp.Body); err != nil {
		t.Error(err)
	}
}

func (s *stack) config(t testing.TB, g *gatehouse, overHTTP bool) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "listen:\n  grpc: {address: %q}\n  ops: {address: %q}\n", addr(g.grpc), addr(g.ops))
	if overHTTP {
		fmt.Fprintf(&b, "  http: {address: %q}\n", addr(g.http))
	}
	fmt.Fprintf(&b, `client_address: x-envoy-external-address
log: {level: debug}
check_timeout: 5s  # the machine may be busy
shutdown: {pause: 2s, timeout: 10s}
providers:
- name: corp
  issuer: %s
  client: {id: %s, secret_file: %s}
- name: machines
  issuer: %s
  bearer: {audiences: [api]}
sessions:
`, s.issuer(), s.client.id, write(t, "client-secret", s.client.secret+"\n"), s.idp.Issuer())
	if s.redis == nil {
		b.WriteString("  store: {memory: {}}\n")
	} else {
		fmt.Fprintf(&b, "  store: {redis: {addresses: [%q], password_file: %s}}\n  key_files: [%s]\n",
			addr(s.redis.port), write(t, "redis-password", s.redis.password), s.key(t))
	}
	b.WriteString(strings.NewReplacer("APP", s.origin(appHost), "GOOD", s.origin(goodHost), "TOKENS", s.origin(tokensHost), "BOTH", s.origin(bothHost)).Replace(`rules:
- {name: assets, hosts: ["APP"], paths: [/static/**], methods: [GET, HEAD], allow: anonymous}
- {name: admin, hosts: ["APP"], paths: [/admin/**], login: corp, require: {groups: [admins]}}
- {name: app, hosts: ["APP"], login: corp, require: any_user}
- {name: good, hosts: ["GOOD"], login: corp, require: {email_domains: [good.test]}}
- {name: tokens, hosts: ["TOKENS"], login: corp, require: any_user, forward: {access_token: true}}
- {name: both, hosts: ["BOTH"], login: corp, bearer: [machines], require: any_user}
- {name: api, hosts: [api.test], bearer: [machines], require: {subjects: [machine]}}
- {name: open, hosts: [open.test], allow: anonymous}
`))
	return b.String()
}

func (s *stack) origin(host string) string { return s.url(host, "") }

// key is a sealing key, made by the binary itself; every replica has the same.
func (s *stack) key(t testing.TB) string {
	t.Helper()
	if s.keyFile == "" {
		s.keyFile = write(t, "session.key", newKey(t))
	}
	return s.keyFile
}
