package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// variants are Envoy's settings that change what Check is told.
func variants() []listener {
	return []listener{
		{normalise: true, rawHeaders: true}, {normalise: true}, {rawHeaders: true}, {},
	}
}

func (l listener) String() string {
	return fmt.Sprintf("normalise=%t,raw=%t", l.normalise, l.rawHeaders)
}

// spoofed is every managed name and their look-alikes, as a client might send them.
var spoofed = []string{
	"X-Auth-Request-User: spoof", "x-auth-request-user: spoof", "X_Auth_Request_User: spoof", "x.auth.request.user: spoof",
	"x-auth_request-user: spoof", "X-Auth-Request.User: spoof", "x~auth~request~user: spoof",
	"X-Auth-Request-Email: spoof", "x_auth_request_email: spoof", "X-Auth-Request-Groups: spoof", "X-Auth-Request-Groups: admins",
	"X-Auth-Request-Preferred-Username: spoof", "X-Auth-Request-Access-Token: spoof", "X-Auth-Request-Anything: spoof", "X_Auth_Request_Anything: spoof",
	"X-Forwarded-User: spoof", "X_Forwarded_User: spoof", "X-Forwarded-Email: spoof", "X-Forwarded-Groups: spoof",
	"X-Forwarded-Preferred-Username: spoof", "X-Forwarded-Access-Token: spoof", "x.forwarded.access.token: spoof",
}

// The header cases of security.md 1.3 on every supported Envoy, with both ways
// to hand headers over and with Envoy's path cleaning on and off.
func TestHeaders(t *testing.T) {
	for _, version := range envoyVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, fixture{envoy: version, listeners: variants()})
			alice := s.session(t, appHost, "alice")
			mallory := s.session(t, appHost, "mallory")
			access := s.session(t, tokensHost, "alice")
			for _, l := range s.listeners {
				t.Run(l.String(), func(t *testing.T) {
					h := headerCases{s: s, port: l.port, alice: alice, mallory: mallory, access: access}
					h.spoofing(t)
					h.cookies(t, l)
					h.paths(t, l)
					h.hosts(t)
					h.callers(t)
					neverArrived(t, s.app, "/refused")
				})
			}
		})
	}
}

type headerCases struct {
	s                      *stack
	port                   int
	alice, mallory, access string // cookie pairs
}

func (h headerCases) spoofing(t *testing.T) {
	send := func(host, path, cookie string, lines ...string) seen {
		t.Helper()
		if cookie != "" {
			lines = append(lines, "cookie: "+cookie)
		}
		return get(t, h.port, host, path, lines...).seen(t)
	}
	for _, c := range []struct {
		name string
		got  seen
		want map[string]string
	}{
		{"S1 S4 signed in", send(appHost, "/s1", h.alice, spoofed...), map[string]string{
			"x-auth-request-user": "alice", "x-auth-request-email": "alice@good.test", "x-auth-request-groups": "staff", "x-auth-request-preferred-username": "alice",
		}},
		{"S2 absent claim", send(appHost, "/s2", h.mallory, spoofed...), map[string]string{
			"x-auth-request-user": "mallory", "x-auth-request-email": "m@evil.test", "x-auth-request-preferred-username": "mallory",
		}},
		{"S3 anonymous path", send(appHost, "/static/s3.css", h.alice, spoofed...), map[string]string{}},
		{"S3 anonymous host", send(openHost, "/s3", "", spoofed...), map[string]string{}},
		{"S1 bearer", send(apiHost, "/s1", "", append(bearer(h.s.idp.Bearer(nil)), spoofed...)...), map[string]string{"x-auth-request-user": "machine"}},
		{"S5 nothing spoofed", send(appHost, "/s5", h.alice), map[string]string{
			"x-auth-request-user": "alice", "x-auth-request-email": "alice@good.test", "x-auth-request-groups": "staff", "x-auth-request-preferred-username": "alice",
		}},
		{"S6 nominated by Connection", send(appHost, "/s6", h.alice, "connection: close, x-auth-request-user, x-auth-request-groups", "x-auth-request-user: spoof"), map[string]string{
			"x-auth-request-user": "alice", "x-auth-request-email": "alice@good.test", "x-auth-request-groups": "staff", "x-auth-request-preferred-username": "alice",
		}},
	} {
		got := map[string]string{}
		for _, l := range c.got.Lines {
			if managed(fold(l[0])) {
				if _, twice := got[l[0]]; twice {
					t.Errorf("%s: %s arrived twice", c.name, l[0])
				}
				got[l[0]] = l[1]
			}
			if l[1] == "spoof" {
				t.Errorf("%s: %s: spoof arrived", c.name, l[0])
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: identity headers %v, want %v", c.name, got, c.want)
		}
	}
	token := send(tokensHost, "/token", h.access, spoofed...).values("x-auth-request-access-token")
	if len(token) != 1 || len(token[0]) < 16 || token[0] == "spoof" {
		t.Errorf("the application that gets the access token received %d values", len(token))
	}
	for _, l := range []string{"X-Forwarded-For: 127.0.0.1", "User-Agent: kube-probe/1.30", "X-Forwarded-Uri: /static/x", "X-Original-URL: /static/x", // S13 S14 P12
		"X-Rewrite-URL: /static/x", "X-Forwarded-Method: HEAD", "X-HTTP-Method-Override: HEAD", "x-envoy-original-path: /static/x", "x-ext-authz-policy: open"} {
		if a := get(t, h.port, appHost, "/refused", l); a.Status != http.StatusUnauthorized {
			t.Errorf("%s: %v, want 401", l, a)
		}
	}
	for _, l := range []string{"X-Forwarded-Host: evil.test", "Forwarded: host=evil.test", "X-Forwarded-Proto: https"} { // H4
		a := get(t, h.port, appHost, "/refused", append(navigation, l)...)
		if loc := a.Header.Get("location"); a.Status != http.StatusFound || !strings.HasPrefix(loc, "/oauth2/start?") || strings.Contains(loc, "evil") {
			t.Errorf("%s: %v, want 302 to a relative start", l, a)
		}
	}
}

func (h headerCases) cookies(t *testing.T, l listener) {
	for _, c := range []struct {
		name  string
		lines []string
		want  []string // the cookie lines that the application receives
	}{
		{"ours alone", []string{"cookie: " + h.alice}, nil},
		{"ours between", []string{`cookie: a=1; ` + h.alice + `; b="x y"; =odd; c; d=%20`}, []string{`a=1; b="x y"; =odd; c; d=%20`}},
		{"two lines, ours second", []string{"cookie: a=1; b=2", "cookie: " + h.alice}, []string{"a=1; b=2"}},
		{"two lines, ours first", []string{"cookie: " + h.alice, "cookie: a=1; b=2"}, []string{"a=1; b=2"}},
	} {
		a := get(t, h.port, appHost, "/cookie", c.lines...)
		// Without raw headers two lines reach Check joined with a comma, which
		// separates for removing and never for reading: not signed in.
		if len(c.lines) == 2 && !l.rawHeaders {
			if a.Status != http.StatusUnauthorized {
				t.Errorf("%s: %v, want 401", c.name, a)
			}
			continue
		}
		if got := a.seen(t).values("cookie"); !slices.Equal(got, c.want) {
			t.Errorf("%s: application received cookie %q, want %q", c.name, got, c.want)
		}
	}
	// On an anonymous rule, which reads no cookie, ours are cut all the same.
	for _, lines := range [][]string{
		{"cookie: " + h.alice},
		{"cookie: a=1", "cookie: " + h.alice},
		{"cookie: " + h.alice, "cookie: a=1"},
		{"cookie: a=1," + h.alice},
		{"cookie: a=1;" + h.alice + ";b=2"},
		{"cookie: __Host-gh_other=x; a=1"},
	} {
		got := get(t, h.port, openHost, "/cookie", lines...).seen(t).values("cookie")
		if joined := strings.Join(got, "; "); strings.Contains(joined, "__Host-gh_") || len(got) > 1 || strings.Contains(strings.Join(lines, ""), "a=1") != strings.Contains(joined, "a=1") {
			t.Errorf("anonymous, %d lines: application received cookie %q", len(lines), got)
		}
	}
	// Foreign cookies are not touched, byte for byte.
	for _, line := range []string{`a=1;b=2`, `a=1;  b="2"; ;c`, `__host-gh_x=1; __Hostgh_=2`, strings.Repeat("k=v; ", 500) + "end=1"} {
		if got := get(t, h.port, openHost, "/cookie", "cookie: "+line).seen(t).values("cookie"); !slices.Equal(got, []string{line}) {
			t.Errorf("foreign cookie %.60q arrived as %.200q", line, got)
		}
	}
	name, _, _ := strings.Cut(h.alice, "=")
	for _, line := range []string{name + "=garbage", name + "=", name, name + "=" + strings.Repeat("A", 4000), h.alice + "x", name + "=\x80\xff"} {
		if a := get(t, h.port, appHost, "/refused", "cookie: "+line); a.Status != http.StatusUnauthorized && a.Status != http.StatusBadRequest {
			t.Errorf("garbage cookie %.60q: %v, want 401", line, a)
		}
	}
}

func (h headerCases) paths(t *testing.T, l listener) {
	cookie := "cookie: " + h.alice
	// GitLab: one rule covers every reading.
	if got := get(t, h.port, appHost, "/group%2Fproject/-/issues?x=%2F", cookie).seen(t).Target; got != "/group%2Fproject/-/issues?x=%2F" {
		t.Errorf("group%%2Fproject arrived as %q", got)
	}
	for path, want := range map[string][]int{
		"/admin%2Fx": {400}, "/admin%2fx": {400}, "/static%2f..%2fadmin/x": {400}, "/static/..%2fadmin/x": {400}, "/static/..%5cadmin/x": {400}, // P4
		"/static/%252e%252e/admin/x": {400}, "/static/..;/admin/x": {400, 401}, "/static;/../admin/x": {400, 401}, // P6 P7
		"/static/../admin/x": {400, 401}, "/static/%2e%2e/admin/x": {400, 401}, "//admin/x": {400, 401}, // P3 P5
		"/%zz": {400}, "/a%00b": {400}, "/%c0%af": {400}, "/x\x80": {400}, // P8
		"/admin/x?f=/static/a.css": {401}, "/admin/?/static/": {401}, "/staticx": {401}, "/STATIC/x": {401}, // P1 P9 P10
	} {
		if a := get(t, h.port, appHost, path); !slices.Contains(want, a.Status) {
			t.Errorf("%s (%v) without a login: %v, want %v", path, l, a, want)
		}
	}
	for _, path := range []string{"/admin/x", "/admin", "/admin/x?/static/"} {
		if a := get(t, h.port, appHost, path, cookie); a.Status != http.StatusForbidden {
			t.Errorf("%s as alice: %v, want 403", path, a)
		}
	}
	if a := raw(t, h.port, "POST /static/x HTTP/1.1", "host: "+appHost, "content-length: 0"); a.Status != http.StatusUnauthorized {
		t.Errorf("POST below the anonymous GET rule: %v, want 401", a)
	}
}

func (h headerCases) hosts(t *testing.T) {
	cookie := "cookie: " + h.alice
	for _, host := range []string{appHost, "APP.LocalHost", appHost + ":8443", appHost + "."} { // H1 H2
		if got := get(t, h.port, host, "/host", cookie).seen(t).values("x-auth-request-user"); !slices.Equal(got, []string{"alice"}) {
			t.Errorf("host %q: user %q", host, got)
		}
	}
	for host, want := range map[string]int{
		"other.test": 403, "xapp.localhost": 403, "app.localhost.evil.test": 403, "x.open.test": 403, // H5
		"app.localhost@evil": 400, "evil.test,for=127.0.0.1": 400, "user:pw@" + appHost: 400, "": 400, // H3
		strings.Repeat("a", 300) + ".test": 400, "[::1%25eth0]": 400, "app.localhost:x": 400,
	} {
		a := get(t, h.port, host, "/refused", append(navigation, cookie)...)
		if a.Status != want || a.Header.Get("location") != "" {
			t.Errorf("host %.40q: %v, want %d", host, a, want)
		}
	}
	a := raw(t, h.port, "GET /refused HTTP/1.1", "host: "+openHost, "host: "+appHost)
	if a.Status != http.StatusBadRequest {
		t.Errorf("two Host lines: %v, want 400", a)
	}
	// H7: the session of one host is nothing on another.
	if a := get(t, h.port, goodHost, "/refused", cookie); a.Status != http.StatusUnauthorized {
		t.Errorf("session of another host: %v, want 401", a)
	}
}

func (h headerCases) callers(t *testing.T) {
	a := get(t, h.port, appHost, "/refused?a=b", navigation...)
	if loc := a.Header.Get("location"); a.Status != http.StatusFound || !strings.HasPrefix(loc, "/oauth2/start?rd=") || a.Header.Get("cache-control") != "no-store" {
		t.Errorf("navigation: %v, want 302 to start, no-store", a)
	}
	if a.Header["Set-Cookie"] != nil {
		t.Errorf("navigation: a cookie is set before start: %q", a.Header["Set-Cookie"])
	}
	for name, lines := range map[string][]string{
		"fetch":      {"accept: application/json", "sec-fetch-mode: cors", "sec-fetch-dest: empty"},
		"iframe":     {"accept: text/html", "sec-fetch-mode: navigate", "sec-fetch-dest: iframe"},
		"prefetch":   append([]string{"sec-purpose: prefetch"}, navigation...),
		"curl":       {"accept: */*"},
		"web socket": {"connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="}, // S15
	} {
		if a := get(t, h.port, appHost, "/refused", lines...); a.Status != http.StatusUnauthorized || a.Header.Get("location") != "" || a.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %v, want a plain 401", name, a)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "TRACE", "HEAD"} {
		lines := append([]string{method + " /refused HTTP/1.1", "host: " + appHost, "content-length: 0"}, navigation...)
		if a := raw(t, h.port, lines...); a.Status != http.StatusUnauthorized && (method != "HEAD" || a.Status != http.StatusFound) {
			t.Errorf("%s: %v, want 401", method, a)
		}
	}
	preflight := raw(t, h.port, "OPTIONS /refused HTTP/1.1", "host: "+appHost, "origin: https://evil.test", "access-control-request-method: POST")
	if preflight.Status != http.StatusUnauthorized || preflight.Header.Get("access-control-allow-origin") != "" {
		t.Errorf("preflight: %v, want 401 without CORS headers", preflight)
	}
	a = raw(t, h.port, "POST /refused/Method HTTP/1.1", "host: "+appHost, "content-type: application/grpc", "te: trailers", "content-length: 0")
	if a.Status != http.StatusOK || a.Header.Get("grpc-status") != "16" || a.Header.Get("location") != "" || a.Header["Set-Cookie"] != nil {
		t.Errorf("gRPC over HTTP/1.1: %v, want grpc-status 16", a)
	}
	a = get(t, h.port, appHost, "/socket", "cookie: "+h.alice, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
	if a.Status != http.StatusSwitchingProtocols {
		t.Errorf("web socket of a signed-in user: %v, want 101", a)
	}
	h.oversized(t)
}

// S10: large headers are refused or served, quickly, and never half.
func (h headerCases) oversized(t *testing.T) {
	big := "cookie: " + strings.Repeat("a=1; ", 10<<10) // 50 KiB: Envoy lets it through
	if a := get(t, h.port, appHost, "/refused", big); a.Status != http.StatusUnauthorized && a.Status != http.StatusBadRequest {
		t.Errorf("50 KiB cookie: %v, want 401 or 400", a)
	}
	if a := get(t, h.port, appHost, "/refused", big+strings.Repeat("b=2; ", 4<<10)); a.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("70 KiB cookie: %v, want Envoy's 431", a)
	}
}
