package e2e

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load sends requests over kept connections until stop is called, which
// returns how many were answered and what was not a 200.
func load(t testing.TB, port, workers int, request string) (stop func() (int, []string)) {
	t.Helper()
	var wg sync.WaitGroup
	var n atomic.Int64
	var mu sync.Mutex
	var bad []string
	done := make(chan struct{})
	for range workers {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr(port))
			if err != nil {
				mu.Lock()
				bad = append(bad, err.Error())
				mu.Unlock()
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, err := c.Write([]byte(request))
				var a answer
				if err == nil {
					a, err = readAnswer(br, "GET")
				}
				n.Add(1)
				if err != nil || a.Status != 200 {
					mu.Lock()
					bad = append(bad, fmt.Sprint(time.Now().Format("05.000 "), a, err))
					mu.Unlock()
				}
				if err != nil {
					return
				}
			}
		})
	}
	var once sync.Once
	stop = func() (int, []string) {
		once.Do(func() { close(done) })
		wg.Wait()
		return int(n.Load()), bad
	}
	t.Cleanup(func() { stop() })
	return stop
}

// newPair is a stack with a second replica behind the same Envoy.
func newPair(t testing.TB) (s *stack, second *gatehouse) {
	t.Helper()
	s = newStack(t, fixture{redis: true, replicas: 2})
	return s, s.replicas[1]
}

// A replica that is told to end takes its leave without one failed Check, and
// sessions live on in the other.
func TestDrainUnderLoad(t *testing.T) {
	s, second := newPair(t)
	cookie := s.session(t, appHost, "alice")
	stop := load(t, s.port, 8, "GET /load HTTP/1.1\r\nhost: "+appHost+"\r\ncookie: "+cookie+"\r\n\r\n")
	time.Sleep(time.Second)
	s.gatehouse.keepMetrics(t)
	s.gatehouse.terminate(t, 20*time.Second)
	if s.gatehouse.err != nil {
		t.Errorf("exit after SIGTERM: %v, want 0\n%s", s.gatehouse.err, s.gatehouse.tail(20))
	}
	time.Sleep(time.Second)
	n, bad := stop()
	if n < 500 || len(bad) > 0 {
		t.Errorf("%d of %d requests failed while a replica drained, want 0 of at least 500: %.3q", len(bad), n, bad)
	}
	if !second.running() {
		t.Error("the other replica ended too")
	}
	t.Logf("%d requests, %d failed", n, len(bad))
}

// A replica that dies costs no request either: Envoy asks the other one.
func TestKillUnderLoad(t *testing.T) {
	s, _ := newPair(t)
	token := bearer(s.idp.Bearer(nil))[0]
	stop := load(t, s.port, 8, "GET /load HTTP/1.1\r\nhost: "+apiHost+"\r\n"+token+"\r\n\r\n")
	time.Sleep(time.Second)
	_ = syscall.Kill(-s.gatehouse.cmd.Process.Pid, syscall.SIGKILL)
	time.Sleep(2 * time.Second)
	n, bad := stop()
	if n < 300 || len(bad) > 0 {
		t.Errorf("%d of %d requests failed when a replica was killed, want 0: %.3q", len(bad), n, bad)
	}
	t.Logf("%d requests, %d failed", n, len(bad))
}

// Alone, a replica that drains goes on answering until it ends.
func TestDrainAlone(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{})
	_ = s.gatehouse.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(500 * time.Millisecond)
	get(t, s.port, openHost, "/draining").seen(t)
	if err := answers200("http://" + addr(s.gatehouse.ops) + "/readyz")(); err == nil {
		t.Error("/readyz says ready while draining")
	}
	select {
	case <-s.gatehouse.done:
	case <-time.After(20 * time.Second):
		t.Fatal("still runs")
	}
	if a := get(t, s.port, openHost, "/refused"); a.Status != 504 {
		t.Errorf("after the end: %v, want Envoy's 504", a)
	}
	neverArrived(t, s.app, "/refused")
}
