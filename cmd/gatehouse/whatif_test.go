package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// block returns the first YAML block of a document that begins with start.
func block(t *testing.T, document, start string) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```yaml\n"+start)
	if !ok {
		t.Fatalf("%s has no block that begins with %q", document, start)
	}
	rest, _, _ = strings.Cut(rest, "```")
	return start + rest
}

// readmePolicy is the configuration of the README, in a file.
func readmePolicy(t *testing.T) string {
	t.Helper()
	return textFile(t, "gatehouse.yaml", block(t, "../../README.md", "listen:"))
}

func textFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask runs the program, and wants an exit code.
func ask(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(args, &out, &errs); code != want {
		t.Fatalf("gatehouse %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, &out, &errs)
	}
	return out.String(), errs.String()
}

// The policy tests in the documentation pass for the configuration in the README.
func TestPolicyTestsOfTheDocumentation(t *testing.T) {
	tests := textFile(t, "tests.yaml", block(t, "../../docs/policy-tests.md", "tests:"))
	out, _ := ask(t, 0, "test", "--config", readmePolicy(t), "--cover-all", tests)
	if !strings.Contains(out, "10 passed, 0 failed; 4 of 4 rules are covered") {
		t.Errorf("test prints %q", out)
	}
}

func TestPolicyTestFails(t *testing.T) {
	policy := readmePolicy(t)
	wrong := textFile(t, "wrong.yaml", `tests:
- name: everybody is admin
  request: {url: https://app.example.com/admin/x}
  as: {provider: corp, claims: {sub: alice}}
  expect: {decision: allow, rule: app, status: 200, headers: {x-auth-request-user: alice}}
- name: header
  request: {url: https://app.example.com/}
  as: {provider: corp, claims: {sub: alice}}
  expect: {decision: allow, headers: {x-auth-request-user: bob}, without: [x-auth-request-user]}
`)
	out, _ := ask(t, 1, "test", "--config", policy, wrong)
	for _, want := range []string{
		"FAIL everybody is admin", `decision is "deny", want "allow"`, `rule is "admin", want "app"`, "status is 403, want 200",
		"header x-auth-request-user is not set", `why: no groups are known`,
		`header x-auth-request-user is "alice", want "bob"`, `header x-auth-request-user is "alice", want none`, "0 passed, 2 failed; 2 of 4", "no test comes to rule api",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("test does not print %q:\n%s", want, out)
		}
	}
	one := textFile(t, "one.yaml", "tests:\n- {name: a, request: {url: https://app.example.com/}, expect: {decision: sign_in}}\n")
	ask(t, 0, "test", "--config", policy, one)
	ask(t, 1, "test", "--config", policy, "--cover-all", one)
	out, _ = ask(t, 0, "test", "--config", policy, "--json", one)
	var report testReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Results) != 1 || report.Rules != 4 || len(report.Unused) != 3 {
		t.Errorf("--json prints %s (%v)", out, err)
	}
}

// Bad input: each with its place and what would be right.
func TestPolicyTestFilesThatDoNotRun(t *testing.T) {
	policy := readmePolicy(t)
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":      {"tests:\n- {name: a, request: {url: https://a/}, expects: {decision: allow}}\n", "tests.yaml:2:41: tests[0].expects: unknown key: did you mean \"expect\"?"},
		"no decision":      {"tests:\n- {name: a, request: {url: https://a/}, expect: {rule: x}}\n", "tests[0].expect.decision: missing"},
		"another decision": {"tests:\n- {name: a, request: {url: https://a/}, expect: {decision: yes please}}\n", "write one of: allow, deny, sign_in, answer"},
		"the same name":    {"tests:\n- {name: a, request: {url: https://a/}, expect: {decision: deny}}\n- {name: a, request: {url: https://a/}, expect: {decision: deny}}\n", "the same name as tests[0]"},
		"claims are text":  {"tests:\n- {name: a, request: {url: https://a/}, as: {provider: corp, claims: alice}, expect: {decision: deny}}\n", "a mapping of claims"},
		"header name":      {"tests:\n- {name: a, request: {url: https://a/, headers: {Accept: x}}, expect: {decision: deny}}\n", "not a header name in lower case"},
		"nothing":          {"", "the file is empty"},
	} {
		_, errs := ask(t, 2, "test", "--config", policy, textFile(t, "tests.yaml", c.text))
		if !strings.Contains(errs, c.want) {
			t.Errorf("%s: %q, want %q", name, errs, c.want)
		}
	}
	out, _ := ask(t, 1, "test", "--config", policy, textFile(t, "tests.yaml", "tests:\n- {name: a, request: {url: /x}, expect: {decision: deny}}\n"))
	if !strings.Contains(out, "write a whole address") {
		t.Errorf("an address without a host: %s", out)
	}
}

func TestExplain(t *testing.T) {
	policy := readmePolicy(t)
	claims := textFile(t, "alice.json", `{"sub": "alice", "groups": ["staff"]}`)
	// A token with any signature: {"alg":"RS256"} . {"iss":"https://idp.example.com","sub":"robot","aud":"https://app.example.com","roles":["writer"]}
	token := textFile(t, "token", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbSIsInN1YiI6InJvYm90IiwiYXVkIjoiaHR0cHM6Ly9hcHAuZXhhbXBsZS5jb20iLCJyb2xlcyI6WyJ3cml0ZXIiXX0.AAAA\n")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--url", "https://app.example.com/admin/x"}, []string{"decision  sign_in", "rule      admin", "status    302", `signed in at "corp", whoever satisfies groups ["admins"] may pass`, "+ admin   decides", `+ app     matches, but rule "admin" is closer`, "- assets  another path"}},
		{[]string{"--url", "https://app.example.com/static/a", "--method", "POST"}, []string{"rule      app", "status    401", "- assets  another method"}},
		{[]string{"--url", "https://app.example.com/admin/x", "--claims", claims, "--provider", "corp"}, []string{"decision  deny", "reason    condition_failed", `why       in none of the groups ["admins"]`, "signed in as somebody else"}},
		{[]string{"--url", "https://app.example.com/x", "--claims", claims, "--provider", "corp", "--header", "X-Auth_Request-User: root"}, []string{"decision  allow", "set       x-auth-request-user: alice", "x-auth_request-user"}},
		{[]string{"--url", "https://app.example.com/api/x", "--token", token}, []string{"decision  allow", "rule      api", "set       x-auth-request-user: robot"}},
		{[]string{"--url", "https://app.example.com/oauth2/start"}, []string{"decision  answer"}},
		{[]string{"--url", "https://nobody.example.com/"}, []string{"reason    no_rule", "- app     another host"}},
		{[]string{"--url", "https://app.example.com/static/..%2fadmin"}, []string{"reason    ambiguous_path", "matches, but readings of the path lead to"}},
		{[]string{"--url", "https://app.example.com/%zz"}, []string{"reason    malformed_request", "the request is malformed"}},
	} {
		out, _ := ask(t, 0, append([]string{"explain", "--config", policy}, c.args...)...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("explain %s does not print %q:\n%s", strings.Join(c.args, " "), want, out)
			}
		}
	}
	for name, args := range map[string][]string{
		"no address":       {"--url", "app.example.com"},
		"header":           {"--url", "https://app.example.com/", "--header", "nonsense"},
		"unknown provider": {"--url", "https://app.example.com/", "--claims", claims, "--provider", "other"},
		"no issuer":        {"--url", "https://app.example.com/", "--claims", claims},
		"no token":         {"--url", "https://app.example.com/", "--token", claims},
		"both":             {"--url", "https://app.example.com/", "--token", token, "--claims", claims},
	} {
		if _, errs := ask(t, 2, append([]string{"explain", "--config", policy}, args...)...); errs == "" {
			t.Errorf("%s: nothing is said", name)
		}
	}
}

// A token is taken to the provider that knows its issuer by whichever name.
func TestExplainFindsAnIssuerByItsOtherName(t *testing.T) {
	moved := textFile(t, "moved.yaml", strings.NewReplacer(
		"issuer: https://idp.example.com", "issuer: https://new.example.com",
		"bearer: {audiences:", "bearer: {also_issuers: [https://idp.example.com], audiences:",
	).Replace(block(t, "../../README.md", "listen:")))
	// {"alg":"RS256"} . {"iss":"https://idp.example.com","sub":"robot","aud":"https://app.example.com","roles":["writer"]}
	token := textFile(t, "token", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbSIsInN1YiI6InJvYm90IiwiYXVkIjoiaHR0cHM6Ly9hcHAuZXhhbXBsZS5jb20iLCJyb2xlcyI6WyJ3cml0ZXIiXX0.AAAA\n")
	out, _ := ask(t, 0, "explain", "--config", moved, "--url", "https://app.example.com/api/x", "--token", token)
	if !strings.Contains(out, "decision  allow") {
		t.Errorf("a token with the issuer's other name:\n%s", out)
	}
}

// Explaining is serving: what explain says is what an Authorizer of the same rules
// decides; a rule set of 200 rules with one opening among many harmless changes shows it
// first (scenario A6).
func TestA6DiffShowsTheOpeningFirst(t *testing.T) {
	policy := func(opening bool, order func(int) int) string {
		var b strings.Builder
		b.WriteString("listen: {grpc: {address: ':9000'}}\nproviders:\n- {name: corp, issuer: https://idp.example.com, client: {id: mesh, secret_file: s}}\nsessions: {store: {memory: {}}}\nrules:\n")
		for n := range 200 {
			i := order(n)
			access := "login: corp, require: {groups: [team" + fmt.Sprint(i) + "]}"
			if i == 137 && opening {
				access = "allow: anonymous"
			}
			fmt.Fprintf(&b, "- {name: rule%d, hosts: [app%d.example.com], %s}\n", i, i, access)
		}
		return textFile(t, "policy.yaml", b.String())
	}
	before, after := policy(false, func(i int) int { return i }), policy(true, func(i int) int { return 199 - i })
	var log strings.Builder
	for i := range 200 {
		fmt.Fprintf(&log, `{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"check","decision":"deny","method":"GET","host":"app%d.example.com","path":"/x","caller":"navigation"}`+"\n", i)
		fmt.Fprintln(&log, `{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"signed_in","host":"app1.example.com"}`)
		fmt.Fprintf(&log, `{"url":"https://app%d.example.com/x","provider":"corp","claims":{"sub":"alice","groups":["team%d"]}}`+"\n", i, i)
	}
	out, _ := ask(t, 1, "diff", before, after, "--requests", textFile(t, "access.log", log.String()))
	if !strings.HasPrefix(out, "OPENS  GET https://app137.example.com/x\n  was  sign_in by \"rule137\" (no_credentials)\n  is   allow by \"rule137\" (anonymous)\n") {
		t.Errorf("diff prints\n%s", out)
	}
	if !strings.Contains(out, "400 requests, 2 decisions change\n") { // alice loses her headers there, too
		t.Errorf("diff prints\n%s", out)
	}
	ask(t, 0, "diff", before, before, "--requests", textFile(t, "access.log", log.String()))
	back, _ := ask(t, 1, "diff", after, before, "--requests", textFile(t, "access.log", log.String()))
	if !strings.HasPrefix(back, "closes") {
		t.Errorf("the other way round: %s", back)
	}
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":       {"GET / HTTP/1.1\n", "line 1: not a JSON object"},
		"no address":    {"{\"url\": \"/x\"}\n", "line 1: \"/x\" is not a request"},
		"whose claims":  {"{\"url\": \"https://a/\", \"claims\": {}}\n", "claims without provider"},
		"no request":    {"\n", "there is no request"},
		"claims repeat": {"{\"url\": \"https://a/\", \"provider\": \"corp\", \"claims\": {\"a\": 1, \"a\": 2}}\n", "twice"},
	} {
		if _, errs := ask(t, 2, "diff", before, after, "--requests", textFile(t, "requests", c.text)); !strings.Contains(errs, c.want) {
			t.Errorf("%s: %q, want %q", name, errs, c.want)
		}
	}
}
