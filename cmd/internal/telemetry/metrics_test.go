package telemetry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
)

func newMetrics(t testing.TB, rules ...string) *telemetry.Metrics {
	t.Helper()
	m, err := telemetry.NewMetrics("v0")
	if err != nil {
		t.Fatal(err)
	}
	m.SetRules(rules)
	return m
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func mustContain(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestMetrics(t *testing.T) {
	m := newMetrics(t, "app")
	for range 3 {
		m.Observe(nil, &authz.Decision{Outcome: authz.Allow, Rule: "app", Reason: "allowed"}, time.Millisecond)
	}
	m.Observe(nil, &authz.Decision{Outcome: authz.Deny, Reason: "no_rule"}, time.Millisecond)
	m.Reloaded(true)
	m.Reloaded(false)
	m.StoreCall("get", errors.New("down"), time.Millisecond)
	if err := m.InFlight(func() int64 { return 7 }); err != nil {
		t.Fatal(err)
	}
	if err := m.Providers(func() map[string]bool { return map[string]bool{"corp": true, "other": false} }); err != nil {
		t.Fatal(err)
	}
	_, text := get(t, m.Handler(), "/metrics")
	mustContain(t, text,
		`gatehouse_decisions_total{outcome="allow",reason="allowed",rule="app"} 3`,
		`gatehouse_decisions_total{outcome="deny",reason="no_rule",rule=""} 1`,
		`gatehouse_check_duration_seconds_count{outcome="allow"} 3`,
		`gatehouse_config_reloads_total{result="failure"} 1`,
		`gatehouse_store_call_duration_seconds_count{operation="get",result="error"} 1`,
		`gatehouse_checks_in_flight 7`,
		`gatehouse_provider_ready{provider="corp"} 1`,
		`gatehouse_provider_ready{provider="other"} 0`,
		`gatehouse_build_info{version="v0"} 1`,
		`go_goroutines`, `process_`)
}

func TestMetricsOutliveAReload(t *testing.T) {
	m := newMetrics(t, "app", "old")
	observe := func(rule string) {
		m.Observe(nil, &authz.Decision{Outcome: authz.Allow, Rule: rule, Reason: "allowed"}, 0)
	}
	observe("app")
	m.SetRules([]string{"app"})
	observe("app")
	observe("old")
	_, text := get(t, m.Handler(), "/metrics")
	mustContain(t, text, `rule="app"} 2`, `rule=""} 1`)
}

// X9: requests make no series.
func TestMetricsSeriesAreBounded(t *testing.T) {
	m := newMetrics(t, "app")
	series := func() int {
		_, text := get(t, m.Handler(), "/metrics")
		return strings.Count(text, "\ngatehouse_")
	}
	m.Observe(nil, &authz.Decision{Reason: "x"}, 0)
	before := series()
	for i := range 100_000 {
		junk := fmt.Sprint("junk-", i)
		m.Observe(&authz.Request{Host: junk, Path: junk, Method: junk}, &authz.Decision{Rule: junk, Reason: junk, Detail: junk, Identity: &authz.Identity{Subject: junk, Issuer: junk}}, 0)
	}
	if after := series(); after != before {
		t.Errorf("%d series before, %d after 100,000 different requests", before, after)
	}
}

func TestMetricsOfManyRules(t *testing.T) {
	var rules []string
	for i := range 2500 {
		rules = append(rules, fmt.Sprint("rule-", i))
	}
	m := newMetrics(t, rules...)
	for _, rule := range rules {
		m.Observe(nil, &authz.Decision{Outcome: authz.Allow, Rule: rule, Reason: "allowed"}, 0)
	}
	_, text := get(t, m.Handler(), "/metrics")
	mustContain(t, text, `rule="rule-2499"} 1`)
}

func TestTransport(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer server.Close()
	m := newMetrics(t)
	client := &http.Client{Transport: m.Transport("corp", (*telemetry.Traces)(nil).Transport("corp", http.DefaultTransport))}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	server.Close()
	if _, err := client.Get(server.URL); err == nil {
		t.Fatal("a closed server answered")
	}
	_, text := get(t, m.Handler(), "/metrics")
	mustContain(t, text, `call_duration_seconds_count{provider="corp",result="4xx"} 1`, `call_duration_seconds_count{provider="corp",result="error"} 1`)
}

func TestOps(t *testing.T) {
	health := &telemetry.Health{Degraded: func() []string { return []string{"store"} }}
	ops := telemetry.NewOps(health, newMetrics(t))
	check := func(path string, status int, body string) {
		t.Helper()
		if gotStatus, gotBody := get(t, ops, path); gotStatus != status || !strings.Contains(gotBody, body) {
			t.Errorf("GET %s = %d %q, want %d %q", path, gotStatus, gotBody, status, body)
		}
	}
	check("/healthz", 200, "alive")
	check("/readyz", 503, "not ready")
	health.SetReady(true)
	check("/readyz", 200, "degraded: store")
	check("/metrics", 200, "go_goroutines")
	health.SetReady(false)
	check("/readyz", 503, "not ready")
	check("/", 404, "")
	check("/debug/pprof/", 404, "") // V3
}

func BenchmarkObserve(b *testing.B) {
	m := newMetrics(b, "app")
	d := &authz.Decision{Outcome: authz.Allow, Rule: "app", Reason: "allowed"}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(nil, d, 12*time.Microsecond)
	}
}
