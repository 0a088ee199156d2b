// Package manifests_test checks that what a user applies is accepted by what he applies it to. It is a module of its own:
// the product must not depend on the types of Kubernetes and Istio.
package manifests_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// documents splits a file into its YAML documents.
func documents(t *testing.T, file string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var docs [][]byte
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(bytes.TrimSpace(doc)) > 0 {
			docs = append(docs, doc)
		}
	}
}

func typeOf(t *testing.T, doc []byte) metav1.TypeMeta {
	t.Helper()
	var m metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryFileIsCovered(t *testing.T) {
	var got []string
	for _, pattern := range []string{"*/*.yaml", "*.yaml", "*/*.conf", "*/Caddyfile"} {
		m, _ := filepath.Glob(pattern)
		got = append(got, m...)
	}
	slices.Sort(got)
	want := []string{
		"caddy/Caddyfile", "envoy/envoy.yaml", "envoy/http.yaml", "ingress-nginx/ingress.yaml",
		"istio/gateway.yaml", "istio/lock-down.yaml", "istio/login-host.yaml", "istio/mesh-config.yaml", "istio/waypoint.yaml",
		"kubernetes/gatehouse.yaml", "kubernetes/redis.yaml", "nginx/gatehouse.conf", "traefik/middleware.yaml",
	}
	if !slices.Equal(got, want) {
		t.Errorf("files = %q, tests cover %q", got, want)
	}
}

func TestKubernetesObjectsDecodeStrictly(t *testing.T) {
	known := map[string]func() any{
		"v1/Namespace":                       func() any { return &corev1.Namespace{} },
		"v1/ServiceAccount":                  func() any { return &corev1.ServiceAccount{} },
		"v1/ConfigMap":                       func() any { return &corev1.ConfigMap{} },
		"v1/Service":                         func() any { return &corev1.Service{} },
		"apps/v1/Deployment":                 func() any { return &appsv1.Deployment{} },
		"apps/v1/StatefulSet":                func() any { return &appsv1.StatefulSet{} },
		"policy/v1/PodDisruptionBudget":      func() any { return &policyv1.PodDisruptionBudget{} },
		"networking.k8s.io/v1/NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} },
	}
	for _, file := range []string{"kubernetes/gatehouse.yaml", "kubernetes/redis.yaml"} {
		for i, doc := range documents(t, file) {
			m := typeOf(t, doc)
			newObject, ok := known[m.APIVersion+"/"+m.Kind]
			if !ok {
				t.Errorf("%s document %d: kind %s/%s has no test", file, i, m.APIVersion, m.Kind)
				continue
			}
			if err := yaml.UnmarshalStrict(doc, newObject()); err != nil {
				t.Errorf("%s document %d (%s): %v", file, i, m.Kind, err)
			}
		}
	}
}

// find reads the one object of a kind.
func find[T any](t *testing.T, file, kind string) T {
	t.Helper()
	var object T
	for _, doc := range documents(t, file) {
		if typeOf(t, doc).Kind == kind {
			if err := yaml.UnmarshalStrict(doc, &object); err != nil {
				t.Fatal(err)
			}
			return object
		}
	}
	t.Fatalf("%s has no %s", file, kind)
	return object
}

func TestPodsPassThePodSecurityStandardRestricted(t *testing.T) {
	version := api.LatestVersion()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: version}
	for name, template := range map[string]corev1.PodTemplateSpec{
		"gatehouse": find[appsv1.Deployment](t, "kubernetes/gatehouse.yaml", "Deployment").Spec.Template,
		"redis":     find[appsv1.StatefulSet](t, "kubernetes/redis.yaml", "StatefulSet").Spec.Template,
	} {
		if r := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec)); !r.Allowed {
			t.Errorf("%s: refused: %s: %s", name, r.ForbiddenReason(), r.ForbiddenDetail())
		}
		if ro := template.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem; ro == nil || !*ro {
			t.Errorf("%s: the root file system is writable", name)
		}
		template.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil
		if r := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec)); r.Allowed {
			t.Errorf("%s: control: a pod that may escalate is let through, so this test shows nothing", name)
		}
	}
}

// gatehouseConfig is what the tests below look at in the ConfigMap.
type gatehouseConfig struct {
	Listen   map[string]struct{ Address string }
	Sessions struct {
		KeyFiles []string `json:"key_files"`
		Store    struct {
			Redis struct {
				Addresses    []string
				PasswordFile string `json:"password_file"`
			}
		}
	}
	Providers []struct {
		Client struct {
			SecretFile string `json:"secret_file"`
		}
	}
	Shutdown struct{ Pause, Timeout string }
}

// What the configuration names is in the pod and in the cluster.
func TestConfigurationFitsTheDeployment(t *testing.T) {
	const file = "kubernetes/gatehouse.yaml"
	var c gatehouseConfig
	if err := yaml.Unmarshal([]byte(find[corev1.ConfigMap](t, file, "ConfigMap").Data["gatehouse.yaml"]), &c); err != nil {
		t.Fatal(err)
	}
	pod := find[appsv1.Deployment](t, file, "Deployment").Spec.Template.Spec
	box := pod.Containers[0]
	mounted := func(path string, readOnly bool) bool {
		return slices.ContainsFunc(box.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.MountPath == filepath.Dir(path) && m.ReadOnly == readOnly && slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
				return v.Name == m.Name && (v.EmptyDir == nil) == readOnly
			})
		})
	}
	for _, path := range append([]string{c.Sessions.Store.Redis.PasswordFile, c.Providers[0].Client.SecretFile, box.Args[2]}, c.Sessions.KeyFiles...) {
		if !mounted(path, true) {
			t.Errorf("nothing is mounted at %s", path)
		}
	}
	if socket, ok := strings.CutPrefix(c.Listen["admin"].Address, "unix://"); !ok || !mounted(socket, false) {
		t.Errorf("no place for the admin socket %q", c.Listen["admin"].Address)
	}
	for _, p := range box.Ports {
		if at := c.Listen[p.Name].Address; at != fmt.Sprintf(":%d", p.ContainerPort) {
			t.Errorf("port %s is %d, Gatehouse listens at %q", p.Name, p.ContainerPort, at)
		}
	}
	pause, err1 := time.ParseDuration(c.Shutdown.Pause)
	timeout, err2 := time.ParseDuration(c.Shutdown.Timeout)
	if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; err1 != nil || err2 != nil || pause+timeout >= grace {
		t.Errorf("shutdown takes up to %v and %v, the pod is killed after %v", pause, timeout, grace)
	}
	s := find[corev1.Service](t, "kubernetes/redis.yaml", "Service")
	if want := fmt.Sprintf("%s.%s.svc.cluster.local:%d", s.Name, s.Namespace, s.Spec.Ports[0].Port); !slices.Equal(c.Sessions.Store.Redis.Addresses, []string{want}) {
		t.Errorf("redis at %q, the service is %s", c.Sessions.Store.Redis.Addresses, want)
	}
}

// Real Redis starts as the manifest starts it, asks for the password and evicts nothing.
func TestRedisStarts(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		lacking(t, "no redis-server: run e2e/tools.sh redis")
	}
	const password = "a \"quoted' word"
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	c := find[corev1.ConfigMap](t, "kubernetes/redis.yaml", "ConfigMap")
	for name, text := range map[string]string{
		"redis.conf": strings.Replace(c.Data["redis.conf"], "dir /data", "dir "+dir+"\nport 0\nunixsocket "+socket, 1),
		"redis":      password + "\n",
		"start.sh":   strings.NewReplacer("/etc/redis", dir, "/secrets/gatehouse", dir).Replace(c.Data["start.sh"]),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := exec.Command("sh", filepath.Join(dir, "start.sh"))
	server.Stdout, server.Stderr = t.Output(), t.Output()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	ask := func(args ...string) string {
		out, _ := exec.Command("redis-cli", append([]string{"-s", socket}, args...)...).CombinedOutput()
		return string(out)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(ask("PING"), "NOAUTH"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("without a password: %q, want NOAUTH", ask("PING"))
		}
	}
	for setting, want := range map[string]string{"maxmemory-policy": "noeviction", "appendonly": "yes", "maxmemory": "268435456"} {
		if got := strings.Fields(ask("--no-auth-warning", "-a", password, "CONFIG", "GET", setting)); len(got) != 2 || got[1] != want {
			t.Errorf("%s = %q, want %s", setting, got, want)
		}
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", server.Process.Pid)); err == nil && bytes.Contains(args, []byte("quoted")) {
		t.Errorf("the password is in the arguments: %q", args)
	}
}

// The configuration in the ConfigMap is the one that the binary would read.
func TestConfigMapValidates(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "gatehouse")
	build := exec.Command("go", "build", "-o", binary, "./cmd/gatehouse")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c := find[corev1.ConfigMap](t, "kubernetes/gatehouse.yaml", "ConfigMap")
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(file, []byte(c.Data["gatehouse.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "validate", "--config", file).CombinedOutput(); err != nil {
		t.Errorf("gatehouse validate: %v\n%s", err, out)
	}
}

// The login host's pages are where Gatehouse serves them.
func TestLoginHostRoute(t *testing.T) {
	data, err := os.ReadFile("istio/login-host.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var route gatewayv1.HTTPRoute
	if err := yaml.UnmarshalStrict(data, &route); err != nil {
		t.Fatal(err)
	}
	rule := route.Spec.Rules[0]
	path, backend := rule.Matches[0].Path, rule.BackendRefs[0]
	if len(route.Spec.Rules) != 1 || *path.Type != gatewayv1.PathMatchPathPrefix || *path.Value != "/oauth2" || route.Spec.Hostnames[0] != "auth.example.com" {
		t.Errorf("route = %+v, want the prefix of the login host alone", route.Spec)
	}
	for _, doc := range documents(t, "kubernetes/gatehouse.yaml") {
		var s corev1.Service
		if typeOf(t, doc).Kind != "Service" || yaml.UnmarshalStrict(doc, &s) != nil || s.Name != string(backend.Name) {
			continue
		}
		if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == "http" && p.Port == *backend.Port }) {
			t.Errorf("service %s has no HTTP port %d", s.Name, *backend.Port)
		}
		return
	}
	t.Errorf("no service %s", backend.Name)
}

func TestMeshConfigDecodesStrictly(t *testing.T) {
	data, err := os.ReadFile("istio/mesh-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var mesh meshconfig.MeshConfig
	decodeProto(t, data, &mesh)
	p := mesh.ExtensionProviders[0].GetEnvoyExtAuthzGrpc()
	if p.FailOpen || p.StatusOnError != "503" || p.Timeout.AsDuration() > 5*time.Second {
		t.Errorf("provider = %v, want closed, 503 and a short timeout", p)
	}
}

func TestIstioResourcesPassTheirSchemas(t *testing.T) {
	crds := istioCRDs(t)
	for _, file := range []string{"istio/gateway.yaml", "istio/waypoint.yaml", "istio/lock-down.yaml"} {
		for i, doc := range documents(t, file) {
			if errs := crds.check(t, doc); len(errs) > 0 {
				t.Errorf("%s document %d: %v", file, i, errs)
			}
		}
	}
	for name, bad := range map[string]string{
		"unknown key": "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {action: CUSTOM, providers: {name: x}}\n",
		"bad enum":    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x}\nspec: {mtls: {mode: STRCT}}\n",
	} {
		if errs := crds.check(t, []byte(bad)); len(errs) == 0 {
			t.Errorf("control: %s is accepted, so this test shows nothing", name)
		}
	}
}

// istiod's webhook refuses conditions on identities in a CUSTOM rule, and a request that no CUSTOM rule matches is not checked
// at all: the only safe list of rules is one empty rule.
func TestCustomPoliciesLeaveNoGap(t *testing.T) {
	for _, file := range []string{"istio/gateway.yaml", "istio/waypoint.yaml"} {
		var p struct {
			Spec struct {
				Action string
				Rules  []map[string]any
			}
		}
		if err := yaml.Unmarshal(documents(t, file)[0], &p); err != nil {
			t.Fatal(err)
		}
		if p.Spec.Action != "CUSTOM" || len(p.Spec.Rules) != 1 || len(p.Spec.Rules[0]) != 0 {
			t.Errorf("%s: action %s, rules %v, want CUSTOM with one empty rule", file, p.Spec.Action, p.Spec.Rules)
		}
	}
}

func TestEnvoyBootstrapPassesTheGeneratedValidators(t *testing.T) {
	data, err := os.ReadFile("envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var b bootstrapv3.Bootstrap
	decodeProto(t, data, &b)
	if err := b.ValidateAll(); err != nil {
		t.Error(err)
	}
	var hcm hcmv3.HttpConnectionManager
	if err := b.StaticResources.Listeners[0].FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(&hcm); err != nil {
		t.Fatal(err)
	}
	var ea extauthzv3.ExtAuthz
	if err := hcm.HttpFilters[0].GetTypedConfig().UnmarshalTo(&ea); err != nil {
		t.Fatal(err)
	}
	for _, v := range []interface{ ValidateAll() error }{&hcm, &ea} {
		if err := v.ValidateAll(); err != nil {
			t.Error(err)
		}
	}
	if ea.FailureModeAllow || !ea.ValidateMutations || !ea.EncodeRawHeaders || ea.StatusOnError.GetCode() != 503 {
		t.Errorf("ext_authz = %v: want closed, validated and raw", &ea)
	}
}

// Real Envoy loads the bootstrap. ENVOY names the binary; `make` fetches it.
func TestEnvoyLoadsTheBootstrap(t *testing.T) {
	envoys, _ := filepath.Glob("../.tools/envoy/*/envoy")
	if e := os.Getenv("ENVOY"); e != "" {
		envoys = []string{e}
	}
	if len(envoys) == 0 {
		lacking(t, "no Envoy: run e2e/tools.sh envoy 1.40.0")
	}
	dir := t.TempDir()
	certificate(t, dir)
	for _, name := range []string{"envoy.yaml", "http.yaml"} {
		data, err := os.ReadFile(filepath.Join("envoy", name))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, bytes.ReplaceAll(data, []byte("/etc/envoy/tls"), []byte(dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, envoy := range envoys {
			out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "--base-id", "77").CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", envoy, name, err, out)
			}
		}
	}
}

// certificate writes tls.crt and tls.key.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// decodeProto refuses unknown keys.
func decodeProto(t *testing.T, data []byte, m proto.Message) {
	t.Helper()
	j, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(j, m); err != nil {
		t.Fatal(err)
	}
}

// schemas finds the schema of a kind in one version.
type schemas map[string]*apiextensions.JSONSchemaProps

// istioCRDs reads the definitions that come with Istio's API.
func istioCRDs(t *testing.T) schemas {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := schemas{}
	for _, doc := range documents(t, filepath.Join(strings.TrimSpace(string(dir)), "kubernetes/customresourcedefinitions.gen.yaml")) {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(doc, &crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			var props apiextensions.JSONSchemaProps
			if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, &props, nil); err != nil {
				t.Fatal(err)
			}
			all[fmt.Sprintf("%s/%s/%s", crd.Spec.Group, v.Name, crd.Spec.Names.Kind)] = &props
		}
	}
	return all
}

// check returns what an API server would say: unknown keys, schema and rules in CEL.
func (s schemas) check(t *testing.T, doc []byte) (errs []error) {
	t.Helper()
	m := typeOf(t, doc)
	props, ok := s[m.APIVersion+"/"+m.Kind]
	if !ok {
		return []error{fmt.Errorf("no schema for %s/%s", m.APIVersion, m.Kind)}
	}
	j, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return []error{err}
	}
	object := map[string]any{}
	if err := utiljson.Unmarshal(j, &object); err != nil { // integers stay integers, as CEL wants them
		return []error{err}
	}
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range validation.ValidateCustomResource(nil, object, validator) {
		errs = append(errs, e)
	}
	if c := cel.NewValidator(structural, true, 10_000_000); c != nil {
		found, _ := c.Validate(context.Background(), nil, structural, object, nil, 100_000_000)
		for _, e := range found {
			errs = append(errs, e)
		}
	}
	for _, path := range pruning.PruneWithOptions(object, structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		errs = append(errs, fmt.Errorf("unknown key %s", path))
	}
	return errs
}
