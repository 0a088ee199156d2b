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
// returns how many were answered and what was not a 200. Each worker begins one
// every pause, if the last one has been answered.
func load(t testing.TB, port, workers int, pause time.Duration, request string) (stop func() (int, []string)) {
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
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
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
	stop := load(t, s.port, 8, 4*time.Millisecond, "GET /load HTTP/1.1\r\nhost: "+appHost+"\r\ncookie: "+cookie+"\r\n\r\n")
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
	stop := load(t, s.port, 8, 4*time.Millisecond, "GET /load HTTP/1.1\r\nhost: "+apiHost+"\r\n"+token+"\r\n\r\n")
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

// Three replicas are restarted one at a time, each when the last is healthy again, and
// no request fails.
func TestRollingRestart(t *testing.T) {
	s := newStack(t, fixture{redis: true, replicas: 3, access: "denied"})
	s.envoy.awaitHealthy(t, 3)
	rate, workers := size(1000, 400), 40
	pause := time.Second * time.Duration(workers) / time.Duration(rate)
	people := load(t, s.port, workers/2, pause, "GET /load HTTP/1.1\r\nhost: "+appHost+"\r\ncookie: "+s.session(t, appHost, "alice")+"\r\n\r\n")
	machines := load(t, s.port, workers/2, pause, "GET /load HTTP/1.1\r\nhost: "+apiHost+"\r\n"+bearer(s.idp.Bearer(nil))[0]+"\r\n\r\n")
	begin := time.Now()
	time.Sleep(time.Second)
	for i, g := range s.replicas {
		g.keepMetrics(t)
		g.terminate(t, 20*time.Second)
		if g.err != nil {
			t.Errorf("replica %d: exit after SIGTERM: %v, want 0\n%s", i, g.err, g.tail(10))
		}
		s.envoy.awaitHealthy(t, 2)
		g.up(t)
		s.envoy.awaitHealthy(t, 3)
		time.Sleep(500 * time.Millisecond)
	}
	n, bad := people()
	m, worse := machines()
	took := time.Since(begin)
	t.Logf("%d requests in %v (%.0f a second, meant were %d), %d failed", n+m, took.Round(time.Millisecond), float64(n+m)/took.Seconds(), rate, len(bad)+len(worse))
	if n+m < rate || len(bad)+len(worse) > 0 {
		t.Errorf("%d requests failed of %d: %.5q", len(bad)+len(worse), n+m, append(bad, worse...))
	}
}
