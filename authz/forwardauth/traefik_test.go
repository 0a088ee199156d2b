package forwardauth_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz/forwardauth"
)

// traefik is a question as Traefik v3 writes it with trustForwardHeader: false: the client's
// header, hop-by-hop lines taken out, and Traefik's own lines in place of the client's. It
// was compared with what 3.7.13 sends. METHOD, URI and COOKIE are what a test is about.
const traefik = "GET /oauth2/auth HTTP/1.1\r\n" +
	"Host: gatehouse.gatehouse.svc.cluster.local:4182\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Cookie: theirs=1; COOKIE\r\n" +
	"Priority: u=0, i\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"Sec-Fetch-Site: none\r\n" +
	"Sec-Fetch-User: ?1\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"X-Forwarded-For: 192.0.2.1\r\n" +
	"X-Forwarded-Host: app.test\r\n" +
	"X-Forwarded-Method: METHOD\r\n" +
	"X-Forwarded-Port: 443\r\n" +
	"X-Forwarded-Proto: https\r\n" +
	"X-Forwarded-Uri: URI\r\n\r\n"

// E: Traefik passes a refusal on to the browser, Location and Set-Cookie included, and
// completes a Location without a host by Gatehouse's own name.
func TestE_Traefik(t *testing.T) {
	t.Parallel()
	ask := func(method, uri, cookie string) *http.Response {
		t.Helper()
		text := strings.NewReplacer("METHOD", method, "URI", uri, "COOKIE", cookie).Replace(traefik)
		in, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		in.RemoteAddr = proxy + ":51234"
		w := newWorld(t, forwardauth.Traefik, nil)
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, in)
		if kinds := w.faultKinds(); kinds != nil {
			t.Errorf("%s %s: faults %q", method, uri, kinds)
		}
		if r, _ := w.last(); r.Method != method || r.Peer.Client != "192.0.2.1" {
			t.Errorf("judged as %s of %s", r.Method, r.Peer.Client)
		}
		return rec.Result()
	}
	resp := ask("GET", "/dashboard/?a=1", "more=2")
	if at := resp.Header.Get("Location"); resp.StatusCode != 302 || !strings.HasPrefix(at, "https://app.test/oauth2/start?rd=") {
		t.Errorf("anonymous: %d to %q", resp.StatusCode, at)
	}
	if resp = ask("POST", "/dashboard/", "more=2"); resp.StatusCode != 401 {
		t.Errorf("anonymous POST: %d, want 401", resp.StatusCode)
	}
	resp = ask("GET", "/dashboard/?a=1", good)
	if resp.StatusCode != 200 || resp.Header.Get("X-Auth-Request-User") != "alice" || resp.Header.Get("Cookie") != "theirs=1" {
		t.Errorf("alice: %d %v", resp.StatusCode, resp.Header)
	}
	if resp = ask("GET", "/oauth2/callback?code=x", "more=2"); resp.StatusCode != 303 || len(resp.Header["Set-Cookie"]) != 2 {
		t.Errorf("callback: %d %v, want 303 and its cookies", resp.StatusCode, resp.Header)
	}
}
