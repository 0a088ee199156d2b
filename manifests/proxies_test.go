package manifests_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// managed are the names that no client may send to an application.
var managed = []string{
	"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Groups", "X-Auth-Request-Access-Token",
	"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
}

// has fails unless a file says something about every managed name and the cookies.
func has(t *testing.T, text, format string) {
	t.Helper()
	for _, name := range append(slices.Clone(managed), "Cookie") {
		if !strings.Contains(text, strings.ReplaceAll(format, "NAME", name)) {
			t.Errorf("nothing about %s", name)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// lacking skips, or fails where nothing may be skipped.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip("SKIPPED: " + what)
}

// Real nginx loads the server block.
func TestNginxLoads(t *testing.T) {
	text := read(t, "nginx/gatehouse.conf")
	has(t, text, "proxy_set_header NAME ")
	path, err := exec.LookPath("nginx")
	if err != nil {
		lacking(t, "no nginx: run e2e/tools.sh nginx")
	}
	dir := t.TempDir()
	certificate(t, dir)
	// The names of services resolve in a cluster only.
	text = strings.NewReplacer("/etc/nginx/tls", dir, "gatehouse.gatehouse.svc.cluster.local", "127.0.0.1", "app.apps.svc.cluster.local", "127.0.0.1", "listen 443", "listen 127.0.0.1:44443").Replace(text)
	check := func(servers string) ([]byte, error) {
		file := filepath.Join(dir, "nginx.conf")
		conf := "pid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n" + servers + "}\n"
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(path, "-t", "-p", dir, "-c", file, "-e", "stderr").CombinedOutput()
	}
	if out, err := check(text); err != nil {
		t.Errorf("nginx -t: %v\n%s", err, out)
	}
	if out, err := check(strings.Replace(text, "auth_request /", "auth_reqest /", 1)); err == nil {
		t.Errorf("control: a misspelt directive is accepted, so this test shows nothing:\n%s", out)
	}
}

// Real Caddy takes the Caddyfile.
func TestCaddyLoads(t *testing.T) {
	text := read(t, "caddy/Caddyfile")
	for _, name := range append(slices.Clone(managed), "Cookie") {
		if !strings.Contains(text, "request_header -"+name+"\n") && !strings.Contains(text[strings.Index(text, "copy_headers"):], " "+name) {
			t.Errorf("nothing about %s", name)
		}
	}
	paths, _ := filepath.Glob("../.tools/caddy/*/caddy")
	if len(paths) == 0 {
		lacking(t, "no Caddy: run e2e/tools.sh caddy")
	}
	for _, path := range paths {
		if out, err := caddy(t, path, text); err != nil {
			t.Errorf("caddy validate: %v\n%s", err, out)
		}
		if out, err := caddy(t, path, strings.Replace(text, "copy_headers", "copy_header", 1)); err == nil {
			t.Errorf("control: a misspelt directive is accepted, so this test shows nothing:\n%s", out)
		}
	}
}

func caddy(t *testing.T, path, text string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "validate", "--adapter", "caddyfile", "--config", file)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd.CombinedOutput()
}

// Envoy over HTTP: closed, and nothing that frames a message goes into the question.
func TestEnvoyHTTPPassesTheGeneratedValidators(t *testing.T) {
	var b bootstrapv3.Bootstrap
	decodeProto(t, []byte(read(t, "envoy/http.yaml")), &b)
	var hcm hcmv3.HttpConnectionManager
	if err := b.StaticResources.Listeners[0].FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(&hcm); err != nil {
		t.Fatal(err)
	}
	var ea extauthzv3.ExtAuthz
	if err := hcm.HttpFilters[0].GetTypedConfig().UnmarshalTo(&ea); err != nil {
		t.Fatal(err)
	}
	for _, v := range []interface{ ValidateAll() error }{&b, &hcm, &ea} {
		if err := v.ValidateAll(); err != nil {
			t.Error(err)
		}
	}
	if ea.FailureModeAllow || !ea.ValidateMutations || ea.StatusOnError.GetCode() != 503 || ea.GetHttpService().PathPrefix != "/oauth2/auth" {
		t.Errorf("ext_authz = %v: want closed, validated and at /oauth2/auth", &ea)
	}
}

func TestIngressDecodesStrictly(t *testing.T) {
	docs := documents(t, "ingress-nginx/ingress.yaml")
	var headers corev1.ConfigMap
	if err := yaml.UnmarshalStrict(docs[0], &headers); err != nil || headers.Data["X-Forwarded-Host"] != "$host" {
		t.Errorf("headers of the question: %v %v, want the host that nginx routes by", headers.Data, err)
	}
	var app, pages networkingv1.Ingress
	for i, ingress := range []*networkingv1.Ingress{&app, &pages} {
		if err := yaml.UnmarshalStrict(docs[i+1], ingress); err != nil {
			t.Fatal(err)
		}
	}
	const annotation = "nginx.ingress.kubernetes.io/"
	if got := app.Annotations[annotation+"auth-proxy-set-headers"]; got != headers.Namespace+"/"+headers.Name {
		t.Errorf("headers of the question are looked for at %q", got)
	}
	has(t, ","+app.Annotations[annotation+"auth-response-headers"]+",", ",NAME,")
	for _, rule := range pages.Spec.Rules {
		if p := rule.HTTP.Paths[0]; p.Path != "/oauth2" || p.Backend.Service.Port.Number != 8080 || pages.Annotations != nil {
			t.Errorf("pages of %s are at %v, want them unasked", rule.Host, p)
		}
	}
}

// The types of Traefik are not to be had without Traefik: what stands there is decoded
// strictly into the keys that its documentation names.
func TestTraefikMiddlewareDecodesStrictly(t *testing.T) {
	var m struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			ForwardAuth struct {
				Address                  string   `json:"address"`
				TrustForwardHeader       bool     `json:"trustForwardHeader"`
				AuthResponseHeaders      []string `json:"authResponseHeaders"`
				AuthResponseHeadersRegex string   `json:"authResponseHeadersRegex"`
			} `json:"forwardAuth"`
		} `json:"spec"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, "traefik/middleware.yaml")), &m); err != nil {
		t.Fatal(err)
	}
	f := m.Spec.ForwardAuth
	if m.Kind != "Middleware" || f.TrustForwardHeader || !slices.Equal(f.AuthResponseHeaders, []string{"Cookie"}) || !strings.HasSuffix(f.Address, "/oauth2/auth") {
		t.Errorf("middleware = %+v", m)
	}
	matches := regexp.MustCompile(f.AuthResponseHeadersRegex).MatchString
	for _, name := range append(slices.Clone(managed), "X_Auth_Request_User", "x.auth.request.user", "X-Auth-Request-Anything") {
		if !matches(name) {
			t.Errorf("a client's %s stays", name)
		}
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Authorization", "Xauth-Request"} {
		if matches(name) {
			t.Errorf("%s is taken away", name)
		}
	}
}
