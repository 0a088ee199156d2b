package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// startRedis starts a redis-server with a TLS port, and returns its address and a
// client that may do everything.
func startRedis(t *testing.T, args ...string) (address string, admin *redis.Client) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed: with CI=true nothing may be skipped")
		}
		t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
	}
	dir, err := os.MkdirTemp("", "gh") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, _ := strings.Cut(address, ":")
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(path, append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--bind", "127.0.0.1", "--tls-port", port}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	admin = redis.NewClient(&redis.Options{Addr: socket})
	t.Cleanup(func() { admin.Close() })
	for deadline := time.Now().Add(10 * time.Second); admin.Ping(t.Context()).Err() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not answer")
		}
	}
	return address, admin
}

// folder is a directory of files that change.
type folder string

// pair makes a certificate for redis.test below f.
func (f folder) pair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	dir := filepath.Join(string(f), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writePair(t, dir, "redis.test")
	return filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
}

// install writes files, each replaced whole.
func (f folder) install(t *testing.T, files map[string]string) {
	t.Helper()
	next := filepath.Join(string(f), "next")
	for name, text := range files {
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(string(f), name)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// D1, D2: user, password, authority and client certificate of Redis change on disk, and
// no process is restarted.
func TestRedisFilesAreReadAgain(t *testing.T) {
	f := folder(t.TempDir())
	cert, key := f.pair(t, "old")
	address, admin := startRedis(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes")
	do := func(args ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	do("ACL", "SETUSER", "first", "on", ">hunter1", "~*", "&*", "+@all")
	f.install(t, map[string]string{"ca": read(t, cert), "cert": read(t, cert), "key": read(t, key), "user": "first\n", "password": "hunter1\n"})
	cfg, err := config.Parse(filepath.Join(string(f), "gatehouse.yaml"), fmt.Appendf(nil, `
listen: {grpc: {address: ":9000"}}
sessions:
  key_files: [k]
  store: {redis: {addresses: [%q], username_file: user, password_file: password, timeout: 5s, dial_timeout: 5s,
    tls: {ca_file: ca, cert_file: cert, key_file: key, server_name: redis.test}}}
rules: [{name: open, hosts: [a.example.com], allow: anonymous}]
`, address))
	if err != nil {
		t.Fatal(err)
	}
	var logs sink
	built, err := buildStore(cfg, slog.New(slog.NewJSONHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	store := built.(checkedStore)
	defer store.Close()
	ping := func(what string, want bool) {
		t.Helper()
		do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		if err := store.Ping(t.Context()); (err == nil) != want || err != nil && strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: Ping = %v", what, err)
		}
	}
	ping("at the start", true)

	do("ACL", "SETUSER", "second", "on", ">hunter2", "~*", "&*", "+@all")
	do("ACL", "DELUSER", "first")
	ping("a user who is gone", false)
	f.install(t, map[string]string{"user": "second\n", "password": "hunter2\n"})
	ping("another user", true)

	cert, key = f.pair(t, "new")
	do("CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key, "tls-ca-cert-file", cert)
	ping("another authority", false)
	f.install(t, map[string]string{"ca": read(t, cert), "cert": read(t, cert), "key": read(t, key)})
	ping("the new authority is on disk", true)

	f.install(t, map[string]string{"ca": "junk", "key": "junk"})
	ping("files that cannot be used", true)
	ping("files that still cannot be used", true)
	if n := strings.Count(logs.String(), "TLS files of redis changed but cannot be used"); n != 1 || strings.Contains(logs.String(), "hunter") {
		t.Errorf("log: %s", logs.String())
	}
	f.install(t, map[string]string{"password": ""})
	ping("no password", false)
}

// Why endings are not heard is in the log.
func TestLostIsLogged(t *testing.T) {
	var logs sink
	cfg, err := config.Parse("f", []byte(`
listen: {grpc: {address: ":9000"}}
sessions: {key_files: [k], store: {redis: {addresses: ["127.0.0.1:1"]}}}
rules: [{name: open, hosts: [a.example.com], allow: anonymous}]
`))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := redisConfig(cfg, cfg.Sessions.Store.Redis, slog.New(slog.NewJSONHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	rc.Lost(context.DeadlineExceeded)
	if !strings.Contains(logs.String(), "endings of sessions are not told") || !strings.Contains(logs.String(), "deadline exceeded") {
		t.Errorf("log: %s", logs.String())
	}
}
