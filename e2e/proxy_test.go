package e2e

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	caddyVersion   = "2.11.9"
	traefikVersion = "3.7.13"
)

// startProxy starts what s.proxy names, set up as the manifest says.
func (s *stack) startProxy(t testing.TB) {
	t.Helper()
	switch s.proxy {
	case "nginx":
		s.startNginx(t, s.manifest(t, "nginx/gatehouse.conf",
			"listen 443 ssl;", fmt.Sprintf("listen 127.0.0.1:%d;", s.port),
			"server_name app.example.com;", "server_name _;",
			"    ssl_certificate     /etc/nginx/tls/tls.crt;\n    ssl_certificate_key /etc/nginx/tls/tls.key;\n", "",
		))
	case "ingress-nginx":
		s.startNginx(t, s.ingress())
	case "caddy":
		s.startCaddy(t)
	case "traefik":
		s.startTraefik(t)
	case "envoy":
		s.startEnvoyHTTP(t, cmp.Or(s.fixture.envoy, newestEnvoy))
	default:
		t.Fatalf("no proxy %q", s.proxy)
	}
}

// manifest is a file that users apply, with the addresses of this stack; edits are texts
// and their replacements. It fails the test when a text is not there.
func (s *stack) manifest(t testing.TB, name string, edits ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(run.root, "manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("%s does not hold %q", name, edits[i])
		}
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	const service = "gatehouse.gatehouse.svc.cluster.local:"
	return strings.NewReplacer(
		service+"8080", addr(s.gatehouse.http), service+"4180", addr(s.gatehouse.asked), "app.apps.svc.cluster.local:8080", addr(s.app.port),
	).Replace(text)
}

// startNginx runs nginx as any user, below a directory of its own.
func (s *stack) startNginx(t testing.TB, servers string) {
	t.Helper()
	path := program(t, "nginx")
	file := write(t, "nginx.conf", fmt.Sprintf(`daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
%s
}
`, servers))
	s.front = start(t, launch{name: s.proxy, path: path, args: []string{"-p", filepath.Dir(file), "-c", file, "-e", "stderr"}})
	s.front.await(t, s.listens)
}

func (s *stack) listens() error {
	c, err := net.Dial("tcp", addr(s.port))
	if err == nil {
		c.Close()
	}
	return err
}

func (s *stack) startCaddy(t testing.TB) {
	t.Helper()
	var hosts []string
	for _, h := range []string{appHost, goodHost, otherHost, apiHost, openHost} {
		hosts = append(hosts, fmt.Sprintf("http://%s:%d", h, s.port))
	}
	text := "{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tpersist_config off\n}\n" + s.manifest(t, "caddy/Caddyfile", "app.example.com {", strings.Join(hosts, ", ")+" {")
	file := write(t, "Caddyfile", text)
	s.front = start(t, launch{
		name: "caddy", path: tool(t, "caddy", caddyVersion, "caddy"), args: []string{"run", "--adapter", "caddyfile", "--config", file},
		env: []string{"HOME=" + filepath.Dir(file), "XDG_DATA_HOME=" + filepath.Dir(file), "XDG_CONFIG_HOME=" + filepath.Dir(file)},
	})
	s.front.await(t, s.listens)
}

// startTraefik hands what stands below spec of the Middleware to Traefik as it is: in files
// it goes by the same keys, and one that Traefik does not know keeps the routers away. The
// entry point believes what anybody says of being forwarded, so that the middleware has to
// hold against it.
func (s *stack) startTraefik(t testing.TB) {
	t.Helper()
	_, spec, ok := strings.Cut(s.manifest(t, "traefik/middleware.yaml",
		"gatehouse.gatehouse.svc.cluster.local:4182", addr(s.gatehouse.asked)), "\nspec:\n")
	if !ok || !strings.HasPrefix(spec, "  forwardAuth:\n") {
		t.Fatalf("traefik/middleware.yaml holds no forwardAuth:\n%s", spec)
	}
	var hosts []string
	for _, h := range []string{appHost, goodHost, otherHost, apiHost, openHost} {
		hosts = append(hosts, fmt.Sprintf("Host(`%s`)", h))
	}
	routes := write(t, "routes.yaml", fmt.Sprintf(`http:
  routers:
    app: {entryPoints: [web], rule: "%s", middlewares: [gatehouse], service: app}
  services:
    app: {loadBalancer: {servers: [{url: "http://%s"}]}}
  middlewares:
    gatehouse:
    %s
`, strings.Join(hosts, " || "), addr(s.app.port), strings.ReplaceAll(spec, "\n", "\n    ")))
	file := write(t, "traefik.yaml", fmt.Sprintf(`global: {checkNewVersion: false, sendAnonymousUsage: false}
log: {level: WARN}
entryPoints: {web: {address: %q, forwardedHeaders: {insecure: true}}}
providers: {file: {filename: %q, watch: false}}
`, addr(s.port), routes))
	s.front = start(t, launch{
		name: "traefik", path: tool(t, "traefik", traefikVersion, "traefik"), args: []string{"--configfile=" + file},
		env: []string{"HOME=" + filepath.Dir(file)},
	})
	// It listens before it has routes. What is refused tells the application nothing.
	s.front.await(t, func() error {
		a, err := rawTry(s.port, "GET /ready HTTP/1.1\r\nhost: "+apiHost+"\r\n\r\n")
		if err == nil && a.Status != http.StatusUnauthorized {
			err = fmt.Errorf("%v, want 401", a)
		}
		return err
	})
}

func (s *stack) startEnvoyHTTP(t testing.TB, version string) {
	t.Helper()
	at := func(host string, port int) string { return fmt.Sprintf("{address: %s, port_value: %d}", host, port) }
	file := write(t, "envoy-http.yaml", s.manifest(t, "envoy/http.yaml",
		at("0.0.0.0", 8443), at("127.0.0.1", s.port),
		"domains: [app.example.com]", `domains: ["*"]`,
		at("gatehouse.gatehouse.svc.cluster.local", 4184), at("127.0.0.1", s.gatehouse.asked),
		at("app.apps.svc.cluster.local", 8080), at("127.0.0.1", s.app.port),
	))
	s.front = start(t, launch{name: "envoy-http-" + version, path: tool(t, "envoy", version, "envoy"), args: []string{
		"-c", file, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning", "--use-dynamic-base-id",
	}})
	s.front.await(t, s.listens)
}

// ingress is what the controller of ingress-nginx makes of the annotations in
// manifests/ingress-nginx, as far as it concerns authentication. The module that escapes
// $request_uri is not part of nginx, so a map does it for the address that is tested.
func (s *stack) ingress() string {
	var copied strings.Builder
	for i, name := range []string{
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Groups", "X-Auth-Request-Access-Token",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "Cookie",
	} {
		variable := strings.ToLower(strings.ReplaceAll(name, "-", "_"))
		fmt.Fprintf(&copied, "        auth_request_set $authHeader%d $upstream_http_%s;\n        proxy_set_header '%s' $authHeader%d;\n", i, variable, name, i)
	}
	return fmt.Sprintf(ingressText, s.port, addr(s.gatehouse.asked), addr(s.gatehouse.http), s.origin(loginHost), copied.String(), addr(s.app.port))
}

const ingressText = `
map $request_uri $escaped_request_uri {
    default $request_uri;
    "/deep?a=1&b=2" "%%2Fdeep%%3Fa%%3D1%%26b%%3D2";
}
proxy_buffer_size 64k;
proxy_buffers 8 64k;
proxy_busy_buffers_size 128k;
server {
    listen 127.0.0.1:%[1]d;
    server_name app.localhost other.localhost open.test;
    location = /_external-auth {
        internal;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header X-Forwarded-Proto "";
        proxy_set_header X-Request-ID $request_id;
        proxy_set_header Host gatehouse.sso.svc.cluster.local;
        proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Sent-From "nginx-ingress-controller";
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Auth-Request-Redirect $request_uri;
        proxy_set_header 'X-Forwarded-Host' $host;
        proxy_pass http://%[2]s/oauth2/auth;
    }
    location /oauth2/ {
        proxy_set_header Host $http_host;
        proxy_pass http://%[3]s;
    }
    location @signin {
        internal;
        add_header Set-Cookie $auth_cookie;
        return 302 %[4]s/oauth2/start?rd=$scheme://$http_host$escaped_request_uri;
    }
    location / {
        auth_request /_external-auth;
        auth_request_set $auth_cookie $upstream_http_set_cookie;
        add_header Set-Cookie $auth_cookie;
%[5]s
        error_page 401 = @signin;
        proxy_set_header Host $http_host;
        proxy_pass http://%[6]s;
    }
}
server {
    listen 127.0.0.1:%[1]d;
    server_name auth.localhost;
    location /oauth2/ {
        proxy_set_header Host $http_host;
        proxy_pass http://%[3]s;
    }
}
`
