package e2e

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/credentials"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// Host names of the fixture. Browsers resolve NAME.localhost by themselves.
const (
	appHost    = "app.localhost"    // login; /static/** anonymous, /admin/** for admins
	goodHost   = "good.localhost"   // login, verified e-mail in good.test
	tokensHost = "tokens.localhost" // login, the application gets the access token
	bothHost   = "both.localhost"   // login or bearer
	otherHost  = "other.localhost"  // login: another application, to a browser another site
	loginHost  = "auth.localhost"   // with fixture.login: where everybody signs in
	apiHost    = "api.test"         // bearer
	openHost   = "open.test"        // anonymous everywhere
)

// fixture says which stack to start.
type fixture struct {
	certified bool       // logins at npm's oidc-provider; else at oidctest
	redis     bool       // one server; else, without sentinel and cluster, memory
	sentinel  bool       // Redis: a master, two replicas, three Sentinels
	cluster   bool       // Redis: three masters
	http      bool       // endpoints over the HTTP listener; else in band
	login     bool       // everybody signs in at loginHost
	late      bool       // the certified provider is not started
	proxy     string     // profile of the proxy that asks over HTTP in Envoy's place; empty: Envoy asks over gRPC
	trusted   string     // trusted_proxies of its listener; empty: this machine
	envoy     string     // version; empty: the newest
	listeners []listener // empty: one, normalising, with raw headers

	replicas int  // of Gatehouse, behind one Envoy; 0: one
	faults   bool // proxies with faults: each replica's to Redis, everybody's to the provider
	race     bool // the binary is built with the race detector
	tls      bool // between Envoy and Check, and between Gatehouse and Redis
	offline  bool // the client asks for refresh tokens, which rotate
	gate     bool // oidctest behind a secretGate
	short    int  // seconds that the access token of a login at the certified provider lives; 0: an hour

	admin        string   // listener of the admin API: "socket" or "token"; empty: none
	checkTimeout string   // empty: 5s, since the machine may be busy
	access       string   // of the log; empty: all
	sessions     []string // more lines below sessions
	users        []oidctest.User
}

// stack is everything between a browser and an application.
type stack struct {
	fixture
	port      int // of the first listener
	listeners []listener
	app       *app
	idp       *oidctest.Server // bearer tokens, and logins unless certified
	certified *certified       // nil with oidctest
	gate      *secretGate      // nil without fixture.gate
	provider  *faults          // between everybody and where users sign in; nil without fixture.faults
	redis     *redis           // nil unless it is one server
	sentinels *sentinels
	cluster   []*redis
	tls       *authority // nil without TLS
	gatehouse *gatehouse // the first of replicas
	replicas  []*gatehouse
	envoy     *envoy   // nil with fixture.proxy
	front     *process // the proxy; nil without
	client    client

	secretFile, redisFile, adminFile string // shared by all replicas
	keyDir                           string
}

func newStack(t testing.TB, f fixture) *stack {
	t.Helper()
	s := &stack{fixture: f, listeners: f.listeners}
	if len(s.listeners) == 0 {
		s.listeners = []listener{{normalise: true, rawHeaders: true}}
	}
	for i := range s.listeners {
		s.listeners[i].port, s.listeners[i].http = freePort(t), f.http
	}
	s.port = s.listeners[0].port
	s.register()
	s.app = startApp(t)
	s.startProviders(t)
	if f.tls {
		s.tls = newAuthority(t)
	}
	s.startStore(t)
	for range max(1, f.replicas) {
		s.replicas = append(s.replicas, s.startGatehouse(t))
	}
	s.gatehouse = s.replicas[0]
	if f.proxy != "" {
		s.startProxy(t)
	} else {
		s.startEnvoy(t)
	}
	return s
}

// register makes up Gatehouse's registration at the providers.
func (s *stack) register() {
	s.client = client{id: "mesh", secret: "secret-" + random(), short: s.short}
	hosts := []string{appHost, goodHost, tokensHost, bothHost, otherHost}
	if s.login {
		s.client.redirects = []string{s.url(loginHost, "/oauth2/callback")}
		s.client.backchannel = s.url(loginHost, "/oauth2/backchannel-logout")
		hosts = append(hosts, loginHost)
	}
	for _, h := range hosts {
		if !s.login {
			s.client.redirects = append(s.client.redirects, s.url(h, "/oauth2/callback"))
		}
		s.client.post = append(s.client.post, s.url(h, "/oauth2/signed_out"))
	}
	note("client secret", s.client.secret)
}

func (s *stack) startEnvoy(t testing.TB) {
	t.Helper()
	c := envoyConfig{version: s.fixture.envoy, listeners: s.listeners, app: s.app.port, tls: s.tls}
	if c.version == "" {
		c.version = newestEnvoy
	}
	if s.login {
		c.loginHost = fmt.Sprintf("%s:%d", loginHost, s.port)
	}
	for _, g := range s.replicas {
		c.grpc = append(c.grpc, endpoint{port: g.grpc})
		if s.overHTTP() {
			c.http = append(c.http, endpoint{port: g.http, ops: g.ops})
		}
	}
	s.envoy = startEnvoy(t, c)
}

func (s *stack) startProviders(t testing.TB) {
	t.Helper()
	users := s.users
	for name, p := range people {
		users = append(users, oidctest.User{
			Subject: name, Email: p.Email, EmailVerified: p.EmailVerified, Name: p.Name, PreferredUsername: p.PreferredUsername, Groups: p.Groups,
		})
	}
	cfg := oidctest.Config{Users: users, Clients: []oidctest.Client{
		{ID: s.client.id, Secret: s.client.secret, RedirectURIs: s.client.redirects, PostLogoutRedirectURIs: s.client.post},
	}}
	atCertified := s.fixture.certified || s.late
	switch {
	case s.fixture.gate:
		s.idp, s.gate = gatedProvider(t, cfg)
	case s.faults && !atCertified:
		s.idp, s.provider = proxiedProvider(t, cfg)
	default:
		s.idp = oidctest.Start(t, cfg)
	}
	t.Cleanup(func() {
		note("oidctest", s.idp.Secrets()...)
		for _, r := range s.idp.Requests(oidctest.Token) {
			note("refresh token", r.PostForm.Get("refresh_token"))
		}
	})
	if !atCertified {
		return
	}
	s.certified = newCertified(t, s.client)
	if s.faults {
		s.provider = newFaultsAt(t, s.certified.port, s.certified.moveAway(t))
	}
	if !s.late {
		s.certified.up(t)
	}
}

// proxiedProvider is an oidctest whose issuer is a proxy before it.
func proxiedProvider(t testing.TB, cfg oidctest.Config) (*oidctest.Server, *faults) {
	t.Helper()
	port := freePort(t)
	cfg.Issuer = "http://" + addr(port)
	p, err := oidctest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	behind := freePort(t)
	srv, err := p.Serve(addr(behind))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv, newFaultsAt(t, port, behind)
}

func (s *stack) startStore(t testing.TB) {
	t.Helper()
	password := ""
	switch {
	case s.fixture.redis:
		s.redis = newRedis(t)
		s.redis.tls = s.tls
		s.redis.up(t)
		password = s.redis.password
	case s.sentinel:
		s.sentinels = startSentinels(t)
		password = s.sentinels.nodes[0].password
	case s.fixture.cluster:
		s.cluster = startCluster(t)
		password = s.cluster[0].password
	default:
		return
	}
	s.redisFile = write(t, "redis-password", password)
	s.keyDir = filepath.Dir(write(t, "first", newKey(t)))
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
	asked           int     // where a proxy asks over HTTP
	admin           string  // address of the admin API
	checks          *checks // its Check, directly
	redis           *faults // between it and Redis; nil without fixture.faults
	launch          launch
}

func (s *stack) startGatehouse(t testing.TB) *gatehouse {
	t.Helper()
	build := binary
	if s.race {
		build = raceBinary
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	g := &gatehouse{grpc: freePort(t), http: freePort(t), ops: freePort(t), asked: freePort(t)}
	if g.admin = fmt.Sprintf("unix://%s/admin-%d.sock", run.dir, g.grpc); s.admin == "token" {
		g.admin = addr(freePort(t))
	}
	if s.faults && s.redis != nil {
		g.redis = newFaults(t, s.redis.port)
	}
	g.launch = launch{name: "gatehouse", path: bin, args: []string{"serve", "--config", write(t, "gatehouse.yaml", s.config(t, g))}}
	var creds credentials.TransportCredentials
	if s.tls != nil {
		creds = credentials.NewTLS(s.tls.client())
	}
	g.checks = newChecks(t, g.grpc, creds)
	g.up(t)
	t.Cleanup(func() { g.keepMetrics(t) })
	return g
}

// up starts the replica (again) and waits until it is ready.
func (g *gatehouse) up(t testing.TB) {
	t.Helper()
	g.process = start(t, g.launch)
	g.await(t, answers200("http://"+addr(g.ops)+"/readyz"))
}

// overHTTP reports whether Gatehouse has an HTTP listener.
func (s *stack) overHTTP() bool { return s.http || s.login }

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

func (s *stack) config(t testing.TB, g *gatehouse) string {
	t.Helper()
	if s.secretFile == "" {
		s.secretFile = write(t, "client-secret", s.client.secret+"\n")
		token := random() + random()
		note("admin token", token)
		s.adminFile = write(t, "admin-token", token)
	}
	scopes := ""
	if s.offline {
		scopes = ", scopes: [openid, email, profile, offline_access]"
	}
	lines := s.listen(g)
	if s.login {
		lines = append(lines, "login_url: "+s.origin(loginHost))
	}
	lines = append(lines,
		"client_address: x-envoy-external-address",
		fmt.Sprintf("log: {level: debug, access: %s}", cmp.Or(s.access, "all")),
		"check_timeout: "+cmp.Or(s.checkTimeout, "5s"),
		"shutdown: {pause: 2s, timeout: 10s}",
		"providers:",
		"- name: corp",
		"  issuer: "+s.issuer(),
		fmt.Sprintf("  client: {id: %s, secret_file: %s%s}", s.client.id, s.secretFile, scopes),
		"- name: machines",
		"  issuer: "+s.idp.Issuer(),
		"  bearer: {audiences: [api]}",
		"sessions:",
		"  store: "+s.store(g),
	)
	if s.keyDir != "" {
		lines = append(lines, "  key_files: ["+s.keyDir+"/*]")
	}
	for _, line := range s.sessions {
		lines = append(lines, "  "+line)
	}
	return strings.Join(lines, "\n") + "\n" + s.rules()
}

func (s *stack) listen(g *gatehouse) []string {
	tls := ""
	if s.tls != nil {
		tls = fmt.Sprintf(", tls: {cert_file: %s, key_file: %s, client_ca_file: %s}", s.tls.file("server.pem"), s.tls.file("server.key"), s.tls.file("ca.pem"))
	}
	lines := []string{
		"listen:",
		fmt.Sprintf("  grpc: {address: %q%s}", addr(g.grpc), tls),
		fmt.Sprintf("  ops: {address: %q}", addr(g.ops)),
	}
	if s.overHTTP() {
		lines = append(lines, fmt.Sprintf("  http: {address: %q}", addr(g.http)))
	}
	if s.fixture.admin != "" {
		lines = append(lines, s.adminListener(g))
	}
	if s.proxy != "" {
		lines = append(lines, fmt.Sprintf("  forward_auth: [{address: %q, profile: %s, trusted_proxies: [%s]}]", addr(g.asked), s.proxy, cmp.Or(s.trusted, "127.0.0.1")))
	}
	return lines
}

// store is where g keeps sessions.
func (s *stack) store(g *gatehouse) string {
	quoted := func(ports ...int) string {
		var out []string
		for _, p := range ports {
			out = append(out, strconv.Quote(addr(p)))
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	switch {
	case s.sentinels != nil:
		return fmt.Sprintf("{redis: {sentinel: {master: %s, addresses: %s}, password_file: %s}}", masterName, quoted(s.sentinels.ports...), s.redisFile)
	case s.cluster != nil:
		return fmt.Sprintf("{redis: {addresses: %s, cluster: true, password_file: %s}}", quoted(s.cluster[0].port, s.cluster[1].port), s.redisFile)
	case s.redis == nil:
		return "{memory: {}}"
	}
	port, tls := s.redis.port, ""
	if g.redis != nil {
		port = g.redis.port
	}
	if s.tls != nil {
		tls = fmt.Sprintf(", tls: {ca_file: %s, cert_file: %s, key_file: %s}", s.tls.file("ca.pem"), s.tls.file("client.pem"), s.tls.file("client.key"))
	}
	return fmt.Sprintf("{redis: {addresses: %s, password_file: %s%s}}", quoted(port), s.redisFile, tls)
}

func (s *stack) rules() string {
	return strings.NewReplacer(
		"APP", s.origin(appHost), "GOOD", s.origin(goodHost), "TOKENS", s.origin(tokensHost), "BOTH", s.origin(bothHost), "OTHER", s.origin(otherHost),
	).Replace(`rules:
- {name: assets, hosts: ["APP"], paths: [/static/**], methods: [GET, HEAD], allow: anonymous}
- {name: admin, hosts: ["APP"], paths: [/admin/**], login: corp, require: {groups: [admins]}}
- name: composed
  hosts: ["APP"]
  paths: [/composed/**]
  login: corp
  require: {cel: 'request.method == "GET" && claims.email.endsWith("@good.test")', not: {groups: [blocked]}}
  forward: {headers: {X-Badge: "{preferred_username}/{email}", X-None: "{none}"}, groups: [st*]}
- {name: app, hosts: ["APP"], login: corp, require: any_user}
- {name: good, hosts: ["GOOD"], login: corp, require: {email_domains: [good.test]}}
- {name: tokens, hosts: ["TOKENS"], login: corp, require: any_user, forward: {access_token: true}}
- {name: both, hosts: ["BOTH"], login: corp, bearer: [machines], require: any_user}
- {name: other, hosts: ["OTHER"], login: corp, require: any_user}
- {name: api, hosts: [api.test], bearer: [machines], require: {subjects: [machine]}}
- {name: open, hosts: [open.test], allow: anonymous}
`)
}

func (s *stack) origin(host string) string { return s.url(host, "") }
