package config_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

var update = flag.Bool("update", false, "write the golden files")

// badCase is one part of testdata/bad.txt.
type badCase struct{ name, text string }

func badCases(t testing.TB) []badCase {
	t.Helper()
	data, err := os.ReadFile("testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(data), "### ")
	var cases []badCase
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "\n")
		cases = append(cases, badCase{name, text})
	}
	return cases
}

// N2, N4, N5: nothing dangerous or empty starts, and what is said names the
// place, the key and what would be right.
func TestBad(t *testing.T) {
	var got strings.Builder
	for _, c := range badCases(t) {
		cfg, err := config.Parse("f", []byte(c.text))
		if err == nil || cfg != nil {
			t.Errorf("%s: it was accepted", c.name)
			continue
		}
		if _, ok := errors.AsType[config.Mistakes](err); !ok {
			t.Errorf("%s: error is %T, want Mistakes", c.name, err)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a secret is shown: %v", c.name, err)
		}
		fmt.Fprintf(&got, "### %s\n%s\n", c.name, err)
	}
	if *update {
		if err := os.WriteFile("testdata/bad.golden", []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/bad.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("what is said about bad files (-want +got):\n%s", diff)
	}
}

func goodFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d good files, %v", len(files), err)
	}
	return files
}

func TestGood(t *testing.T) {
	for _, file := range goodFiles(t) {
		if _, err := config.Load(file); err != nil {
			t.Errorf("%s:\n%v", file, err)
		}
	}
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("/etc/gatehouse/gatehouse.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const smallest = `
listen: {grpc: {address: ":9000"}}
rules: [{name: open, hosts: [a.example.com], allow: anonymous}]
`

func TestDefaults(t *testing.T) {
	c := parse(t, smallest+`
providers: [{name: corp, issuer: https://idp.example.com, client: {id: mesh, secret_file: secret}}]
`)
	p := c.Providers[0]
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"prefix", c.Prefix, "/oauth2"},
		{"check_timeout", c.CheckTimeout, time.Second},
		{"max_in_flight", c.Listen.GRPC.MaxInFlight, 10_000},
		{"idle_timeout", c.Sessions.IdleTimeout, time.Hour},
		{"absolute_timeout", c.Sessions.AbsoluteTimeout, 12 * time.Hour},
		{"activation_delay", c.Sessions.ActivationDelay, 5 * time.Minute},
		{"log", c.Log, config.Log{Level: "info", Access: "all"}},
		{"shutdown", c.Shutdown, config.Shutdown{Pause: 5 * time.Second, Timeout: 20 * time.Second}},
		{"scopes", p.Client.Scopes, []string{"openid", "email", "profile"}},
		{"auth_method", p.Client.AuthMethod, "client_secret_basic"},
		{"algorithms", p.Algorithms, []string{"RS256"}},
		{"claims", p.Claims, config.Claims{User: "sub", Email: "email", EmailVerified: "email_verified", PreferredUsername: "preferred_username", Groups: "groups"}},
		{"email_verified", p.EmailVerified, "claim"},
		{"skew", p.Skew, time.Minute},
		{"client_address", c.ClientAddress, config.ClientAddress{}},
	} {
		if diff := cmp.Diff(check.want, check.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", check.what, diff)
		}
	}
}

func TestUnions(t *testing.T) {
	for text, want := range map[string]config.ClientAddress{
		"peer": {}, "x-envoy-external-address": {Header: "x-envoy-external-address"}, "{xff_hops: 2}": {Hops: 2},
	} {
		if got := parse(t, smallest+"client_address: "+text).ClientAddress; got != want {
			t.Errorf("client_address: %s = %+v, want %+v", text, got, want)
		}
	}
}

func TestLoginHosts(t *testing.T) {
	c, err := config.Load("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Host{
		{Name: "app.localhost", Origin: "http://app.localhost:10000", Providers: []string{"corp", "partners"}},
		{Name: "app.example.com", Origin: "https://app.example.com:8443", Providers: []string{"corp"}},
	}
	if diff := cmp.Diff(want, c.LoginHosts()); diff != "" {
		t.Errorf("LoginHosts (-want +got):\n%s", diff)
	}
}

func TestPaths(t *testing.T) {
	c := parse(t, smallest)
	for name, want := range map[string]string{"": "", "/a/b": "/a/b", "b.pem": "/etc/gatehouse/b.pem", "../b": "/etc/b"} {
		if got := c.Path(name); got != want {
			t.Errorf("Path(%q) = %q, want %q", name, got, want)
		}
	}
}

// A missing key file does not start (issue 3), and validate does not need it.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gatehouse.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gatehouse.yaml", smallest+`
sessions: {store: {memory: {}}, key_files: [one, "keys/*"]}
providers: [{name: corp, issuer: https://idp.example.com, client: {id: mesh, secret_file: secret}}]
`)
	write("one", "x")
	write("secret", "")
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := file + `:5:50: sessions.key_files[1]: the file cannot be read (found no file matches): make "` + dir + `/keys/*" readable for this process
` + file + `:6:91: providers[0].client.secret_file: the file cannot be read (found ` + dir + `/secret is empty): make "` + dir + `/secret" readable for this process`
	if err := c.CheckFiles(); err == nil || err.Error() != want {
		t.Errorf("CheckFiles = %v\nwant %s", err, want)
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("keys/..data", "not a key")
	write("keys/b", "x")
	write("keys/a", "x")
	write("secret", "s\n")
	if err := c.CheckFiles(); err != nil {
		t.Error(err)
	}
	files, err := c.SessionKeyFiles()
	if diff := cmp.Diff([]string{filepath.Join(dir, "keys/a"), filepath.Join(dir, "keys/b"), filepath.Join(dir, "one")}, files); err != nil || diff != "" {
		t.Errorf("SessionKeyFiles: %v %s", err, diff)
	}
	if secret, err := config.ReadSecret(filepath.Join(dir, "secret")); err != nil || secret != "s" {
		t.Errorf("ReadSecret = %q, %v", secret, err)
	}
}

func TestReadSecretRefuses(t *testing.T) {
	for _, text := range []string{"", "\n", "a\nb\n", "a\x00b"} {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := config.ReadSecret(file); err == nil {
			t.Errorf("ReadSecret of %q = %q", text, s)
		}
	}
}

func TestWarnings(t *testing.T) {
	c, err := config.Load("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, w := range c.Warnings() {
		keys = append(keys, w.Key)
		if w.Line == 0 {
			t.Errorf("%s has no place", w.Key)
		}
	}
	want := []string{"providers[1].email_verified", "providers[2].bearer.insecure_accept_login_tokens", "sessions.store.memory"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("Warnings (-want +got):\n%s", diff)
	}
}

// E3: tokens made by hand can be good for decades.
func TestE3WarnsOfTokensWithoutBounds(t *testing.T) {
	t.Parallel()
	for bounds, want := range map[string]int{"": 1, ", max_token_age: 24h": 0, ", max_lifetime: 720h": 0} {
		c := parse(t, "listen: {grpc: {address: ':9000'}}\nproviders: [{name: a, issuer: 'https://a.example.com', bearer: {audiences: [a], keys: [{kid: k, alg: ES256, pem_file: p}]"+bounds+"}}]\nrules: [{name: open, hosts: [a.example.com], allow: anonymous}]\n")
		if got := c.Warnings(); len(got) != want || want == 1 && got[0].Key != "providers[0].bearer.keys" {
			t.Errorf("%q: warnings %v, want %d", bounds, got, want)
		}
	}
}

// A certificate of the mesh's own authority is what every workload has.
func TestWarnsOfAdminForEveryCertificate(t *testing.T) {
	const tls = "cert_file: c, key_file: k, client_ca_file: a"
	for admin, want := range map[string]int{
		"{address: ':9001', tls: {" + tls + "}}":                               1,
		"{address: ':9001', tls: {" + tls + "}, token_file: t}":                0,
		"{address: ':9001', tls: {" + tls + ", client_ids: ['spiffe://a/b']}}": 0,
		"{address: ':9001', tls: {cert_file: c, key_file: k}, token_file: t}":  0,
		"{address: 'unix:///run/admin.sock'}":                                  0,
	} {
		c := parse(t, "listen: {grpc: {address: ':9000'}, admin: "+admin+"}\nrules: [{name: open, hosts: [a.example.com], allow: anonymous}]\n")
		if got := c.Warnings(); len(got) != want || want == 1 && got[0].Key != "listen.admin.tls" {
			t.Errorf("%s: warnings %v, want %d", admin, got, want)
		}
	}
}

func TestLargeFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("listen: {grpc: {address: ':9000'}}\nrules:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "- {name: r%d, hosts: [h%d.example.com], paths: [/p%d/**], allow: anonymous}\n", i, i, i)
	}
	start := time.Now()
	parse(t, b.String())
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("10,000 rules took %v", took)
	}
	if _, err := config.Parse("f", make([]byte, 9<<20)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("9 MiB: %v", err)
	}
	if _, err := config.Parse("f", []byte(strings.Repeat("[", 20_000))); err == nil {
		t.Error("20,000 brackets were accepted")
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range badCases(f) {
		f.Add([]byte(c.text))
	}
	for _, file := range goodFiles(f) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		if err == nil {
			return
		}
		for _, m := range err.(config.Mistakes) { //nolint:errorlint // Parse returns nothing else
			if m.Problem == "" || strings.ContainsAny(m.Error(), "\n\r\x00") {
				t.Fatalf("mistake %q", m.Error())
			}
		}
	})
}
