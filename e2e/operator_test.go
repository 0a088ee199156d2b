package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gatehouseRun runs a command of the binary and returns its exit code and output.
func gatehouseRun(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String(), errs.String()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, out.String(), errs.String()
}

// sessionName is how logs and operators call the session of a record's key.
func sessionName(key string) string { return handle(key)[:16] }

// An operator lists who is signed in and ends one session or all, everywhere, and the
// log says that he did.
func TestOperatorEndsSessions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, admin string }{{"socket", "socket"}, {"token", "token"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, fixture{redis: true, replicas: 3, admin: c.admin})
			sessions := func(command string, more ...string) (int, string, string) {
				t.Helper()
				args := append([]string{"sessions", command, "--config", s.gatehouse.file(), "--provider", "corp"}, more...)
				return gatehouseRun(t, append(args, s.adminFlags(t)...)...)
			}
			var first, second string
			firstKey := s.redis.fresh(t, func() { first = s.session(t, appHost, "alice") })
			secondKey := s.redis.fresh(t, func() { second = s.session(t, appHost, "alice") })
			root := s.session(t, appHost, "root")
			for _, more := range [][]string{nil, {"--json"}} {
				code, out, errs := sessions("list", append(more, "--subject", "alice")...)
				if code != 0 || !strings.Contains(out, sessionName(firstKey)) || !strings.Contains(out, sessionName(secondKey)) {
					t.Errorf("list %v: exit %d, %q, %q, want both sessions of alice", more, code, out, errs)
				}
			}
			if code, out, errs := sessions("revoke", "--subject", "alice", "--session", sessionName(firstKey)); code != 0 {
				t.Errorf("revoke one: exit %d, %q, %q", code, out, errs)
			}
			s.everywhere(t, first, signedOut)
			s.everywhere(t, second, allowed)
			if code, out, errs := sessions("revoke", "--subject", "alice", "--json"); code != 0 || !strings.Contains(out, "1") {
				t.Errorf("revoke all: exit %d, %q, %q", code, out, errs)
			}
			s.everywhere(t, second, signedOut)
			s.everywhere(t, root, allowed)
			s.operatorMistakes(t, sessions)
			for _, part := range []string{"alice", "evoke"} {
				if !strings.Contains(s.gatehouse.output(), part) {
					t.Errorf("the log does not say %q", part)
				}
			}
		})
	}
}

// operatorMistakes: usage is 2, what was not done is 1 and says so.
func (s *stack) operatorMistakes(t *testing.T, sessions func(string, ...string) (int, string, string)) {
	if code, _, errs := sessions("revoke"); code != 2 {
		t.Errorf("revoke of nobody: exit %d, %q, want 2", code, errs)
	}
	if code, _, errs := sessions("list", "--subject", "alice", "--provider", "nowhere"); code == 0 || !strings.Contains(errs, "nowhere") {
		t.Errorf("list of an unknown provider: exit %d, %q", code, errs)
	}
	s.redis.down()
	code, out, errs := sessions("revoke", "--subject", "root")
	if code != 1 || out == "" && errs == "" {
		t.Errorf("revoke while the store is down: exit %d, %q, %q, want 1 and words", code, out, errs)
	}
	s.redis.up(t)
}

// file is the replica's configuration.
func (g *gatehouse) file() string { return g.launch.args[len(g.launch.args)-1] }

// The socket is the owner's alone and goes with the process; a token is a must on TCP,
// and a wrong one opens nothing.
func TestAdminIsClosed(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, admin: "socket"})
	info, err := os.Stat(strings.TrimPrefix(s.gatehouse.admin, "unix://"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v, want mode 0600", info, err)
	}
	s.gatehouse.kill() // leaves its socket behind
	s.gatehouse.up(t)
	if code, out, errs := gatehouseRun(t, "sessions", "list", "--config", s.gatehouse.file(), "--provider", "corp", "--subject", "alice"); code != 0 {
		t.Errorf("after a crash: exit %d, %q, %q", code, out, errs)
	}
	s.gatehouse.terminate(t, 20*time.Second)
	if _, err := os.Stat(strings.TrimPrefix(s.gatehouse.admin, "unix://")); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}

	guarded := newStack(t, fixture{redis: true, admin: "token"})
	wrong := write(t, "wrong-token", random()+random())
	for name, flags := range map[string][]string{"no token": nil, "wrong token": {"--token-file", wrong}} {
		args := append([]string{"sessions", "list", "--config", guarded.gatehouse.file(), "--address", guarded.gatehouse.admin, "--provider", "corp", "--subject", "alice"}, flags...)
		if code, out, _ := gatehouseRun(t, args...); code == 0 {
			t.Errorf("%s: exit 0, %q", name, out)
		}
	}
	text, err := os.ReadFile(guarded.gatehouse.file())
	if err != nil {
		t.Fatal(err)
	}
	open := write(t, "open.yaml", strings.Replace(string(text), ", token_file: "+guarded.adminFile, "", 1))
	if code, _, errs := gatehouseRun(t, "validate", "--config", open); code == 0 || !strings.Contains(errs, "admin") {
		t.Errorf("an admin listener that asks for nothing: exit %d, %q", code, errs)
	}
}

// keys list says which key seals and until when the others stay, without a secret.
func TestKeysList(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true})
	second := newKey(t)
	if err := os.WriteFile(filepath.Join(s.keyDir, "second"), []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{nil, {"--json"}} {
		code, out, errs := gatehouseRun(t, append([]string{"keys", "list", "--config", s.gatehouse.file()}, more...)...)
		if code != 0 || !strings.Contains(out, "first") || !strings.Contains(out, "second") {
			t.Errorf("keys list %v: exit %d, %q, %q, want both files", more, code, out, errs)
		}
		fields := strings.Fields(second)
		if strings.Contains(out+errs, fields[len(fields)-1]) {
			t.Errorf("keys list %v prints a key", more)
		}
		if id := fields[1]; !strings.Contains(out, id) {
			t.Errorf("keys list %v: %q, want the id %s", more, out, id)
		}
	}
}

// adminFlags are what the client needs beside the configuration.
func (s *stack) adminFlags(t testing.TB) []string {
	t.Helper()
	if s.admin != "token" {
		return nil
	}
	return []string{"--token-file", s.adminFile}
}

// adminListener is the configuration of g's admin API.
func (s *stack) adminListener(g *gatehouse) string {
	if s.admin == "token" {
		return fmt.Sprintf("  admin: {address: %q, token_file: %s}", g.admin, s.adminFile)
	}
	return "  admin: {address: " + g.admin + "}"
}
