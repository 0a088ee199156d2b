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
	cmd     *exec.Cmd
	args    []string
}

// newServer starts a redis-server on a unix socket, with further arguments.
func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	s := &server{address: socket, args: append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--logfile", filepath.Join(dir, "log")}, args...)}
	s.start(t)
	return s
}

// start starts the server (again) and waits until it answers.
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
	for range 500 {
		if c, err := net.Dial("unix", s.address); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("redis-server does not listen")
}

// stop kills the server.
func (s *server) stop() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// client returns a plain client of the server.
func (s *server) client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.address})
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
