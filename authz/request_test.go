package authz_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func field(name, value string) authz.Field { return authz.Field{Name: name, Value: value} }

// TestHost covers H1, H2, H3 and H6.
func TestHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ authority, host, port string }{
		{"app.test", "app.test", ""},
		{"APP.Test", "app.test", ""},
		{"app.test.", "app.test", ""},
		{"app.test.:8443", "app.test", "8443"},
		{"app.test:443", "app.test", "443"},
		{"app_1.test:65535", "app_1.test", "65535"},
		{"127.0.0.1:80", "127.0.0.1", "80"},
		{"[::1]", "[::1]", ""},
		{"[0:0::1]:8080", "[::1]", "8080"},
		{"[2001:DB8::A]", "[2001:db8::a]", ""},
	} {
		r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: tt.authority, Target: "/"})
		if err != nil || r.Host != tt.host || r.Port != tt.port {
			t.Errorf("host of %q = %q %q, %v, want %q %q", tt.authority, r.Host, r.Port, err, tt.host, tt.port)
		}
	}
	for _, bad := range []string{
		"", ".", ":80", "a,b", "app.test,app.test", "app.test@evil", "user:pw@app.test", "evil.com,for=127.0.0.1", "a b", "a\tb", "a\x00",
		"app.test:", "app.test:0443", "app.test:0", "app.test:65536", "app.test:x", "app.test:443:443", "app.test..", "app..test", ".app.test",
		"[::1%eth0]", "[::1", "::1", "[]", "[127.0.0.1]", "[::1]x", "[::1]:", strings.Repeat("a", 300) + ".test", strings.Repeat("a", 64) + ".test",
		strings.Repeat("a.", 127) + "a", "ａpp.test", "app。test", "xn--app-.test", "-app.test", "app-.test", "app.te\u212at", "app.test/", "app.test?", "app.test#", "app.test\\",
		"*.test", "app%2etest",
	} {
		if r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: bad, Target: "/"}); err == nil {
			t.Errorf("host %q is taken as %q, want an error", bad, r.Host)
		} else if r == nil || r.Host != "" {
			t.Errorf("host %q: request %v, want one without host", bad, r)
		}
	}
}

// TestTarget covers P2, P8, P11 and the splitting of P1.
func TestTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, path, query string }{
		{"/", "/", ""},
		{"/a?b?c", "/a", "b?c"},
		{"/admin/x?f=/static/a.css", "/admin/x", "f=/static/a.css"},
		{"/?", "/", ""},
		{"/a%2fb%2F%5c?q=100%", "/a%2fb%2F%5c", "q=100%"},
		{"/caf%C3%A9/%20", "/caf%C3%A9/%20", ""},
		{"//x/y", "//x/y", ""},
		{`/"<>^{|}`, `/"<>^{|}`, ""},
	} {
		r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: "app.test", Target: tt.target})
		if err != nil || r.Path != tt.path || r.RawQuery != tt.query {
			t.Errorf("target %q = %q %q, %v, want %q %q", tt.target, r.Path, r.RawQuery, err, tt.path, tt.query)
		}
	}
	for _, bad := range []string{
		"", "*", "admin", "?a", "/%", "/%2", "/%zz", "/a%00", "/a%0d%0a", "/a%1F", "/a%7f", "/\x7f", "/a b", "/a\tb", "/a\r\nb", "/\x00",
		"/\xc0\xaf", "/caf\u00e9", "/%C0%AF", "/%ff", "/%C3", "/%ED%A0%80", "/admin/s#/public/", "/a?b#c", "/a?b\x80", "/a?b c",
		"http://app.test/", "app.test:443", "/" + strings.Repeat("a", 9<<10), "/?" + strings.Repeat("a", 33<<10),
	} {
		if r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: "app.test", Target: bad}); err == nil {
			t.Errorf("target %.40q is taken as %q, want an error", bad, r.Path)
		} else if r == nil || r.Path != "" || r.RawQuery != "" {
			t.Errorf("target %.40q: path %q, query %q, want a request without", bad, r.Path, r.RawQuery)
		}
	}
}

func TestMethod(t *testing.T) {
	t.Parallel()
	for _, m := range []string{"GET", "HEAD", "TRACE", "M-SEARCH", "X_1"} {
		if _, err := authz.NewRequest(authz.Raw{Method: m, Authority: "app.test", Target: "/"}); err != nil {
			t.Errorf("method %q: %v", m, err)
		}
	}
	for _, m := range []string{"", "get", "Get", "GE T", "GET\n", "GÉT", "G(T", strings.Repeat("A", 33)} {
		if r, err := authz.NewRequest(authz.Raw{Method: m, Authority: "app.test", Target: "/"}); err == nil || r.Method != "" {
			t.Errorf("method %q is taken, want an error (P11)", m)
		}
	}
}

// TestHeaderLimits covers S7, S10 and the form of names.
func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	many := make(authz.Header, 300)
	for i := range many {
		many[i] = field("x-a", "b")
	}
	for name, h := range map[string]authz.Header{
		"S10 64 KiB":           {field("cookie", strings.Repeat("a", 64<<10))},
		"S10 64 KiB in lines":  append(authz.Header{field("a", strings.Repeat("a", 32<<10))}, field("b", strings.Repeat("b", 32<<10))),
		"300 lines":            many,
		"upper case":           {field("X-Auth-Request-User", "root")},
		"space in name S4":     {field("x-auth-request-user ", "root")},
		"empty name":           {field("", "root")},
		"pseudo-header":        {field(":path", "/")},
		"non-ASCII name":       {field("x-\u212a", "1")},
		"S7 two bearer lines":  {field("authorization", "Bearer a"), field("authorization", "Bearer b")},
		"S7 bearer and basic":  {field("authorization", "Basic a"), field("authorization", "bearer b")},
		"S7 joined by a proxy": {field("authorization", "Bearer A, Bearer B")},
		"S8 trailing comma":    {field("authorization", "Bearer A,")},
		"S8 comma at once":     {field("authorization", "Bearer,Bearer A")},
	} {
		if r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: "app.test", Target: "/", Header: h}); err == nil || len(r.Header) > 0 {
			t.Errorf("%s is taken, want an error", name)
		}
	}
	ok := authz.Header{field("authorization", `Digest username="a", realm="b"`), field("cookie", "\xff"), field("x!#$", "1")}
	if _, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: "app.test", Target: "/", Header: ok}); err != nil {
		t.Errorf("NewRequest = %v, want these headers taken", err)
	}
}

// TestBearer covers S8.
func TestBearer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value, token string
		present      bool
	}{
		{"Bearer abc", "abc", true},
		{"bearer abc", "abc", true},
		{"BEARER abc", "abc", true},
		{"Bearer", "", true},
		{"Bearer ", "", true},
		{"Bearer  abc", " abc", true},
		{"Bearer\tabc", "\tabc", true},
		{"Bearers abc", "", false},
		{"Basic abc", "", false},
		{"", "", false},
		{"Bear", "", false},
		{"\u212aearer x", "", false},
	} {
		token, present := authz.Header{field("authorization", tt.value)}.Bearer()
		if token != tt.token || present != tt.present {
			t.Errorf("Bearer of %q = %q, %v, want %q, %v", tt.value, token, present, tt.token, tt.present)
		}
	}
}

func TestCaller(t *testing.T) {
	t.Parallel()
	html := field("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	mode, dest := field("sec-fetch-mode", "navigate"), field("sec-fetch-dest", "document")
	origin, asks := field("origin", "https://x.test"), field("access-control-request-method", "PUT")
	for _, tt := range []struct {
		method string
		header authz.Header
		want   authz.Caller
	}{
		{"GET", nil, authz.Fetch},
		{"GET", authz.Header{field("accept", "*/*")}, authz.Fetch},
		{"GET", authz.Header{field("accept", "application/json, text/htmlx")}, authz.Fetch},
		{"GET", authz.Header{html}, authz.Navigation},
		{"GET", authz.Header{field("accept", "application/json"), field("accept", " Text/HTML ;q=1")}, authz.Navigation},
		{"HEAD", authz.Header{html}, authz.Fetch},
		{"POST", authz.Header{html, mode, dest}, authz.Fetch},
		{"GET", authz.Header{html, field("x-requested-with", "XMLHttpRequest")}, authz.Fetch},
		{"GET", authz.Header{mode, dest}, authz.Navigation},
		{"GET", authz.Header{mode, field("sec-fetch-dest", "iframe"), html}, authz.Fetch},
		{"GET", authz.Header{mode, html}, authz.Fetch},
		{"GET", authz.Header{field("sec-fetch-mode", "cors"), dest, html}, authz.Fetch},
		{"GET", authz.Header{field("sec-fetch-site", "none"), html}, authz.Fetch},
		{"GET", authz.Header{mode, mode, dest}, authz.Fetch},
		{"GET", authz.Header{mode, dest, field("sec-purpose", "prefetch;prerender")}, authz.Fetch},
		{"GET", authz.Header{mode, dest, field("upgrade", "websocket")}, authz.Upgrade},
		{"GET", authz.Header{field("sec-websocket-version", "13")}, authz.Upgrade},
		{"POST", authz.Header{field("content-type", "application/grpc")}, authz.GRPC},
		{"GET", authz.Header{field("content-type", "application/grpc+proto"), mode, dest}, authz.GRPC},
		{"POST", authz.Header{field("content-type", "application/grpc-web")}, authz.Fetch},
		{"POST", authz.Header{field("content-type", "application/grpc; charset=x")}, authz.Fetch},
		{"OPTIONS", authz.Header{origin, asks}, authz.Preflight},
		{"OPTIONS", authz.Header{origin}, authz.Fetch},
		{"GET", authz.Header{origin, asks}, authz.Fetch},
	} {
		r := request(t, tt.method, "app.test", "/", tt.header...)
		if r.Caller != tt.want {
			t.Errorf("caller of %s %v = %v, want %v", tt.method, tt.header, r.Caller, tt.want)
		}
	}
}

// TestRefusedCaller lets an edge answer a malformed gRPC call as gRPC.
func TestRefusedCaller(t *testing.T) {
	t.Parallel()
	r, err := authz.NewRequest(authz.Raw{
		Method: "POST", Authority: "a,b", Target: "/svc/m?code=secret", ID: "id\r\n{\"evil\"}" + strings.Repeat("x", 200),
		Header: authz.Header{field("content-type", "application/grpc")},
	})
	if err == nil || r.Caller != authz.GRPC || r.Method != "POST" || r.Path != "/svc/m" || r.Host != "" {
		t.Errorf("NewRequest = %+v, %v, want a gRPC caller without host, and an error", r, err)
	}
	if len(r.Header) != 0 || r.RawQuery != "" {
		t.Errorf("header %q and query %q of a refused request are kept (V2)", r.Header, r.RawQuery)
	}
	if strings.ContainsAny(r.ID, "\r\n{}\"") || len(r.ID) > 64 || !strings.HasPrefix(r.ID, "idevil") {
		t.Errorf("id = %q, want it short and clean (V1)", r.ID)
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	xff := authz.Header{field("x-forwarded-for", "9.9.9.9, 8.8.8.8"), field("x-forwarded-for", "7.7.7.7,6.6.6.6")}
	for _, tt := range []struct {
		name string
		find authz.ClientAddress
		h    authz.Header
		want string
	}{
		{"peer", authz.PeerAddress(), xff, "10.0.0.1"},
		{"header", authz.HeaderAddress("x-real-ip"), authz.Header{field("x-real-ip", "1.2.3.4")}, "1.2.3.4"},
		{"header missing", authz.HeaderAddress("x-real-ip"), nil, "10.0.0.1"},
		{"header twice", authz.HeaderAddress("x-real-ip"), authz.Header{field("x-real-ip", "1.2.3.4"), field("x-real-ip", "1.2.3.4")}, "10.0.0.1"},
		{"header junk", authz.HeaderAddress("x-real-ip"), authz.Header{field("x-real-ip", "1.2.3.4\" evil")}, "10.0.0.1"},
		{"hop 1", authz.ForwardedFor(1), xff, "6.6.6.6"},
		{"hop 2", authz.ForwardedFor(2), xff, "7.7.7.7"},
		{"hop 3", authz.ForwardedFor(3), xff, "8.8.8.8"},
		{"hop 4", authz.ForwardedFor(4), xff, "9.9.9.9"},
		{"hop 5", authz.ForwardedFor(5), xff, "10.0.0.1"},
		{"hop 0", authz.ForwardedFor(0), xff, "10.0.0.1"},
		{"port", authz.ForwardedFor(1), authz.Header{field("x-forwarded-for", "1.2.3.4:99")}, "1.2.3.4"},
		{"mapped", authz.ForwardedFor(1), authz.Header{field("x-forwarded-for", "::ffff:1.2.3.4")}, "1.2.3.4"},
		{"zone", authz.ForwardedFor(1), authz.Header{field("x-forwarded-for", "fe80::1%evil")}, "10.0.0.1"},
	} {
		if got := tt.find(tt.h, "10.0.0.1"); got != tt.want {
			t.Errorf("%s = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzNewRequest(f *testing.F) {
	for _, s := range []string{"app.test", "APP.test.:443", "[::1]:80", "a,b", "u@h", ""} {
		for _, p := range []string{"/", "/a/../b?c", "/%2e%2E/;x\\y//z", "/%252e", "/%C3%A9", "*", "/%00"} {
			f.Add(s, p)
		}
	}
	f.Fuzz(func(t *testing.T, authority, target string) {
		r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: authority, Target: target})
		if r == nil {
			t.Fatal("no request")
		}
		if err != nil {
			return
		}
		again := authz.Raw{Method: "GET", Authority: r.Host, Target: r.Path + "?" + r.RawQuery}
		if r.Port != "" {
			again.Authority += ":" + r.Port
		}
		q, err := authz.NewRequest(again)
		if err != nil || q.Host != r.Host || q.Port != r.Port || q.Path != r.Path || q.RawQuery != r.RawQuery {
			t.Errorf("canonical form of %q %q is not stable: %+v, %v", authority, target, q, err)
		}
		for _, c := range []byte(r.Host + r.Path + r.RawQuery) {
			if c <= ' ' || c > '~' {
				t.Errorf("%q %q lets byte %#x through", authority, target, c)
			}
		}
		if r.Host != strings.ToLower(r.Host) || strings.ContainsAny(r.Host, ",@/?#\\ ") {
			t.Errorf("host %q is not canonical", r.Host)
		}
	})
}
