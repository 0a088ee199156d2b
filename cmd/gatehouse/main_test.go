package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

func runWith(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return code, out.String(), err.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const open0 = "listen: {grpc: {address: '127.0.0.1:0'}}\nrules: [{name: open, hosts: [a.example.com], allow: anonymous}]\n"

func TestCommands(t *testing.T) {
	const good = "../internal/config/testdata/good/design.yaml"
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"validate --config " + good, 0, "good: 5 rules, 3 providers", ""},
		{"validate -c " + file(t, "lissten: {}\n"), exitUsage, "", `gatehouse.yaml:1:1: lissten: unknown key: did you mean "listen"?`},
		{"validate --config /does/not/exist", exitUsage, "", "no such file"},
		{"validate", exitUsage, "", `required flag(s) "config" not set`},
		{"validate --config x y", exitUsage, "", "unknown command"},
		{"sevre", exitUsage, "", "Did you mean this?\n\tserve"},
		{"serve --config " + good, exitUsage, "", "design.yaml:10:35: providers[0].client.secret_file: the file cannot be read (found no such file or directory)"},
		{"version", 0, "gatehouse ", ""},
		{"schema", 0, `"title": "Gatehouse configuration"`, ""},
		{"keys new", 0, "gatehouse-key-v1 ", ""},
		{"--help", 0, "serve", ""},
	} {
		code, stdout, stderr := runWith(strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) || test.code == 0 && stderr != "" {
			t.Errorf("gatehouse %s = %d\nstdout %q\nstderr %q\nwant %d %q %q", test.args, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
	}
}

// N2, N4: what validate refuses, serve refuses, in the same words.
func TestServeRefusesWhatValidateRefuses(t *testing.T) {
	data, err := os.ReadFile("../internal/config/testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(data), "### ")[1:]
	for _, c := range cases {
		name, text, _ := strings.Cut(c, "\n")
		bad := file(t, text)
		_, _, want := runWith("validate", "-c", bad)
		code, _, stderr := runWith("serve", "-c", bad)
		if code != exitUsage || stderr != want || stderr == "" {
			t.Errorf("%s: serve = %d %q, validate says %q", name, code, stderr, want)
		}
	}
	if len(cases) < 50 {
		t.Errorf("only %d cases", len(cases))
	}
}

// What only the files themselves, or the protocol's own code, show to be wrong.
func TestServeRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"junk": "junk\n", "secret": "s\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct{ text, want string }{
		{open0 + "sessions: {store: {memory: {}}, key_files: [" + dir + "/junk]}", ":3:44: sessions.key_files: "},
		{open0 + "providers: [{name: a, issuer: 'https://a.example.com', ca_file: " + dir + "/junk, bearer: {audiences: [a]}}]", ":3:13: providers[0]: " + dir + "/junk holds no certificate"},
		{open0 + "providers: [{name: a, issuer: 'https://a.example.com', bearer: {audiences: [a], keys: [{kid: k, alg: ES256, pem_file: " + dir + "/junk}]}}]", ":3:13: providers[0]: "},
		{strings.Replace(open0, "'127.0.0.1:0'", "'127.0.0.1:0', tls: {cert_file: "+dir+"/junk, key_file: "+dir+"/junk}", 1), ":1:46: listen.grpc.tls: "},
		{strings.Replace(open0, "127.0.0.1:0", busy.Addr().String(), 1), "listen.grpc.address: cannot listen: "},
		{open0 + "providers: [{name: a, issuer: 'https://a.example.com', authorization_params: {state: x}, client: {id: a, secret_file: " + dir + "/secret}}]", ":3:13: providers[0]: "},
	} {
		code, _, stderr := runWith("serve", "-c", file(t, test.text))
		if code != exitUsage || !strings.Contains(stderr, "gatehouse.yaml") || !strings.Contains(stderr, test.want) {
			t.Errorf("serve with\n%s\n= %d %q, want %q", test.text, code, stderr, test.want)
		}
	}
	if code, _, stderr := runWith("validate", "-c", file(t, open0+"providers: [{name: a, issuer: 'https://a.example.com', authorization_params: {state: x}, client: {id: a, secret_file: s}}]")); code != exitUsage || !strings.Contains(stderr, "state") {
		t.Errorf("validate with a parameter of ours = %d %q", code, stderr)
	}
}

// Everything that the reference shows can be built, too.
func TestEverythingCanBeBuilt(t *testing.T) {
	cfg, err := config.Load("../internal/config/testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkProviders(cfg); err != nil {
		t.Error(err)
	}
}
