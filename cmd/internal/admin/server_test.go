package admin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
)

// services asks reflection which services there are.
func services(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		return nil, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names, stream.CloseSend()
}

func TestReflectionAndHealth(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{})
	names, err := services(t.Context(), conn)
	if err != nil || !slices.Contains(names, "gatehouse.admin.v1.Sessions") {
		t.Errorf("reflection = %q, %v", names, err)
	}
	r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "gatehouse.admin.v1.Sessions"})
	if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health = %v, %v", r, err)
	}
	o.log.last(t, 2) // both are calls, too
}

// The token guards everything that is served, and is asked for at every call.
func TestToken(t *testing.T) {
	t.Parallel()
	first, second := strings.Repeat("first-", 6), strings.Repeat("second", 6)
	var token atomic.Value
	token.Store(first)
	var broken atomic.Bool
	o, address := onTCP(t, admin.Config{Token: func() (string, error) {
		if broken.Load() {
			return "", errors.New("open /secrets/token: no such file")
		}
		return token.Load().(string), nil
	}})
	conn := dial(t, address, insecure.NewCredentials())
	client := adminv1.NewSessionsClient(conn)
	call := func(values ...string) codes.Code {
		t.Helper()
		ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"authorization": values})
		_, err := client.List(ctx, &adminv1.ListRequest{User: at("corp", "alice")})
		_, err2 := services(ctx, conn)
		_, err3 := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if status.Code(err) != status.Code(err2) || status.Code(err) != status.Code(err3) {
			t.Errorf("%q: sessions %v, reflection %v, health %v", values, err, err2, err3)
		}
		return status.Code(err)
	}
	for _, c := range []struct {
		name   string
		values []string
		want   codes.Code
	}{
		{"none", nil, codes.Unauthenticated},
		{"right", []string{"Bearer " + first}, codes.OK},
		{"scheme in lower case", []string{"bearer " + first}, codes.OK},
		{"no scheme", []string{first}, codes.Unauthenticated},
		{"another scheme", []string{"Basic " + first}, codes.Unauthenticated},
		{"twice", []string{"Bearer " + first, "Bearer " + first}, codes.Unauthenticated},
		{"a part", []string{"Bearer " + first[:20]}, codes.Unauthenticated},
		{"too long", []string{"Bearer " + first + "x"}, codes.Unauthenticated},
		{"two spaces", []string{"Bearer  " + first}, codes.Unauthenticated},
		{"empty", []string{"Bearer "}, codes.Unauthenticated},
		{"the next one", []string{"Bearer " + second}, codes.Unauthenticated},
	} {
		if got := call(c.values...); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	token.Store(second)
	if old, now := call("Bearer "+first), call("Bearer "+second); old != codes.Unauthenticated || now != codes.OK {
		t.Errorf("after the file changed: old token %v, new one %v", old, now)
	}
	token.Store("")
	if got := call("Bearer "); got != codes.Unavailable {
		t.Errorf("an empty token, when the file is empty: %v", got)
	}
	broken.Store(true)
	if got := call("Bearer " + second); got != codes.Unavailable {
		t.Errorf("while the file cannot be read: %v, want that nobody may call", got)
	}
	if line := o.log.last(t, 1); line["caller"] != "token" || line["outcome"] != "Unauthenticated" || !strings.HasPrefix(line["address"].(string), "127.0.0.1:") {
		t.Errorf("the log says %v", line)
	}
	for _, secret := range []string{first, second} { // V2
		if strings.Contains(o.log.String(), secret) {
			t.Error("the token is in the log")
		}
	}
}

// What is not there is asked for with a token, too, and leaves a line.
func TestUnknownMethod(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("token-", 6)
	o, address := onTCP(t, admin.Config{Token: func() (string, error) { return token, nil }})
	conn := dial(t, address, insecure.NewCredentials())
	calls := 0
	for _, method := range []string{"/gatehouse.admin.v1.Sessions/EndEverything", "/gatehouse.admin.v1.Keys/List"} {
		for value, want := range map[string]codes.Code{"": codes.Unauthenticated, "Bearer " + token: codes.Unimplemented} {
			ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"authorization": {value}})
			err := conn.Invoke(ctx, method, &adminv1.ListRequest{}, &adminv1.ListResponse{})
			if status.Code(err) != want {
				t.Errorf("%s: %v, want %v", method, err, want)
			}
			calls++
			if line := o.log.last(t, calls); line["method"] != method || line["outcome"] != want.String() {
				t.Errorf("the log says %v", line)
			}
		}
	}
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]bool{
		strings.Repeat("a", 32): true, strings.Repeat("a", 31): false, "": false,
		strings.Repeat("a", 32) + " b": false, strings.Repeat("ä", 32): false,
	} {
		if err := admin.CheckToken(token); (err == nil) != want || err != nil && token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("CheckToken(%q) = %v", token, err)
		}
	}
}

// Who shows a certificate is named in the log by it; who shows none reaches nothing.
func TestCertificates(t *testing.T) {
	t.Parallel()
	server, roots := certificate(t, "gatehouse", "")
	for _, c := range []struct{ id, want string }{
		{"spiffe://mesh/ns/ops/sa/oncall", "spiffe://mesh/ns/ops/sa/oncall"},
		{"", "certificate CN=oncall"},
	} {
		operator, authorities := certificate(t, "oncall", c.id)
		o, address := onTCP(t, admin.Config{TLS: &tls.Config{
			Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities, MinVersion: tls.VersionTLS12,
		}})
		call := func(certs ...tls.Certificate) error {
			conn := dial(t, address, credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "gatehouse", Certificates: certs}))
			_, err := adminv1.NewSessionsClient(conn).List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")})
			return err
		}
		if err := call(operator); err != nil {
			t.Errorf("with a certificate: %v", err)
		}
		if line := o.log.last(t, 1); line["caller"] != c.want {
			t.Errorf("the log says %v, want caller %q", line, c.want)
		}
		stranger, _ := certificate(t, "oncall", c.id) // the right name, by nobody's authority
		if err := call(stranger); err == nil {
			t.Error("a stranger's certificate was accepted")
		}
		if err := call(); err == nil {
			t.Error("no certificate was needed")
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]admin.Config{
		"no log":     {Current: func() admin.Current { return admin.Current{} }},
		"no current": {Log: slog.New(slog.DiscardHandler)},
	} {
		if _, err := admin.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
