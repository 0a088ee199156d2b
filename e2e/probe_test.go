package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestA5ProbeFindsTheOpenDoor: an Envoy that asks nobody, or lets through what it
// cannot ask about, looks healthy in every log. The probe sees it, by hand and in serve.
func TestA5ProbeFindsTheOpenDoor(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{listeners: []listener{{normalise: true, rawHeaders: true}, {unasked: true}, {failOpen: true}}})
	right := s.probing(t, s.listeners[0].port)
	code, out, errs := gatehouseRun(t, "probe", "--config", write(t, "right.yaml", right))
	if code != 0 || !strings.Contains(out, "refused  "+s.url(appHost, "/")+" as nobody (rule app): 302") || strings.Contains(out, "OPEN") {
		t.Errorf("the right Envoy: exit %d\n%s%s", code, out, errs)
	}
	if err := os.WriteFile(s.gatehouse.file(), []byte(right), 0o600); err != nil {
		t.Fatal(err)
	}
	s.gauge(t, "0")
	for i, l := range s.listeners[1:] {
		wrong := s.probing(t, l.port)
		code, out, _ := gatehouseRun(t, "probe", "--config", write(t, fmt.Sprintf("wrong-%d.yaml", i), wrong))
		if code != 1 || !strings.Contains(out, "OPEN     "+s.url(appHost, "/")+" as nobody (rule app): it answers 200 to a stranger") {
			t.Errorf("%+v: exit %d\n%s", l, code, out)
		}
		changed := time.Now()
		if err := os.WriteFile(s.gatehouse.file(), []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		s.gauge(t, "1")
		t.Logf("%+v: seen after %v", l, time.Since(changed).Round(time.Millisecond))
		s.logged(t, "probe_failed", `"rule":"app"`, `"open":true`)
		if err := os.WriteFile(s.gatehouse.file(), []byte(right), 0o600); err != nil {
			t.Fatal(err)
		}
		s.gauge(t, "0")
	}
}

// probing is the replica's configuration with a probe whose front door is at port.
func (s *stack) probing(t testing.TB, port int) string {
	t.Helper()
	const api = "api.localhost" // apiHost would be asked in TLS
	text := strings.Replace(s.config(t, s.gatehouse), "hosts: ["+apiHost+"]", "hosts: [\""+s.origin(api)+"\"]", 1)
	text += "probe:\n  interval: 1s\n  connect:\n"
	for _, host := range []string{appHost, goodHost, tokensHost, bothHost, otherHost, api} {
		text += fmt.Sprintf("    \"%s:%d\": \"%s\"\n", host, s.port, addr(port))
	}
	return text
}

// gauge waits until the metric of every probed host has this value, a minute at most.
func (s *stack) gauge(t testing.TB, want string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		resp, err := http.Get("http://" + addr(s.gatehouse.ops) + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		found := 0
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "gatehouse_probe_failed{") {
				continue
			}
			found++
			if !strings.HasSuffix(line, "} "+want+"\n") {
				return fmt.Errorf("%s, want %s", strings.TrimSpace(line), want)
			}
		}
		if found < 6 {
			return fmt.Errorf("%d hosts in the metric", found)
		}
		return nil
	})
}
