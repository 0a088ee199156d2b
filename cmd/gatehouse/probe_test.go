package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/probe"
)

// front is a front door with a certificate for example.com, and what it does.
func front(t *testing.T, handler http.HandlerFunc) (address, caFile string) {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), textFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

func probePolicy(t *testing.T, address, ca string) string {
	t.Helper()
	return textFile(t, "gatehouse.yaml", fmt.Sprintf(`listen: {grpc: {address: ':9000'}}
providers:
- {name: corp, issuer: https://idp.test, client: {id: mesh, secret_file: s}, bearer: {audiences: [api]}}
sessions: {store: {memory: {}}}
probe: {timeout: 2s, ca_file: %s, token_file: %s, connect: {"example.com:443": %q}}
rules:
- {name: assets, hosts: [example.com], paths: [/static/**], allow: anonymous}
- {name: admin, hosts: [example.com], paths: [/admin/**], login: corp, require: {groups: [admins]}}
- {name: app, hosts: [example.com], login: corp, require: any_user}
- {name: api, hosts: ['*.example.org'], bearer: [corp], require: any_user}
`, ca, textFile(t, "token", "e30.e30.e30\n"), address))
}

// A5: whatever is not a refusal is reported, and so is what could not be asked.
func TestA5Probe(t *testing.T) {
	start := func(w http.ResponseWriter, to string) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
	for _, c := range []struct {
		name  string
		front http.HandlerFunc
		exit  int
		want  string
	}{
		{"asks Gatehouse", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			start(w, "/oauth2/start?rd="+r.URL.Path)
		}, 0, "refused  https://example.com/admin/gatehouse-probe as nobody (rule admin): 302"},
		{"lets everybody in", func(http.ResponseWriter, *http.Request) {}, 1, "OPEN     https://example.com/ as nobody (rule app): it answers 200 to a stranger"},
		{"believes forwarded headers", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Forwarded-For") == "127.0.0.1" {
				return
			}
			w.WriteHeader(http.StatusForbidden)
		}, 1, "as pretender"},
		{"takes any token", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "Bearer e30.e30.e30" {
				return
			}
			w.WriteHeader(http.StatusUnauthorized)
		}, 1, "as stranger"},
		{"redirects elsewhere", func(w http.ResponseWriter, _ *http.Request) { start(w, "/dashboard") }, 1, `it redirects to "/dashboard", which is not where people sign in`},
		{"leaves one path out", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/admin") {
				return
			}
			start(w, "https://example.com/oauth2/start?rd=/")
		}, 1, "OPEN     https://example.com/admin/gatehouse-probe"},
		{"is broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 1, "unknown  https://example.com/ as nobody (rule app): it answers 502: whether it is closed cannot be told"},
	} {
		address, ca := front(t, c.front)
		out, _ := ask(t, c.exit, "probe", "--config", probePolicy(t, address, ca))
		if !strings.Contains(out, c.want) {
			t.Errorf("%s: probe prints\n%s, want %q", c.name, out, c.want)
		}
		if strings.Contains(out, "/static/") {
			t.Errorf("%s: an anonymous rule was asked: %s", c.name, out)
		}
	}
	_, ca := front(t, func(http.ResponseWriter, *http.Request) {})
	gone := probePolicy(t, "127.0.0.1:1", ca)
	if out, _ := ask(t, 1, "probe", "--config", gone); !strings.Contains(out, "unknown") || !strings.Contains(out, "no answer") {
		t.Errorf("a door that is gone: %s", out)
	}
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	out, _ := ask(t, 1, "probe", "--config", probePolicy(t, stranger.Listener.Addr().String(), ca), "--json")
	var findings []probe.Finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil || len(findings) != 8 {
		t.Errorf("--json prints %s (%v)", out, err)
	}
}

// Nothing to ask is no success.
func TestProbeOfNothing(t *testing.T) {
	_, errs := ask(t, 2, "probe", "--config", textFile(t, "g.yaml", open0))
	if !strings.Contains(errs, "nothing to ask") {
		t.Errorf("probe says %q", errs)
	}
}

// A5: a running Gatehouse notices the incident of scenario A by itself: the log and the
// metric say which host is open, and that it is closed again.
func TestA5ProbeWhileServing(t *testing.T) {
	var open atomic.Bool
	address, ca := front(t, func(w http.ResponseWriter, _ *http.Request) {
		if !open.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	text := strings.Replace(base, "providers:", fmt.Sprintf("probe: {interval: 1s, ca_file: %s, connect: {\"example.com:443\": %q}}\nproviders:", ca, address), 1)
	text = strings.Replace(text, "rules:", "rules:\n- {name: probed, hosts: [example.com], login: corp, require: any_user}", 1)
	g := start(t, fmt.Sprintf(text, "http://127.0.0.1:1"))
	failed := func() string {
		value := g.metric(`gatehouse_probe_failed{origin="https://example.com",rule="probed"}`)
		return strings.TrimSpace(value[strings.LastIndex(value, "}")+1:])
	}
	await := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within 20 s: %s", what)
			}
		}
	}
	await("closed", func() bool { return failed() == "0" })
	open.Store(true)
	await("open", func() bool { return failed() == "1" })
	g.await(`"msg":"probe_failed","rule":"probed".*"open":true`)
	open.Store(false)
	await("closed again", func() bool { return failed() == "0" })
}
