package redisstore_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server process.
type server struct {
	address string
	dir     string
	cmd     *exec.Cmd
	args    []string
	plain   *redis.Client
}

// newServer starts a redis-server on a unix socket, with further arguments.
func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	dir := newDir(t)
	socket := filepath.Join(dir, "redis.sock")
	s := &server{address: socket, dir: dir, args: append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--logfile", filepath.Join(dir, "log")}, args...)}
	s.start(t)
	return s
}

// newTCPServer starts a redis-server on a port of the loopback interface.
func newTCPServer(t testing.TB, args ...string) *server {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	dir := newDir(t)
	s := &server{address: address, dir: dir, args: append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--logfile", filepath.Join(dir, "log")}, args...)}
	s.start(t)
	return s
}

// newDir makes a directory with a short name, as a socket needs it.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start starts the server (again) and waits until it listens.
func (s *server) start(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed: with CI=true nothing may be skipped")
		}
		t.Skip("SKIPPED: redis-server is not installed, so nothing about Redis is tested (apt-get install redis-server)")
	}
	s.cmd = exec.Command(path, s.args...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	eventually(t, "redis-server listens", func() bool {
		network := "tcp"
		if strings.HasPrefix(s.address, "/") {
			network = "unix"
		}
		c, err := net.Dial(network, s.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stop kills the server.
func (s *server) stop() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// eventually polls, for no longer than anything here may take.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// client returns a plain client of the server, always the same.
func (s *server) client(t testing.TB) *redis.Client {
	t.Helper()
	if s.plain == nil {
		s.plain = s.clientAs(t, "")
	}
	return s.plain
}

// clientAs returns a client with a password.
func (s *server) clientAs(t testing.TB, password string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.address, Password: password})
	t.Cleanup(func() { c.Close() })
	return c
}

// do runs a command, for settings of the server.
func (s *server) do(t testing.TB, args ...any) {
	t.Helper()
	if err := s.client(t).Do(context.Background(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// calls returns how often each command was called since the last "CONFIG RESETSTAT".
func (s *server) calls(t testing.TB) map[string]int {
	t.Helper()
	info, err := s.client(t).Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.SplitSeq(info, "\r\n") {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		n, _, _ := strings.Cut(rest, ",")
		calls[name], err = strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
	}
	return calls
}
