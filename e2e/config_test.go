package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// A dangerous configuration does not start, and every mistake is named at once.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "bad.yaml", `listen:
  grpc: {address: "127.0.0.1:0"}
  surprise: 1
providers:
- name: corp
  issuer: http://idp.example.com
  client: {id: mesh, secret_file: /nonexistent/secret}
sessions:
  store: {redis: {addresses: ["127.0.0.1:1"]}}
  key_files: [/nonexistent/keys/*]
rules:
- {name: nobody, hosts: [a.example.com]}
- {name: lax, hosts: [b.example.com], login: corp}
- {name: empty, hosts: [c.example.com], login: corp, require: {groups: []}}
- {name: plain, hosts: ["http://d.example.com"], login: corp, require: any_user}
- {name: strict, hosts: ["*.example.org"], login: corp, require: {groups: [admins]}}
- {name: hides, hosts: [x.example.org], allow: anonymous}
`)
	for _, command := range []string{"validate", "serve"} {
		out, err := exec.Command(bin, command, "--config", file).CombinedOutput()
		if err == nil {
			t.Errorf("%s accepted it:\n%s", command, out)
		}
		for _, want := range []string{
			":3:", "surprise", ":6:", "issuer", ":12:", ":13:", "require", ":14:", "groups", ":15:", "http",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not mention %q:\n%s", command, want, out)
			}
		}
	}
	hides := write(t, "hides.yaml", `listen:
  grpc: {address: "127.0.0.1:0"}
providers:
- {name: corp, issuer: "https://idp.example.com", bearer: {audiences: [a]}}
rules:
- {name: strict, hosts: ["*.example.org"], bearer: [corp], require: {groups: [admins]}}
- {name: hides, hosts: [x.example.org], allow: anonymous}
`)
	if out, err := exec.Command(bin, "validate", "--config", hides).CombinedOutput(); err == nil || !strings.Contains(string(out), "overrides") {
		t.Errorf("a rule that hides a stricter one: %v\n%s", err, out)
	}
}
