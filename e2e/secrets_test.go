package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secrets is everything minted in this run that no log and no Redis value may
// hold: tokens, codes, cookies, states, client secrets, key material.
var secrets struct {
	sync.Mutex
	known map[string]string // secret to what it is; one may be several things, the last to name it stands here
	kinds []string          // everything that was named
	files []string          // each line of these is one too
}

// note registers secrets; short values prove nothing and are left out.
func note(kind string, values ...string) {
	secrets.Lock()
	defer secrets.Unlock()
	if secrets.known == nil {
		secrets.known = map[string]string{}
	}
	for _, v := range values {
		if len(v) >= 8 {
			secrets.kinds = append(secrets.kinds, kind)
			secrets.known[v] = kind
		}
	}
}

func noteFile(path string) {
	secrets.Lock()
	defer secrets.Unlock()
	secrets.files = append(secrets.files, path)
}

// noteCookies registers the cookies that an answer sets.
func noteCookies(h http.Header) {
	for _, line := range h["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "__Host-gh_") {
			note("cookie "+name, value)
		}
	}
}

// noteURL registers code and state of an address.
func noteURL(address string) {
	u, err := url.Parse(address)
	if err != nil {
		return
	}
	for _, name := range []string{"code", "state", "nonce"} {
		note(name, u.Query().Get(name))
	}
}

// leakGate searches every log of the run, and every command that any Redis was
// sent, for every secret of the run.
func leakGate() []string {
	secrets.Lock()
	defer secrets.Unlock()
	for _, file := range secrets.files {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			if v := strings.TrimSpace(line); len(v) >= 8 {
				kind := "minted by the provider (" + filepath.Base(file) + ")"
				secrets.kinds = append(secrets.kinds, kind)
				secrets.known[v] = kind
			}
		}
	}
	logs, _ := filepath.Glob(filepath.Join(run.dir, "*.log"))
	var leaks []string
	for _, file := range logs {
		leaks = append(leaks, leaksIn(file, secrets.known)...)
	}
	if blind := unseenKinds(secrets.kinds); len(blind) > 0 && flag.Lookup("test.run").Value.String() == "" && len(run.skipped) == 0 {
		leaks = append(leaks, fmt.Sprintf("the gate is blind: it was told no %q", blind))
	}
	fmt.Fprintf(os.Stderr, "e2e: leak gate: %d secrets, %d logs, %d found\n", len(secrets.known), len(logs), len(leaks))
	return leaks
}

// unseenKinds are the kinds of secrets that a whole run mints and named lacks.
func unseenKinds(named []string) []string {
	var unseen []string
	for _, kind := range []string{"code", "state", "nonce", "cookie __Host-gh_corp", "cookie __Host-gh_p_", "client secret", "session key", "redis password", "bearer token", "oidctest", "minted by the provider"} {
		if !slices.ContainsFunc(named, func(k string) bool { return strings.HasPrefix(k, kind) }) {
			unseen = append(unseen, kind)
		}
	}
	return unseen
}

func leaksIn(file string, known map[string]string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	var leaks []string
	for secret, kind := range known {
		for _, form := range []string{secret, url.QueryEscape(secret)} {
			if at := bytes.Index(text, []byte(form)); at >= 0 {
				line := bytes.Count(text[:at], []byte("\n")) + 1
				leaks = append(leaks, fmt.Sprintf("%s:%d holds a secret: %s", file, line, kind))
				break
			}
		}
	}
	return leaks
}

// The gate must be able to find something.
func TestLeakGateFinds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(file, []byte("one\ntwo s3cret/value+ three s3cret%2Fother%2B\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := leaksIn(file, map[string]string{"s3cret/value+": "plain", "s3cret/other+": "escaped", "absent-value": "absent"})
	if len(found) != 2 || !strings.Contains(found[0], ":2 ") {
		t.Errorf("leaksIn found %q, want the plain and the escaped secret in line 2", found)
	}
}
