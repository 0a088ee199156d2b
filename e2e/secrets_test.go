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
		if len(v) >= headLen {
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

// noteURL registers what is secret in an address: code, state, nonce, and the request
// that the login host is sent. A code for handoff is ours, any other the provider's.
func noteURL(address string) {
	u, err := url.Parse(address)
	if err != nil {
		return
	}
	for _, name := range []string{"code", "state", "nonce", "req"} {
		kind := name
		if name == "code" && strings.HasSuffix(u.Path, "/handoff") {
			kind = "hand-over code"
		}
		note(kind, u.Query().Get(name))
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
			if v := strings.TrimSpace(line); len(v) >= headLen {
				kind := "minted by the provider (" + filepath.Base(file) + ")"
				secrets.kinds = append(secrets.kinds, kind)
				secrets.known[v] = kind
			}
		}
	}
	logs, _ := filepath.Glob(filepath.Join(run.dir, "*.log"))
	var leaks []string
	s := newSearch(secrets.known)
	for _, file := range logs {
		leaks = append(leaks, s.leaksIn(file)...)
	}
	if blind := unseenKinds(secrets.kinds); len(blind) > 0 && flag.Lookup("test.run").Value.String() == "" && len(run.skipped) == 0 {
		leaks = append(leaks, fmt.Sprintf("the gate is blind: it was told no %q", blind))
	}
	fmt.Fprintf(os.Stderr, "e2e: leak gate: %d secrets, %d logs, %d found\n", len(secrets.known), len(logs), len(leaks))
	return leaks
}

// wholeRun are the kinds of secrets that a run of everything mints. Refresh tokens
// are among what the two providers list.
var wholeRun = []string{
	"code", "state", "nonce", "req", "hand-over code", "cookie __Host-gh_corp", "cookie __Host-gh_p_", "client secret", "session key",
	"redis password", "admin token", "bearer token", "logout token", "oidctest", "refresh token", "minted by the provider",
}

// unseenKinds are the kinds of secrets that a whole run mints and named lacks.
func unseenKinds(named []string) []string {
	var unseen []string
	for _, kind := range wholeRun {
		if !slices.ContainsFunc(named, func(k string) bool { return strings.HasPrefix(k, kind) }) {
			unseen = append(unseen, kind)
		}
	}
	return unseen
}

// search finds any of many secrets in one pass over a text: a run mints thousands and
// writes gigabytes. It looks up the first headLen bytes of each in a table.
type search struct {
	needles map[uint64][]needle // by head
	maybe   [1 << 14]uint64     // bits, by hash of the head: most positions end here
}

type needle struct{ form, kind string }

// headLen is also the least length of a secret.
const headLen = 8

func newSearch(known map[string]string) *search {
	s := &search{needles: map[uint64][]needle{}}
	for secret, kind := range known {
		s.add(secret, kind)
		if escaped := url.QueryEscape(secret); escaped != secret {
			s.add(escaped, kind)
		}
	}
	return s
}

func (s *search) add(form, kind string) {
	var head uint64
	for _, b := range []byte(form[:headLen]) {
		head = head<<8 | uint64(b)
	}
	s.needles[head] = append(s.needles[head], needle{form, kind})
	bit := hash(head)
	s.maybe[bit/64] |= 1 << (bit % 64)
}

// hash spreads over the bits of search.maybe.
func hash(head uint64) uint64 { return head * 0x9e3779b97f4a7c15 >> 44 }

// leaksIn reports each secret in a file once.
func (s *search) leaksIn(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	var leaks []string
	reported := map[string]bool{}
	var head uint64
	for i, b := range text {
		head = head<<8 | uint64(b)
		bit := hash(head)
		if i < headLen-1 || s.maybe[bit/64]&(1<<(bit%64)) == 0 {
			continue
		}
		at := i - headLen + 1
		for _, n := range s.needles[head] {
			if !reported[n.form] && bytes.HasPrefix(text[at:], []byte(n.form)) {
				reported[n.form] = true
				line := bytes.Count(text[:at], []byte("\n")) + 1
				leaks = append(leaks, fmt.Sprintf("%s:%d holds a secret: %s", file, line, n.kind))
			}
		}
	}
	return leaks
}

// The gate must be able to find something, wherever it stands.
func TestLeakGateFinds(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(file, []byte("at-start\none\ntwo s3cret/value+ three s3cret%2Fother%2B same-head-1 same-head-2 s3cret/value+\nat-the-end"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := newSearch(map[string]string{
		"s3cret/value+": "plain", "s3cret/other+": "escaped", "same-head-1": "one", "same-head-2": "two", "at-start": "first", "at-the-end": "last",
		"absent-value": "absent", "same-head-3": "absent", "at-the-end-": "absent",
	}).leaksIn(file)
	want := []string{":1 holds a secret: first", ":3 holds a secret: plain", ":3 holds a secret: escaped", ":3 holds a secret: one", ":3 holds a secret: two", ":4 holds a secret: last"}
	if !slices.EqualFunc(found, want, strings.HasSuffix) {
		t.Errorf("leaksIn found %q, want %q", found, want)
	}
}

// An address is searched for everything that passes through browsers.
func TestLeakGateReadsAddresses(t *testing.T) {
	t.Parallel()
	id := random()
	noteURL("http://auth.localhost/oauth2/start?req=req-" + id)
	noteURL("/oauth2/handoff?a=x&code=ours-" + id)
	noteURL("/oauth2/callback?state=state-" + id + "&code=theirs-" + id)
	secrets.Lock()
	defer secrets.Unlock()
	for value, kind := range map[string]string{"req-": "req", "ours-": "hand-over code", "state-": "state", "theirs-": "code"} {
		if got := secrets.known[value+id]; got != kind {
			t.Errorf("%s was noted as %q, want %q", value, got, kind)
		}
	}
}
