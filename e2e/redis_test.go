package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// redis is a real redis-server with a password, whose every command is kept
// for the leak gate.
type redis struct {
	port     int
	password string
	path     string
	dir      string
	proc     *process
}

func startRedis(t testing.TB) *redis {
	t.Helper()
	r := &redis{port: freePort(t), password: "redis-" + random(), path: program(t, "redis-server")}
	note("redis password", r.password)
	dir, err := os.MkdirTemp(run.dir, "redis-")
	if err != nil {
		t.Fatal(err)
	}
	r.dir = dir
	r.up(t)
	return r
}

// up starts the server (again), with the data of before.
func (r *redis) up(t testing.TB) {
	t.Helper()
	conf := fmt.Sprintf("port %d\nbind 127.0.0.1\nrequirepass %s\ndir %s\nsave \"\"\nappendonly yes\nappendfsync always\n", r.port, r.password, r.dir)
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
	br := bufio.NewReader(c)
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
}
