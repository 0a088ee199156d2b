package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const repository = "../.."

// realEnvoy returns the Envoy binary that `make demo` uses. Without it the test
// is skipped, or fails where nothing may be skipped.
func realEnvoy(t *testing.T) string {
	t.Helper()
	path := filepath.Join(repository, ".tools/envoy/1.40.0/envoy")
	if p := os.Getenv("ENVOY"); p != "" {
		path = p
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no Envoy at %s: run e2e/tools.sh envoy 1.40.0", path)
		}
		t.Skipf("SKIPPED: no Envoy at %s: run e2e/tools.sh envoy 1.40.0", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// script writes a program that stands for Envoy or Gatehouse.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// The whole demo with the real programs, as make demo CHECK=1 runs it.
func TestCheck(t *testing.T) {
	envoy := realEnvoy(t)
	temp := t.TempDir()
	gatehouse := filepath.Join(temp, "gatehouse")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", gatehouse, repository+"/cmd/gatehouse").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Setenv("TMPDIR", temp)
	var out bytes.Buffer
	if err := run(t.Context(), options{envoy: envoy, gatehouse: gatehouse, check: true}, &out, t.Output()); err != nil {
		t.Errorf("run: %v", err)
	}
	if n := strings.Count(out.String(), "ok    "); n != 5 {
		t.Errorf("%d of 5 things work:\n%s", n, out.String())
	}
	nothingLeft(t, temp)
}

func nothingLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(temp, "gatehouse-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Ctrl-C while everything runs: no process of any group stays, no file either.
func TestInterruptLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	pids := filepath.Join(t.TempDir(), "pids")
	// Stubborn: ignores the polite signal, has a child of its own that does so too.
	stubborn := script(t, `trap '' TERM; (trap '' TERM; sleep 600) & echo $$ $! >> `+pids+`; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		result <- run(ctx, options{envoy: stubborn, gatehouse: stubborn}, t.Output(), nil)
	}()
	var ids []string
	for len(ids) < 4 {
		time.Sleep(10 * time.Millisecond)
		text, _ := os.ReadFile(pids)
		ids = strings.Fields(string(text))
	}
	cancel()
	if err := <-result; err == nil || err.Error() != "interrupted" {
		t.Errorf("run = %v, want interrupted", err)
	}
	for _, id := range ids {
		if pid, err := strconv.Atoi(id); err != nil || running(pid) {
			t.Errorf("process %s still runs", id)
		}
	}
	nothingLeft(t, temp)
}

// running reports whether a process lives; one that nobody has waited for yet is dead.
func running(pid int) bool {
	for range 50 {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return syscall.Kill(pid, 0) == nil
		}
		if _, rest, ok := strings.Cut(string(state), ") "); ok && strings.HasPrefix(rest, "Z") {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

func TestCrashShowsLastLines(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	crash := script(t, `for i in $(seq 40); do echo line $i; done; echo 'no such key: colour' >&2; exit 3`)
	sleep := script(t, `exec sleep 600`)
	err := run(t.Context(), options{envoy: sleep, gatehouse: crash}, t.Output(), nil)
	if err == nil || !strings.Contains(err.Error(), "gatehouse ended by itself (exit status 3)") || !strings.Contains(err.Error(), "no such key: colour") || strings.Contains(err.Error(), "line 2\n") {
		t.Errorf("run = %v, want the last lines of gatehouse", err)
	}
	if err := run(t.Context(), options{envoy: script(t, "kill -SEGV $$"), gatehouse: sleep}, t.Output(), nil); err == nil || !strings.Contains(err.Error(), "envoy ended by itself (signal: segmentation fault") {
		t.Errorf("run = %v, want the signal", err)
	}
	nothingLeft(t, os.Getenv("TMPDIR"))
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	there := script(t, "exit 1")
	gone := filepath.Join(t.TempDir(), "gone")
	if err := run(t.Context(), options{envoy: gone, gatehouse: there}, t.Output(), nil); err == nil || !strings.Contains(err.Error(), "Envoy is missing: there is no program at "+gone) {
		t.Errorf("run = %v", err)
	}
	if err := run(t.Context(), options{envoy: there, gatehouse: gone}, t.Output(), nil); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("run = %v", err)
	}
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	there := script(t, "exit 1")
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("SKIPPED %s: %v", host, err)
			continue
		}
		defer func() { _ = l.Close() }()
		port := l.Addr().(*net.TCPAddr).Port
		err = run(t.Context(), options{port: port, envoy: there, gatehouse: there}, t.Output(), nil)
		want := fmt.Sprintf("port %d is in use: run make demo PORT=", port)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: run = %v, want %s…", host, err, want)
		}
	}
}

func TestEnvoyAcceptsItsConfiguration(t *testing.T) {
	t.Parallel()
	envoy := realEnvoy(t)
	d := &demo{Port: 10000, GRPC: "127.0.0.1:9000", UpstreamPort: 8080}
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := d.write(path, envoyYAML); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", path, "--log-level", "error").CombinedOutput(); err != nil {
		t.Errorf("validate: %v\n%s", err, out)
	}
}

func TestParseFlags(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	o, err := parseFlags(nil, none, t.Output())
	if want := (options{port: 10000, envoy: ".tools/envoy/1.40.0/envoy", gatehouse: "bin/gatehouse"}); err != nil || o != want {
		t.Errorf("parseFlags() = %+v, %v, want %+v", o, err, want)
	}
	env := func(name string) string { return map[string]string{"PORT": "8000", "CHECK": "1"}[name] }
	if o, err := parseFlags([]string{"-envoy", "e"}, env, t.Output()); err != nil || o.port != 8000 || !o.check || o.envoy != "e" {
		t.Errorf("parseFlags(-envoy e) = %+v, %v", o, err)
	}
	for _, port := range []string{"x", "-1", "65536", ""} {
		if o, err := parseFlags([]string{"-port", port}, none, t.Output()); err == nil {
			t.Errorf("parseFlags(-port %q) = %+v", port, o)
		}
	}
}

func TestApplication(t *testing.T) {
	t.Parallel()
	get := func(target, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		r.Header.Set("Accept", accept)
		r.Header.Set("X-Auth-Request-User", "alice")
		r.Header.Set("X-Nasty", "<script>")
		w := httptest.NewRecorder()
		application().ServeHTTP(w, r)
		return w
	}
	var saw received
	if err := json.Unmarshal(get("http://app.localhost/a?b=c", "*/*").Body.Bytes(), &saw); err != nil {
		t.Fatal(err)
	}
	if err := saw.want(map[string]string{"x-auth-request-user": "alice", "x-nasty": "<script>"}); err != nil || saw.Target != "http://app.localhost/a?b=c" && saw.Target != "/a?b=c" {
		t.Errorf("JSON %+v: %v", saw, err)
	}
	page := get("http://app.localhost/", "text/html").Body.String()
	for _, part := range []string{"Hello, alice", `href="/admin/"`, `href="/oauth2/sign_out"`, "&lt;script&gt;"} {
		if !strings.Contains(page, part) {
			t.Errorf("page lacks %q:\n%s", part, page)
		}
	}
	if page := get("http://app.localhost/admin/", "text/html").Body.String(); !strings.Contains(page, "<h1>Admin page</h1>") {
		t.Errorf("admin page:\n%s", page)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	var copied bytes.Buffer
	l := &tail{name: "x", copyTo: &copied}
	for _, part := range []string{"a\nb", "b\nc", strings.Repeat("z", 200<<10)} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if copied.String()[:12] != "x | a\nx | bb" || !strings.HasPrefix(l.last(), "  a\n  bb\n  cz") {
		t.Errorf("copied %.20q, last %.20q", copied.String(), l.last())
	}
	if got := (&tail{}).last(); !strings.Contains(got, "nothing") {
		t.Errorf("last of nothing = %q", got)
	}
}
