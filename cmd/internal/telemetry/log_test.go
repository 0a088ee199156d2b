package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
)

// sink is a writer that several goroutines may use.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestLogFlushesEverySecondAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		log := telemetry.NewLog(&out)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- log.Run(ctx) }()

		log.Logger().Info("first")
		if got := out.String(); got != "" {
			t.Fatalf("written at once: %q", got)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if !strings.Contains(out.String(), "first") {
			t.Fatalf("after a second the log holds %q", out.String())
		}
		log.Logger().Info("last")
		cancel()
		if err := <-done; err != nil || !strings.Contains(out.String(), "last") {
			t.Fatalf("Run = %v with the log %q", err, out.String())
		}
	})
}

func TestLogFlushesErrorsAtOnce(t *testing.T) {
	var out sink
	log := telemetry.NewLog(&out)
	log.Logger().Info("before")
	log.Logger().With("a", "b").Error("broken")
	if got := out.String(); !strings.Contains(got, "before") || !strings.Contains(got, "broken") {
		t.Errorf("after an error the log holds %q", got)
	}
}

func TestLogLevel(t *testing.T) {
	var out sink
	log := telemetry.NewLog(&out)
	log.SetLevel("warn")
	log.Logger().Info("quiet")
	log.Access("all").Observe(&authz.Request{}, &authz.Decision{}, 0)
	_ = log.Flush()
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"check"`) {
		t.Errorf("at level warn the log holds %q", got)
	}
}

func line(t *testing.T, which string, r *authz.Request, d *authz.Decision) map[string]any {
	t.Helper()
	var out sink
	log := telemetry.NewLog(&out)
	log.Access(which).Observe(r, d, 1500*time.Microsecond)
	if err := log.Flush(); err != nil {
		t.Fatal(err)
	}
	if out.String() == "" {
		return nil
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Fatalf("%d lines: %s", n, out.String())
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(out.String()), &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "time")
	return fields
}

// What operators did is written whatever the level, and is not lost when the process is killed.
func TestAuditIsWrittenAtOnce(t *testing.T) {
	var out sink
	log := telemetry.NewLog(&out)
	log.SetLevel("error")
	log.Audit().With("a", "b").Info("admin call")
	if got := out.String(); !strings.Contains(got, `"msg":"admin call","a":"b"`) {
		t.Errorf("the log holds %q", got)
	}
}

func TestAccessLine(t *testing.T) {
	r := &authz.Request{
		Method: "GET", Host: "app.example.com", Path: "/admin", RawQuery: "code=secret", ID: "req-1", Caller: authz.Navigation,
		Header: authz.Header{{Name: "authorization", Value: "Bearer secret"}, {Name: "cookie", Value: "secret"}},
		Peer:   authz.Peer{Client: "192.0.2.1", Principal: "spiffe://a/b"},
	}
	d := &authz.Decision{
		Outcome: authz.Deny, Rule: "admin", Reason: "condition_failed", Detail: "not in a group", Response: authz.Response{Status: 403},
		Identity: &authz.Identity{Provider: "corp", Issuer: "https://idp.example.com", Subject: "alice", Email: "alice@example.com", Session: "s1", Tokens: &authz.Tokens{Access: "secret"}},
	}
	want := map[string]any{
		"level": "INFO", "msg": "check", "decision": "deny", "rule": "admin", "reason": "condition_failed", "detail": "not in a group", "status": 403.0,
		"provider": "corp", "issuer": "https://idp.example.com", "subject": "alice", "session": "s1", "method": "GET", "host": "app.example.com", "path": "/admin",
		"caller": "navigation", "client": "192.0.2.1", "request_id": "req-1", "principal": "spiffe://a/b", "duration_us": 1500.0,
	}
	if diff := cmp.Diff(want, line(t, "all", r, d)); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestAccessWhich(t *testing.T) {
	for _, test := range []struct {
		which   string
		outcome authz.Outcome
		written bool
	}{
		{"all", authz.Allow, true},
		{"all", authz.Deny, true},
		{"denied", authz.Allow, false},
		{"denied", authz.Deny, true},
		{"denied", authz.Answer, true},
		{"none", authz.Allow, false},
		{"none", authz.Deny, false},
	} {
		if got := line(t, test.which, &authz.Request{}, &authz.Decision{Outcome: test.outcome}) != nil; got != test.written {
			t.Errorf("access: %s, outcome %v: written = %v, want %v", test.which, test.outcome, got, test.written)
		}
	}
}

// V1: what a stranger sends stays inside one JSON string.
func TestAccessLineCannotBeInjected(t *testing.T) {
	for _, evil := range []string{"/a\n{\"level\":\"ERROR\"}", "/\x1b[2J", "/\u2028x", "/\xff\xfe", "/\"},{\"", strings.Repeat("ä", 3000)} {
		fields := line(t, "all", &authz.Request{Method: evil, Host: evil, Path: evil, ID: evil, Peer: authz.Peer{Client: evil, Principal: evil}},
			&authz.Decision{Detail: evil, Identity: &authz.Identity{Subject: evil, Issuer: evil, Session: evil}})
		for key, v := range fields {
			if s, ok := v.(string); ok && len(s) > 1024+len("…") {
				t.Errorf("field %s has %d bytes", key, len(s))
			}
		}
		if strings.ContainsRune(fields["path"].(string), '\ufffd') && len(evil) > 1000 {
			t.Error("the path was cut inside a character")
		}
	}
}

func TestAccessLineWithoutRequest(t *testing.T) {
	if fields := line(t, "all", nil, &authz.Decision{Reason: "panic", Response: authz.Response{Status: 500}}); fields["status"] != 500.0 {
		t.Errorf("line = %v", fields)
	}
}

func BenchmarkAccessLine(b *testing.B) {
	log := telemetry.NewLog(discard{})
	access := log.Access("all")
	r := &authz.Request{Method: "GET", Host: "app.example.com", Path: "/some/path", ID: "9f8a6d7e-1111-2222-3333-444455556666", Peer: authz.Peer{Client: "192.0.2.1"}}
	d := &authz.Decision{Outcome: authz.Allow, Rule: "app", Reason: "allowed", Identity: &authz.Identity{Provider: "corp", Issuer: "https://idp.example.com", Subject: "alice", Session: "abcdef"}}
	b.ReportAllocs()
	for b.Loop() {
		access.Observe(r, d, 12*time.Microsecond)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
