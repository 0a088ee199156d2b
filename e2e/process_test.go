package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program under test or beside it. Its output goes to a file in
// the run's directory, which the leak gate reads at the end.
type process struct {
	name string
	log  string // path
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done
}

// launch describes a process.
type launch struct {
	name  string // also of its log file
	path  string
	args  []string
	env   []string
	stdin io.Reader
	dir   string
}

var logNumber struct {
	sync.Mutex
	n int
}

// start runs l until the test ends.
func start(t testing.TB, l launch) *process {
	t.Helper()
	logNumber.Lock()
	logNumber.n++
	file := filepath.Join(run.dir, fmt.Sprintf("%03d-%s.log", logNumber.n, l.name))
	logNumber.Unlock()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.path, l.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = l.stdin, out, out, l.dir
	cmd.Env = append(os.Environ(), l.env...)
	cmd.SysProcAttr = dieWithUs()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", l.name, err)
	}
	p := &process{name: l.name, log: file, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		out.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s: %s\n%s", l.name, file, p.tail(8))
		}
	})
	return p
}

// kill ends the process group at once and waits for it.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// terminate asks the process to end and waits for it.
func (p *process) terminate(t testing.TB, within time.Duration) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(within):
		t.Errorf("%s still runs %v after SIGTERM", p.name, within)
		p.kill()
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) output() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

func (p *process) tail(lines int) string {
	all := strings.Split(strings.TrimRight(p.output(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// await polls ready until it reports nil, the process ends, or time is up.
func (p *process) await(t testing.TB, ready func() error) {
	t.Helper()
	err := ready()
	for end := time.Now().Add(30 * time.Second); err != nil; err = ready() {
		if !p.running() {
			t.Fatalf("%s ended (%v) before it was ready:\n%s", p.name, p.err, p.tail(8))
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not ready: %v\n%s", p.name, err, p.tail(8))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answers200 reports whether url answers 200.
func answers200(url string) func() error {
	client := &http.Client{Timeout: 2 * time.Second}
	return func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, resp.Status)
		}
		return nil
	}
}

// eventually polls cond until it reports nil.
func eventually(t testing.TB, within time.Duration, cond func() error) {
	t.Helper()
	err := cond()
	for end := time.Now().Add(within); err != nil; err = cond() {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %v", within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var ports struct {
	sync.Mutex
	given map[int]bool
}

// freePort has the kernel choose a loopback port, once per run.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if !ports.given[port] {
			ports.given[port] = true
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
