package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// newKey runs "gatehouse keys new".
func newKey(t testing.TB) string {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "keys", "new").Output()
	if err != nil {
		t.Fatalf("keys new: %v", err)
	}
	fields := strings.Fields(string(out))
	note("session key", fields[len(fields)-1])
	return string(out)
}

// agent is a user agent without a screen: it follows redirects and keeps
// cookies, for tests that need a session and no browser.
type agent struct {
	t      testing.TB
	client *http.Client
	jar    *cookiejar.Jar
}

func newAgent(t testing.TB) *agent {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address) // every host of the fixture is this machine
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	a := &agent{t: t, jar: jar, client: &http.Client{Jar: jar, Transport: noting{transport}, Timeout: 20 * time.Second}}
	a.stopAt("")
	return a
}

// stopAt has the agent stop before it follows a redirect to path; the answer with the
// redirect is what open then returns. An empty path ends that.
func (a *agent) stopAt(path string) {
	a.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		r.Header.Del("Referer") // Go sends where the redirect came from; browsers do not
		if path != "" && r.URL.Path == path {
			return http.ErrUseLastResponse
		}
		if len(via) > 20 {
			return errors.New("more than 20 redirects")
		}
		return nil
	}
}

// noting registers every secret that passes.
type noting struct{ http.RoundTripper }

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	noteURL(r.URL.String())
	resp, err := n.RoundTripper.RoundTrip(r)
	if err == nil {
		noteCookies(resp.Header)
		noteURL(resp.Header.Get("Location"))
	}
	return resp, err
}

// page is where a walk through redirects ended.
type page struct {
	answer
	url string
}

// app is the request that the application shows on the page; it fails the test when
// the page is another's.
func (p page) app(t testing.TB) seen {
	t.Helper()
	_, rest, _ := strings.Cut(string(p.Body), `<pre id="seen">`)
	text, _, _ := strings.Cut(rest, "</pre>")
	var s seen
	if err := json.Unmarshal([]byte(html.UnescapeString(text)), &s); err != nil {
		t.Fatalf("%s does not show the application: %v", p.url, p)
	}
	return s
}

// user is whom the application saw.
func (p page) user(t testing.TB) string {
	t.Helper()
	return strings.Join(p.app(t).values("x-auth-request-user"), ",")
}

// open navigates as a browser would.
func (a *agent) open(address string) page {
	a.t.Helper()
	p, err := a.send(http.MethodGet, address, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func (a *agent) send(method, address string, form url.Values) (page, error) {
	r, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return page{}, err
	}
	for _, line := range navigation {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	if form != nil {
		r.Header.Set("content-type", "application/x-www-form-urlencoded")
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return page{answer{resp.StatusCode, resp.Header, body}, resp.Request.URL.String()}, err
}

// signIn opens address, picks user at the provider and returns where that led.
func (a *agent) signIn(address, user string) page {
	a.t.Helper()
	at := a.open(address)
	if at.Status != http.StatusOK || strings.HasPrefix(at.url, address) {
		a.t.Fatalf("%s did not lead to the provider but to %s: %v", address, at.url, at)
	}
	p, err := a.send(http.MethodPost, at.url, url.Values{"user": {user}})
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// session signs user in at host and returns the cookie line of a signed-in browser.
func (s *stack) session(t testing.TB, host, user string) string {
	t.Helper()
	a := newAgent(t)
	if p := a.signIn(s.url(host, "/hello"), user); p.Status != http.StatusOK || p.url != s.url(host, "/hello") {
		t.Fatalf("sign in of %s ended at %s: %v", user, p.url, p)
	}
	return a.cookie(s.url(host, "/"))
}

// cookie is the cookie line that the agent sends to address, only ours.
func (a *agent) cookie(address string) string {
	a.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		a.t.Fatal(err)
	}
	var pairs []string
	for _, c := range a.jar.Cookies(u) {
		if strings.HasPrefix(c.Name, "__Host-gh_") {
			pairs = append(pairs, fmt.Sprintf("%s=%s", c.Name, c.Value))
		}
	}
	if len(pairs) == 0 {
		a.t.Fatalf("no cookie of ours for %s", address)
	}
	return strings.Join(pairs, "; ")
}
