package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answer is a response to a raw request.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

func (a answer) String() string {
	return fmt.Sprintf("%d %v %.300q", a.Status, a.Header, a.Body)
}

// seen decodes what the application received; it fails the test when the
// request did not arrive there.
func (a answer) seen(t testing.TB) seen {
	t.Helper()
	var s seen
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &s) != nil || s.Method == "" {
		t.Fatalf("the request did not reach the application: %v", a)
	}
	return s
}

// cookie returns the value that the answer sets for name, or "".
func (a answer) cookie(name string) string {
	for _, line := range a.Header["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		if n, v, _ := strings.Cut(pair, "="); n == name {
			return v
		}
	}
	return ""
}

// raw sends exactly these bytes as the head of an HTTP/1.1 request (lines are
// joined with CR LF) and reads one answer. Nothing is cleaned, added or sorted.
func raw(t testing.TB, port int, lines ...string) answer {
	t.Helper()
	a, err := rawTry(port, strings.Join(lines, "\r\n")+"\r\n\r\n")
	if err != nil {
		t.Fatalf("%.200q: %v", lines, err)
	}
	return a
}

func rawTry(port int, text string) (answer, error) {
	c, err := net.DialTimeout("tcp", addr(port), 5*time.Second)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return answer{}, err
	}
	sent := make(chan error, 1)
	go func() { // an early answer must not block behind a long request
		_, err := io.Copy(c, strings.NewReader(text))
		sent <- err
	}()
	method, _, _ := strings.Cut(text, " ")
	a, err := readAnswer(bufio.NewReader(c), method)
	if err != nil {
		return answer{}, err
	}
	noteCookies(a.Header)
	return a, nil
}

func readAnswer(r *bufio.Reader, method string) (answer, error) {
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, err = io.Copy(&body, resp.Body)
	}
	return answer{resp.StatusCode, resp.Header, body.Bytes()}, err
}

// get sends a plain GET for host and path with more header lines.
func get(t testing.TB, port int, host, path string, lines ...string) answer {
	t.Helper()
	return raw(t, port, append([]string{"GET " + path + " HTTP/1.1", "host: " + host}, lines...)...)
}

// Header lines of a browser that loads a page.
var navigation = []string{
	"accept: text/html,application/xhtml+xml,*/*;q=0.8",
	"sec-fetch-mode: navigate", "sec-fetch-dest: document", "sec-fetch-site: none", "sec-fetch-user: ?1",
}
