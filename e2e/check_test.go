package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// checks asks one replica directly, as Envoy would. Safe for concurrent use.
type checks struct {
	conn   *grpc.ClientConn
	client authv3.AuthorizationClient
}

// newChecks connects to a Check port; without creds in plain text.
func newChecks(t testing.TB, port int, creds credentials.TransportCredentials) *checks {
	t.Helper()
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient("passthrough:///"+addr(port), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &checks{conn: conn, client: authv3.NewAuthorizationClient(conn)}
}

// verdict is what a Check said.
type verdict struct {
	Status int         // of a denial; 0: the request passes
	Header http.Header // of a denial, or what the application would receive
	Body   string
	Err    error // the Check itself failed, which it never should
}

// outcome is what a verdict means to a person.
type outcome string

const (
	allowed   outcome = "allowed"
	refused   outcome = "refused"    // 503: come back later
	signedOut outcome = "signed out" // sent to sign in, or the cookie cleared
	failed    outcome = "failed"     // everything else
)

func (v verdict) outcome() outcome {
	for _, line := range v.Header["Set-Cookie"] {
		if strings.HasPrefix(line, "__Host-gh_") && strings.Contains(line, "=;") {
			return signedOut
		}
	}
	switch {
	case v.Err != nil:
		return failed
	case v.Status == 0:
		return allowed
	case v.Status == http.StatusServiceUnavailable:
		return refused
	case v.Status == http.StatusUnauthorized, v.Status == http.StatusFound, v.Status == http.StatusSeeOther:
		return signedOut
	}
	return failed
}

// user is whom the application would see.
func (v verdict) user() string { return v.Header.Get("x-auth-request-user") }

func (v verdict) String() string {
	if v.Err != nil {
		return v.Err.Error()
	}
	return fmt.Sprintf("%d %v %.200q", v.Status, v.Header, v.Body)
}

// get asks about a GET with these header lines ("name: value").
func (c *checks) get(ctx context.Context, host, path string, lines ...string) verdict {
	return c.check(ctx, http.MethodGet, host, path, lines...)
}

func (c *checks) check(ctx context.Context, method, host, path string, lines ...string) verdict {
	v := c.ask(ctx, method, host, path, lines)
	noteCookies(v.Header)
	noteURL(v.Header.Get("location"))
	return v
}

// unnoted is get for answers so many that their secrets cannot all be remembered.
func (c *checks) unnoted(ctx context.Context, host, path string, lines ...string) verdict {
	return c.ask(ctx, http.MethodGet, host, path, lines)
}

func (c *checks) ask(ctx context.Context, method, host, path string, lines []string) verdict {
	headers := []*corev3.HeaderValue{header(":method", method), header(":authority", host), header(":path", path), header(":scheme", "http")}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		headers = append(headers, header(name, value))
	}
	out, err := c.client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer(), Destination: peer(),
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Host: host, Path: path, Scheme: "http", Protocol: "HTTP/1.1", HeaderMap: &corev3.HeaderMap{Headers: headers},
		}},
	}})
	if err != nil {
		return verdict{Err: err}
	}
	return read(out)
}

func header(name, value string) *corev3.HeaderValue {
	return &corev3.HeaderValue{Key: name, RawValue: []byte(value)}
}

func peer() *authv3.AttributeContext_Peer {
	return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1},
	}}}}
}

// read turns an answer into a verdict, the way Envoy does it: the code of status decides.
func read(out *authv3.CheckResponse) verdict {
	v := verdict{Header: http.Header{}}
	options := out.GetOkResponse().GetHeaders()
	if out.GetStatus().GetCode() != 0 {
		denied := out.GetDeniedResponse()
		if v.Status = int(denied.GetStatus().GetCode()); v.Status == 0 {
			v.Status = http.StatusForbidden
		}
		v.Body, options = denied.GetBody(), denied.GetHeaders()
	}
	for _, o := range options {
		v.Header.Add(o.GetHeader().GetKey(), o.GetHeader().GetValue())
	}
	return v
}

// repeat asks again and again, one every pause, until ctx ends or each says stop.
func (c *checks) repeat(ctx context.Context, pause time.Duration, host, path string, lines []string, each func(sent time.Time, v verdict) bool) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		sent := time.Now()
		v := c.get(ctx, host, path, lines...)
		if ctx.Err() != nil && v.Err != nil { // the end of the test, not of the Check
			return
		}
		if !each(sent, v) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A Check over gRPC says the same as the request through Envoy.
func TestChecksHarness(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 2})
	cookie := "cookie: " + s.session(t, appHost, "alice")
	for i, g := range s.replicas {
		if v := g.checks.get(t.Context(), appHost, "/direct", cookie); v.outcome() != allowed || v.user() != "alice" {
			t.Errorf("replica %d: %v, want alice allowed", i, v)
		}
		if v := g.checks.get(t.Context(), appHost, "/direct"); v.Status != http.StatusUnauthorized || v.outcome() != signedOut {
			t.Errorf("replica %d without a cookie: %v, want 401", i, v)
		}
		if v := g.checks.get(t.Context(), appHost, "/direct", navigation...); v.Status != http.StatusFound || v.Header.Get("location") == "" {
			t.Errorf("replica %d, navigation without a cookie: %v, want 302", i, v)
		}
		if v := g.checks.get(t.Context(), "other.test", "/direct"); v.Status != http.StatusForbidden {
			t.Errorf("replica %d, no rule: %v, want 403", i, v)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	s.replicas[1].checks.repeat(ctx, time.Millisecond, appHost, "/direct", []string{cookie}, func(_ time.Time, v verdict) bool {
		if n++; n == 3 {
			cancel()
		}
		return v.outcome() == allowed
	})
	if n < 3 || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("%d Checks were repeated, want to be stopped after 3", n)
	}
}
