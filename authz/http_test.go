package authz_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// echo answers with what an endpoint sees.
func echo(_ context.Context, r *authz.Request) authz.Response {
	return authz.Response{
		Status: http.StatusOK,
		Header: []authz.Field{{Name: "content-type", Value: "text/plain"}, {Name: "set-cookie", Value: "a=1"}, {Name: "set-cookie", Value: "b=2"}},
		Body:   []byte(r.Method + " " + r.Host + " " + r.Path + " " + r.RawQuery + " " + strings.Join(r.Header.Cookies("c", 9), ",")),
	}
}

func endpoints(e authz.Endpoint) func(string, string) authz.Endpoint {
	return func(host, path string) authz.Endpoint {
		if host == "app.test" && (path == "/oauth2/x" || strings.HasPrefix(path, "/oauth2/x/")) {
			return e
		}
		return nil
	}
}

func handler(t *testing.T, change func(*authz.Config)) (handler http.Handler) {
	t.Helper()
	policy, err := authz.NewPolicy([]authz.Rule{{Name: "all", Hosts: []string{"app.test"}, Anonymous: true}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := authz.Config{Policy: policy, Endpoints: endpoints(echo)}
	if change != nil {
		change(&cfg)
	}
	a, err := authz.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return authz.Handler(func() *authz.Authorizer { return a }, nil)
}

// exchange sends bytes as they are: a client of package net/http would clean them.
func exchange(t *testing.T, h http.Handler, text string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	out, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return out, string(body)
}

func TestHandler(t *testing.T) {
	t.Parallel()
	get := func(target string, lines ...string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: app.test\r\n" + strings.Join(append(lines, "", ""), "\r\n")
	}
	tests := []struct {
		name, text string
		status     int
		body       string // wanted whole; empty: any
	}{
		{"endpoint", get("/oauth2/x?a=b%20c&d"), 200, "GET app.test /oauth2/x a=b%20c&d "},
		{"raw text", get("/oauth2/x/%41?%41#"), 400, ""},
		{"nothing is decoded", get("/oauth2/x/%41;b?%41"), 200, "GET app.test /oauth2/x/%41;b %41 "},
		{"host with port, upper case, dot", "GET /oauth2/x HTTP/1.1\r\nHost: APP.Test.:8080\r\n\r\n", 200, "GET app.test /oauth2/x  "},
		{"every cookie line", get("/oauth2/x", "Cookie: c=1", "cookie: c=2; d=3"), 200, "GET app.test /oauth2/x  1,2"},
		{"post without reading", "POST /oauth2/x HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\na=b", 200, "POST app.test /oauth2/x  "},
		{"head", "HEAD /oauth2/x HTTP/1.1\r\nHost: app.test\r\n\r\n", 200, ""},
		{"no endpoint, though a rule allows it", get("/"), 404, ""},
		{"longer than an endpoint", get("/oauth2/xy"), 404, ""},
		{"unknown host (H5)", "GET /oauth2/x HTTP/1.1\r\nHost: other.test\r\n\r\n", 404, ""},
		{"forwarded host (H4)", "GET /oauth2/x HTTP/1.1\r\nHost: other.test\r\nX-Forwarded-Host: app.test\r\n\r\n", 404, ""},
		{"absolute form", get("http://app.test/oauth2/x"), 400, ""},
		{"two hosts in one", "GET /oauth2/x HTTP/1.1\r\nHost: app.test,app.test\r\n\r\n", 400, ""},
		{"empty host", "GET /oauth2/x HTTP/1.1\r\nHost:\r\n\r\n", 400, ""},
		{"NUL in path", get("/oauth2/x%00"), 400, ""},
		{"broken escape", get("/oauth2/x?a=1%"), 200, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, body := exchange(t, handler(t, nil), test.text)
			if out.StatusCode != test.status || test.body != "" && body != test.body {
				t.Errorf("%q = %d %q, want %d %q", test.text, out.StatusCode, body, test.status, test.body)
			}
			if got := out.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
				t.Errorf("Cache-Control = %q, want no-store", got)
			}
			if got := out.Header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options = %q, want nosniff", got)
			}
			if got := out.Header.Values("Set-Cookie"); test.status == 200 && len(got) != 2 {
				t.Errorf("Set-Cookie = %q, want two lines", got)
			}
			if strings.HasPrefix(test.text, "HEAD") && (body != "" || out.ContentLength == 0) {
				t.Errorf("HEAD = %q with length %d, want no body and the length of GET", body, out.ContentLength)
			}
		})
	}
}

func TestHandlerBadAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		e    authz.Endpoint
	}{
		{"panic (X10)", func(context.Context, *authz.Request) authz.Response { panic("boom") }},
		{"no status", func(context.Context, *authz.Request) authz.Response { return authz.Response{} }},
		{"status 100", func(context.Context, *authz.Request) authz.Response { return authz.Response{Status: 100} }},
		{"status 1000", func(context.Context, *authz.Request) authz.Response { return authz.Response{Status: 1000} }},
		{"CR LF in Location (O5)", func(context.Context, *authz.Request) authz.Response {
			return authz.Response{Status: 302, Header: []authz.Field{{Name: "location", Value: "/\r\nset-cookie: a=b"}}}
		}},
		{"content-length", func(context.Context, *authz.Request) authz.Response {
			return authz.Response{Status: 200, Header: []authz.Field{{Name: "content-length", Value: "3"}}, Body: []byte("hello")}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := handler(t, func(cfg *authz.Config) { cfg.Endpoints = endpoints(test.e) })
			out, _ := exchange(t, h, "GET /oauth2/x HTTP/1.1\r\nHost: app.test\r\n\r\n")
			if out.StatusCode != http.StatusInternalServerError || out.Header.Get("Set-Cookie") != "" || out.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("answer = %d %v, want a plain 500", out.StatusCode, out.Header)
			}
		})
	}
}

// A renderer or observer that panics leaves nobody to render that.
func TestHandlerPanicsOutsideEndpoints(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*authz.Config){
		"render": func(cfg *authz.Config) {
			cfg.Render = func(*authz.Request, authz.Problem) authz.Response { panic("boom") }
		},
		"observe": func(cfg *authz.Config) {
			cfg.Observe = func(*authz.Request, *authz.Decision, time.Duration) { panic("boom") }
		},
		"lookup": func(cfg *authz.Config) { cfg.Endpoints = func(string, string) authz.Endpoint { panic("boom") } },
	} {
		out, _ := exchange(t, handler(t, change), "GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n")
		if out.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: answer = %d, want 500", name, out.StatusCode)
		}
	}
}

func TestHandlerWithoutConfiguration(t *testing.T) {
	t.Parallel()
	out, _ := exchange(t, authz.Handler(func() *authz.Authorizer { return nil }, nil), "GET /oauth2/x HTTP/1.1\r\nHost: app.test\r\n\r\n")
	if out.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answer = %d, want 503", out.StatusCode)
	}
}

func TestHandlerObserves(t *testing.T) {
	t.Parallel()
	var reasons []string
	var peer authz.Peer
	h := handler(t, func(cfg *authz.Config) {
		cfg.Observe = func(r *authz.Request, d *authz.Decision, _ time.Duration) {
			reasons, peer = append(reasons, d.Reason), r.Peer
		}
	})
	for _, target := range []string{"/oauth2/x", "/other", "other"} {
		in := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://app.test/", nil)
		in.RequestURI, in.RemoteAddr = target, "[2001:db8::1]:9"
		h.ServeHTTP(httptest.NewRecorder(), in)
	}
	want := []string{authz.ReasonEndpoint, authz.ReasonNoRule, authz.ReasonMalformed}
	if strings.Join(reasons, " ") != strings.Join(want, " ") || peer.Client != "2001:db8::1" {
		t.Errorf("observed %q from %+v, want %q from 2001:db8::1", reasons, peer, want)
	}
}

// A code exchange must not be torn when the browser goes away.
func TestHandlerOutlivesTheClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	result := errors.New("not asked")
	h := handler(t, func(cfg *authz.Config) {
		cfg.Endpoints = endpoints(func(ctx context.Context, _ *authz.Request) authz.Response {
			cancel()
			result = ctx.Err()
			if _, ok := ctx.Deadline(); !ok {
				t.Error("an endpoint was called without a deadline")
			}
			return authz.Response{Status: http.StatusOK}
		})
	})
	in := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://app.test/", nil)
	in.RequestURI = "/oauth2/x"
	h.ServeHTTP(httptest.NewRecorder(), in)
	if result != nil {
		t.Errorf("the endpoint's context = %v, want it alive", result)
	}
}
