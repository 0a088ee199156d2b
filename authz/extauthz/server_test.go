package extauthz_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

const authorization = "envoy.service.auth.v3.Authorization"

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	current := func() *authz.Authorizer { return nil }
	ids := []string{"spiffe://cluster.local/ns/a/sa/b"}
	mtls := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	tests := []struct {
		name string
		cfg  extauthz.Config
		want string
	}{
		{"no authorizer", extauthz.Config{}, "Current"},
		{"negative timeout", extauthz.Config{Current: current, Timeout: -1}, "Timeout"},
		{"timeout beyond the grace of a connection", extauthz.Config{Current: current, Timeout: time.Minute}, "Timeout"},
		{"negative limit", extauthz.Config{Current: current, MaxInFlight: -1}, "MaxInFlight"},
		{"client ids in plain text", extauthz.Config{Current: current, ClientIDs: ids}, "TLS"},
		{"client ids without client certificates", extauthz.Config{Current: current, ClientIDs: ids, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, "client certificates"},
		{"client certificates that nobody verifies", extauthz.Config{Current: current, ClientIDs: ids, TLS: &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}}, "client certificates"},
		{"id without scheme", extauthz.Config{Current: current, ClientIDs: []string{"cluster.local/ns/a/sa/b"}, TLS: mtls}, `"cluster.local/ns/a/sa/b"`},
		{"id with a wildcard", extauthz.Config{Current: current, ClientIDs: []string{"spiffe://cluster.local/*"}, TLS: mtls}, `"spiffe://cluster.local/*"`},
		{"empty id", extauthz.Config{Current: current, ClientIDs: []string{""}, TLS: mtls}, `""`},
	}
	for _, test := range tests {
		if _, err := extauthz.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: New = %v, want an error that names %s", test.name, err, test.want)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	for _, service := range []string{"", authorization} {
		out, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || out.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q = %v, %v, want SERVING", service, out, err)
		}
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("health of another service = %v, want NotFound", err)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil), Reflection: on}))
		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		out, err := stream.Recv()
		if found := strings.Contains(fmt.Sprint(out), authorization); found != on || (status.Code(err) == codes.Unimplemented) == on {
			t.Errorf("Reflection %v: found %v, error %v", on, found, err)
		}
		_ = stream.CloseSend()
		for err == nil {
			_, err = stream.Recv()
		}
	}
}

// A method path without its slash must not slip past anything (S17, grpc-go CVE-2026-33186).
func TestUnknownMethods(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	for _, method := range []string{authorization + "/Check", "/" + authorization + "/check", "/envoy.service.auth.v2.Authorization/Check", "//" + authorization + "/Check"} {
		if err := conn.Invoke(t.Context(), method, request("/public/a"), new(authv3.CheckResponse)); status.Code(err) != codes.Unimplemented {
			t.Errorf("%q = %v, want Unimplemented", method, err)
		}
	}
}

func TestMessageTooLarge(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	in := request("/public/a", "x-large: "+strings.Repeat("a", 2<<20))
	if _, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), in); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 2 MiB = %v, want ResourceExhausted", err)
	}
	check(t, conn, request("/public/a", "x-large: "+strings.Repeat("a", 64<<10)))
}

// TestDrain has a Check in flight, a watcher of the health service, and a client
// that goes on asking while Envoy has yet to notice.
func TestDrain(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	wait := func(context.Context, *authz.Request) (*authz.Identity, error) {
		close(entered)
		<-release
		return alice, nil
	}
	a := authorizer(t, &sessions{t: t, authenticate: wait}, nil)
	s := newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return a }, Timeout: 20 * time.Second})
	conn := start(t, s)
	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantWatched(t, watch, healthpb.HealthCheckResponse_SERVING)
	inFlight := make(chan *authv3.CheckResponse, 1)
	go func() {
		out, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), request("/a", session))
		if err != nil {
			t.Errorf("the Check in flight: %v", err)
		}
		inFlight <- out
	}()
	<-entered

	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context(), 300*time.Millisecond) }()
	wantWatched(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
	if out := check(t, conn, request("/public/a")); out.GetOkResponse() == nil {
		t.Errorf("Check during the pause = %v, want an allow", out)
	}
	for err == nil { // the stream has to end, or it would hold up the rest
		_, err = watch.Recv()
	}
	select {
	case err := <-drained:
		t.Fatalf("Drain = %v with a Check in flight", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if out := <-inFlight; out.GetOkResponse() == nil {
		t.Errorf("the Check in flight = %v, want an allow", out)
	}
	if err := <-drained; err != nil {
		t.Errorf("Drain = %v", err)
	}
	if err := s.Drain(t.Context(), time.Hour); err != nil {
		t.Errorf("second Drain = %v", err)
	}
}

func wantWatched(t *testing.T, watch grpc.ServerStreamingClient[healthpb.HealthCheckResponse], want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	if out, err := watch.Recv(); err != nil || out.GetStatus() != want {
		t.Fatalf("Watch = %v, %v, want %v", out, err, want)
	}
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	entered, left := make(chan struct{}), make(chan struct{})
	wait := func(ctx context.Context, _ *authz.Request) (*authz.Identity, error) {
		defer close(left)
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a := authorizer(t, &sessions{t: t, authenticate: wait}, nil)
	s := newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return a }, Timeout: 2 * time.Second})
	conn := start(t, s)
	torn := make(chan error, 1)
	go func() {
		_, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), request("/a", session))
		torn <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := s.Drain(ctx, time.Hour); err == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("Drain = %v after %v, want an error within the context", err, time.Since(begin))
	}
	if err := <-torn; status.Code(err) != codes.Unavailable {
		t.Errorf("the Check in flight = %v, want Unavailable", err)
	}
	<-left
}

// A connection that never finishes its handshake, and one that says nothing
// sensible, keep nobody else from being served.
func TestServeBadConnections(t *testing.T) {
	t.Parallel()
	s := newServer(t, extauthz.Config{Current: fixed(t, nil)})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	var bad []net.Conn
	for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 100)} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, c)
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if out := check(t, conn, request("/public/a")); out.GetOkResponse() == nil {
		t.Errorf("Check = %v, want an allow", out)
	}
	for _, c := range bad {
		_ = c.Close()
	}
	s.Stop()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
