package extauthz_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

func TestMain(m *testing.M) { os.Exit(goleakMain(m)) }

func goleakMain(m *testing.M) int {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

const (
	cookieName = authz.CookiePrefix + "corp"
	good       = "opens"
)

// sessions recognises one cookie, as a login flow does, without cryptography.
type sessions struct {
	t *testing.T
	// authenticate, when set, is asked instead.
	authenticate func(context.Context, *authz.Request) (*authz.Identity, error)
}

var alice = &authz.Identity{
	Provider: "corp", Issuer: "https://idp.test", Subject: "alice", User: "alice",
	Email: "alice@good.test", EmailVerified: true, Groups: []string{"staff"}, Session: "s-7f3a",
}

func (s *sessions) Authenticate(ctx context.Context, r *authz.Request) (*authz.Identity, error) {
	if _, ok := ctx.Deadline(); !ok {
		s.t.Error("Authenticate was called without a deadline")
	}
	if s.authenticate != nil {
		return s.authenticate(ctx, r)
	}
	switch cookies := r.Header.Cookies(cookieName, 2); {
	case len(cookies) == 0:
		return nil, authz.ErrNoCredentials
	case cookies[0] == "cannot-tell":
		return nil, errors.New("store is down")
	case cookies[0] != good:
		return nil, authz.ErrBadCredentials
	}
	return alice, nil
}

func (*sessions) Challenge(*authz.Request, error) authz.Challenge {
	return authz.Challenge{Location: "/oauth2/start?rd=%2F", WWWAuthenticate: `Bearer realm="corp"`}
}

// authorizer has one anonymous and one signed-in rule on app.test, and an
// endpoint that answers whatever a test wants.
func authorizer(t testing.TB, login *sessions, change func(*authz.Config)) *authz.Authorizer {
	t.Helper()
	policy, err := authz.NewPolicy([]authz.Rule{
		{Name: "public", Hosts: []string{"app.test"}, Paths: []string{"/public/**"}, Anonymous: true},
		{
			Name: "app", Hosts: []string{"app.test"},
			Sources: []authz.Source{{Provider: "corp", Login: true, Authenticator: login}}, Require: authz.AnyUser(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := authz.Config{Policy: policy}
	if change != nil {
		change(&cfg)
	}
	a, err := authz.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func fixed(t testing.TB, change func(*authz.Config)) func() *authz.Authorizer {
	a := authorizer(t, &sessions{}, change)
	return func() *authz.Authorizer { return a }
}

func newServer(t testing.TB, cfg extauthz.Config) *extauthz.Server {
	t.Helper()
	s, err := extauthz.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// start serves s in memory until the test ends.
func start(t testing.TB, s *extauthz.Server, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	if len(opts) == 0 {
		opts = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:app", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return conn
}

// request is a browser's navigation; lines are "name: value".
func request(path string, lines ...string) *authv3.CheckRequest {
	headers := map[string]string{
		":authority": "app.test", ":method": "GET", ":path": path, ":scheme": "https",
		"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document",
		"x-request-id": "6f1c",
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		headers[name] = value
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7"}}},
		},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1234567", Method: "GET", Host: "app.test", Path: path, Scheme: "https", Protocol: "HTTP/2", Headers: headers,
		}},
	}}
}

// raw moves the headers into header_map, as encode_raw_headers does.
func raw(in *authv3.CheckRequest) *authv3.CheckRequest {
	h := in.GetAttributes().GetRequest().GetHttp()
	h.HeaderMap = &corev3.HeaderMap{}
	for _, name := range slices.Sorted(maps.Keys(h.GetHeaders())) {
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(h.GetHeaders()[name])})
	}
	h.Headers = nil
	return in
}

func check(t testing.TB, conn *grpc.ClientConn, in *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := authv3.NewAuthorizationClient(conn).Check(ctx, in)
	if err != nil {
		t.Fatalf("Check = %v, want an answer", err)
	}
	wellFormed(t, out)
	return out
}

// wellFormed checks what has to hold for every answer.
func wellFormed(t testing.TB, out *authv3.CheckResponse) {
	t.Helper()
	if out.GetStatus() == nil {
		t.Fatal("answer without a status: Envoy takes it for an allow")
	}
	if ok := out.GetOkResponse(); (ok != nil) != (codes.Code(out.GetStatus().GetCode()) == codes.OK) {
		t.Fatalf("code %d does not fit the kind of answer: %v", out.GetStatus().GetCode(), out)
	} else if ok != nil {
		wellFormedOK(t, ok)
		return
	}
	denied := out.GetDeniedResponse()
	if status := int(denied.GetStatus().GetCode()); !slices.Contains([]int{200, 302, 303}, status) && (status < 400 || status > 599) {
		t.Fatalf("denied with status %d", status)
	}
	if got := values(denied.GetHeaders(), "cache-control"); len(got) != 1 || got[0] != "no-store" {
		t.Errorf("cache-control = %q, want no-store", got)
	}
	lines(t, denied.GetHeaders())
}

func wellFormedOK(t testing.TB, ok *authv3.OkHttpResponse) {
	t.Helper()
	if len(ok.GetQueryParametersToSet())+len(ok.GetQueryParametersToRemove())+len(ok.GetResponseHeadersToAdd()) > 0 {
		t.Errorf("an allow touches the query or the response: %v", ok)
	}
	lines(t, ok.GetHeaders())
	seen := map[string]bool{}
	for _, o := range ok.GetHeaders() {
		name := o.GetHeader().GetKey()
		if o.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD || seen[name] {
			t.Errorf("%s: append_action %v, set twice: %v", name, o.GetAppendAction(), seen[name])
		}
		if o.GetHeader().GetValue() == "" {
			t.Errorf("%s is set to an empty value", name)
		}
		seen[name] = true
	}
	for _, name := range ok.GetHeadersToRemove() {
		if seen[name] {
			t.Errorf("%s is both set and removed: Envoy removes last", name)
		}
		if !authz.ValidName(name) {
			t.Errorf("removes %q", name)
		}
	}
	for _, name := range []string{"x-auth-request-user", "x-auth-request-email", "x-auth-request-groups", "x-auth-request-access-token", "x-forwarded-user"} {
		if !seen[name] && !slices.Contains(ok.GetHeadersToRemove(), name) {
			t.Errorf("%s is neither set nor removed", name)
		}
	}
}

func lines(t testing.TB, options []*corev3.HeaderValueOption) {
	t.Helper()
	for _, o := range options {
		//lint:ignore SA1019 the deprecated field has to stay unset
		if o.GetAppend() != nil { //nolint:staticcheck // the linters want an excuse each
			t.Errorf("%s: append is set", o.GetHeader().GetKey())
		}
		if len(o.GetHeader().GetRawValue()) > 0 {
			t.Errorf("%s: raw_value is ignored by Envoy", o.GetHeader().GetKey())
		}
		if f := (authz.Field{Name: o.GetHeader().GetKey(), Value: o.GetHeader().GetValue()}); !f.Valid() {
			t.Errorf("line %q must not leave", f)
		}
	}
}

func values(options []*corev3.HeaderValueOption, name string) (got []string) {
	for _, o := range options {
		if o.GetHeader().GetKey() == name {
			got = append(got, o.GetHeader().GetValue())
		}
	}
	return got
}

func httpStatus(out *authv3.CheckResponse) int {
	if out.GetOkResponse() != nil {
		return 0
	}
	return int(out.GetDeniedResponse().GetStatus().GetCode())
}

func metadataText(out *authv3.CheckResponse, key string) string {
	return out.GetDynamicMetadata().GetFields()[key].GetStringValue()
}
