package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// redis is a real redis-server with a password, whose every command is kept
// for the leak gate.
type redis struct {
	port     int
	password string     // empty: none
	lines    []string   // more of its configuration
	tls      *authority // not nil: TLS on both sides, in place of plain text
	path     string
	dir      string
	proc     *process
}

func startRedis(t testing.TB) *redis {
	t.Helper()
	r := newRedis(t)
	r.up(t)
	return r
}

// newRedis is a server that up starts.
func newRedis(t testing.TB) *redis {
	t.Helper()
	r := &redis{port: freePort(t), password: "redis-" + random(), path: program(t, "redis-server")}
	note("redis password", r.password)
	dir, err := os.MkdirTemp(run.dir, "redis-")
	if err != nil {
		t.Fatal(err)
	}
	r.dir = dir
	return r
}

// up starts the server (again), with the data of before.
func (r *redis) up(t testing.TB) {
	t.Helper()
	r.launch(t, "appendonly yes", "appendfsync always")
}

// snapshot is a backup of everything, as of now.
func (r *redis) snapshot(t testing.TB) []byte {
	t.Helper()
	r.do(t, "SAVE")
	rdb, err := os.ReadFile(filepath.Join(r.dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return rdb
}

// restore starts the server, which is down, with a backup in place of its data.
func (r *redis) restore(t testing.TB, rdb []byte) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "dump.rdb"), rdb, 0o600); err != nil {
		t.Fatal(err)
	}
	r.launch(t, "appendonly no")
}

func (r *redis) launch(t testing.TB, persistence ...string) {
	t.Helper()
	listen := fmt.Sprintf("port %d", r.port)
	if r.tls != nil {
		listen = r.tls.redis(t, r.port)
	}
	conf := strings.Join(append([]string{listen, "bind 127.0.0.1", "requirepass " + r.password, "dir " + r.dir, `save ""`}, append(persistence, r.lines...)...), "\n") + "\n"
	file := filepath.Join(r.dir, "redis.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	r.proc = start(t, launch{name: "redis", path: r.path, args: []string{file}})
	r.proc.await(t, func() error {
		_, err := r.try("PING")
		return err
	})
	r.monitor(t)
}

// down ends the server at once.
func (r *redis) down() { r.proc.kill() }

// monitor writes every command to a log until the server ends.
func (r *redis) monitor(t testing.TB) {
	t.Helper()
	c, br, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := command(c, br, "MONITOR"); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(run.dir, fmt.Sprintf("redis-%d-%d.log", r.port, time.Now().UnixNano())))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer file.Close()
		defer c.Close()
		_, _ = br.WriteTo(file) // ends with the server
	}()
}

// do runs one command and returns the answer's lines.
func (r *redis) do(t testing.TB, args ...string) []string {
	t.Helper()
	out, err := r.try(args...)
	if err != nil {
		t.Fatalf("redis %v: %v", args, err)
	}
	return out
}

func (r *redis) try(args ...string) ([]string, error) {
	c, br, err := r.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return command(c, br, args...)
}

func (r *redis) dial() (net.Conn, *bufio.Reader, error) {
	c, err := net.DialTimeout("tcp", addr(r.port), time.Second)
	if err != nil {
		return nil, nil, err
	}
	if r.tls != nil {
		c = tls.Client(c, r.tls.client())
	}
	br := bufio.NewReader(c)
	if r.password == "" {
		return c, br, nil
	}
	if _, err := command(c, br, "AUTH", r.password); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, br, nil
}

// command speaks RESP2: an answer is one line, a bulk string, or a flat list of them.
func command(c net.Conn, br *bufio.Reader, args ...string) ([]string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		return nil, err
	}
	return respValue(br)
}

func respValue(br *bufio.Reader) ([]string, error) {
	line, err := readLine(br)
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, errors.New("empty answer")
	}
	var n int
	switch line[0] {
	case '-':
		return nil, errors.New(line[1:])
	case '*':
		_, err = fmt.Sscan(line[1:], &n)
		var out []string
		for range n {
			v, err := respValue(br)
			if err != nil {
				return nil, err
			}
			out = append(out, v...)
		}
		return out, err
	case '$':
		if _, err := fmt.Sscan(line[1:], &n); err != nil || n < 0 {
			return []string{""}, err
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(br, text); err != nil {
			return nil, err
		}
		return []string{string(text[:n])}, nil
	}
	return []string{line[1:]}, nil
}

// keys lists every key.
func (r *redis) keys(t testing.TB) []string { t.Helper(); return r.do(t, "KEYS", "*") }

// size counts keys.
func (r *redis) size(t testing.TB) string { t.Helper(); return r.do(t, "DBSIZE")[0] }

// sessions lists the keys of records.
func (r *redis) sessions(t testing.TB) []string { t.Helper(); return r.do(t, "KEYS", "gh:s:*") }

// fresh is the key of the record that make makes.
func (r *redis) fresh(t testing.TB, make func()) string {
	t.Helper()
	before := r.sessions(t)
	make()
	var found []string
	for _, key := range r.sessions(t) {
		if !slices.Contains(before, key) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		t.Fatalf("new records %q, want one", found)
	}
	return found[0]
}

// handle is the part of a record's key that says which session it is.
func handle(key string) string { return strings.Trim(strings.TrimPrefix(key, "gh:s:"), "{}") }

// The server is real and remembers over a restart.
func TestRedisHarness(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	r.do(t, "SET", "a", "1")
	r.down()
	if _, err := r.try("PING"); err == nil {
		t.Fatal("redis answers after down")
	}
	r.up(t)
	if got := r.do(t, "GET", "a"); len(got) != 1 || got[0] != "1" {
		t.Errorf("GET a after a restart = %q, want 1", got)
	}
	if got := r.keys(t); len(got) != 1 {
		t.Errorf("KEYS = %q, want one", got)
	}
	backup := r.snapshot(t)
	if key := r.fresh(t, func() { r.do(t, "SET", "gh:s:{new}", "2") }); handle(key) != "new" {
		t.Errorf("fresh = %q", key)
	}
	r.down()
	r.restore(t, backup)
	if got := r.size(t); got != "1" || r.do(t, "GET", "a")[0] != "1" {
		t.Errorf("DBSIZE = %s after a restore, want 1", got)
	}
}
