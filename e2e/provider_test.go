package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func random() string { return rand.Text() }

// client is Gatehouse's registration at a provider.
type client struct {
	id, secret      string
	redirects, post []string
	backchannel     string // where the provider posts logout tokens; empty: nowhere
	short           int    // seconds that the access token of a login lives; 0: an hour
}

// person is somebody who can sign in.
type person struct {
	Email             string   `json:"email"`
	EmailVerified     bool     `json:"email_verified"`
	Name              string   `json:"name"`
	PreferredUsername string   `json:"preferred_username"`
	Groups            []string `json:"groups"`
}

var people = map[string]person{
	"alice":   {"alice@good.test", true, "Alice Archer", "alice", []string{"staff"}},
	"root":    {"root@good.test", true, "Root Rivers", "root", []string{"admins"}},
	"mallory": {"m@evil.test", true, "Mallory", "mallory", nil},
}

// certified is npm's oidc-provider, an implementation that nobody here wrote.
type certified struct {
	port   int // of its issuer
	issuer string
	proc   *process
	launch launch
	config map[string]any
}

func newCertified(t testing.TB, c client) *certified {
	t.Helper()
	modules := tool(t, "provider")
	port := freePort(t)
	file := write(t, "secrets.txt", "")
	noteFile(file)
	note("client secret", c.secret)
	registration := map[string]any{
		"client_id": c.id, "client_secret": c.secret, "redirect_uris": c.redirects,
		"post_logout_redirect_uris": append([]string{}, c.post...), "grant_types": []string{"authorization_code", "refresh_token"},
	}
	if c.backchannel != "" {
		registration["backchannel_logout_uri"], registration["backchannel_logout_session_required"] = c.backchannel, true
	}
	return &certified{
		port: port, issuer: "http://" + addr(port),
		config: map[string]any{
			"port": port, "listen": port, "secrets": file, "users": people, "clients": []any{registration}, "short": c.short,
		},
		launch: launch{name: "oidc-provider", path: program(t, "node"), args: []string{filepath.Join(run.root, "e2e", "provider", "server.mjs"), modules}},
	}
}

// moveAway has the provider listen elsewhere under the same issuer and returns where.
func (c *certified) moveAway(t testing.TB) int {
	t.Helper()
	behind := freePort(t)
	c.config["listen"] = behind
	return behind
}

func (c *certified) up(t testing.TB) *certified {
	t.Helper()
	config, err := json.Marshal(c.config)
	if err != nil {
		t.Fatal(err)
	}
	c.launch.stdin = bytes.NewReader(config)
	c.proc = start(t, c.launch)
	c.proc.await(t, answers200(c.issuer+"/.well-known/openid-configuration"))
	return c
}

// count says how often what the provider did, as its log says: "grant refresh_token",
// "family revoked".
func (c *certified) count(what string) int { return strings.Count(c.proc.output(), what+"\n") }

// The provider insists on PKCE and its login page signs in by browser.
func TestCertifiedHarness(t *testing.T) {
	reply := http.NewServeMux()
	app := newStub(t, reply)
	c := newCertified(t, client{id: "mesh", secret: "secret-" + random(), redirects: []string{app + "/cb"}}).up(t)
	reply.HandleFunc("/cb", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "text/html")
		_, _ = w.Write([]byte("<p>" + escape(r.URL.RawQuery) + "</p>"))
	})
	p := newProfile(t)
	authorize := c.issuer + "/auth?client_id=mesh&response_type=code&scope=openid&state=state-" + random() + "&redirect_uri=" + app + "/cb"
	p.open(authorize)
	if got := p.text(); !strings.Contains(got, "error=invalid_request") || !strings.Contains(got, "PKCE") {
		t.Errorf("without PKCE: %s, want it refused", p.where())
	}
	p.open(authorize + "&code_challenge_method=S256&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
	p.pick("alice")
	if got := p.text(); !strings.Contains(got, "code=") || !strings.Contains(got, "iss=") {
		t.Errorf("after login: %s, want code and iss", p.where())
	}
	if _, err := os.Stat(c.proc.log); err != nil {
		t.Error(err)
	}
}
