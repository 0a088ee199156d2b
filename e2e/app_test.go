package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// app is the application behind Envoy. It reads HTTP/1.1 itself, so that it sees
// every header line in order and with its own spelling, and answers each request
// with what it received (a seen, as JSON in a small page).
type app struct {
	port int
	mu   sync.Mutex
	all  []seen
}

// seen is a request as it arrived at the application.
type seen struct {
	Method, Target string
	Lines          [][2]string // name as received, value
}

// values returns the value of every line called name, ignoring ASCII case.
func (s seen) values(name string) []string {
	var out []string
	for _, l := range s.Lines {
		if strings.EqualFold(l[0], name) {
			out = append(out, l[1])
		}
	}
	return out
}

func startApp(t testing.TB) *app {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{port: l.Addr().(*net.TCPAddr).Port}
	var wg sync.WaitGroup
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			conns[c] = true
			a.mu.Unlock()
			wg.Go(func() { a.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		a.mu.Lock()
		for c := range conns {
			c.Close()
		}
		a.mu.Unlock()
		wg.Wait()
		a.audit(t)
	})
	return a
}

func (a *app) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 1<<20)
	for {
		s, err := readRequest(r)
		if err != nil {
			return
		}
		a.mu.Lock()
		a.all = append(a.all, s)
		a.mu.Unlock()
		if len(s.values("upgrade")) > 0 {
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
			return
		}
		body, err := json.Marshal(s)
		if err != nil {
			return
		}
		kind := "application/json"
		if strings.Contains(strings.Join(s.values("accept"), ","), "text/html") {
			kind, body = "text/html", fmt.Appendf(nil, `<!doctype html><title>application</title><pre id="seen">%s</pre>`, escape(string(body)))
		}
		if s.Method == "HEAD" {
			body = nil
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\nset-cookie: app=theirs; Path=/\r\ncontent-length: %d\r\n\r\n%s", kind, len(body), body)
	}
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// readRequest reads one request and throws its body away.
func readRequest(r *bufio.Reader) (seen, error) {
	line, err := readLine(r)
	if err != nil {
		return seen{}, err
	}
	parts := strings.SplitN(line, " ", 3)
	if len(parts) != 3 {
		return seen{}, fmt.Errorf("request line %q", line)
	}
	s := seen{Method: parts[0], Target: parts[1]}
	for {
		line, err := readLine(r)
		if err != nil {
			return seen{}, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return seen{}, fmt.Errorf("header line %q", line)
		}
		s.Lines = append(s.Lines, [2]string{name, strings.Trim(value, " ")})
	}
	return s, skipBody(r, s)
}

func skipBody(r *bufio.Reader, s seen) error {
	if n := s.values("content-length"); len(n) == 1 {
		size, err := strconv.ParseInt(n[0], 10, 64)
		if err != nil {
			return err
		}
		_, err = io.CopyN(io.Discard, r, size)
		return err
	}
	if len(s.values("transfer-encoding")) == 0 {
		return nil
	}
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(line, 16, 64)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, size+2); err != nil || size == 0 {
			return err
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return "", errors.New("bare LF")
	}
	return line, nil
}

// requests returns what arrived so far.
func (a *app) requests() []seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]seen(nil), a.all...)
}

// audit applies to every request of every test what must hold for all of them.
func (a *app) audit(t testing.TB) {
	for _, s := range a.requests() {
		if slices.Contains(s.values("user-agent"), "gatehouse-probe") {
			continue // came through a door that is open on purpose: unchanged
		}
		names := map[string]int{}
		for _, l := range s.Lines {
			name, folded := strings.ToLower(l[0]), fold(l[0])
			names[name]++
			if managed(folded) && (name != folded || names[name] > 1) {
				t.Errorf("application received %s %s with the look-alike or repeated header %q", s.Method, s.Target, l[0])
			}
			if name == "cookie" && strings.Contains(l[1], "__Host-gh_") {
				t.Errorf("application received our cookie: %s %s", s.Method, s.Target)
			}
		}
	}
}

// fold is how an application behind CGI, WSGI or PHP would fold a header name.
func fold(name string) string {
	b := []byte(strings.ToLower(name))
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			b[i] = '-'
		}
	}
	return string(b)
}

func managed(folded string) bool {
	switch folded {
	case "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username", "x-forwarded-access-token":
		return true
	}
	return strings.HasPrefix(folded, "x-auth-request-")
}
