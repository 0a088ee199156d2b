package extauthz_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

const session = "cookie: " + cookieName + "=" + good

func with(in *authv3.CheckRequest, change func(*authv3.AttributeContext_HttpRequest)) *authv3.CheckRequest {
	change(in.GetAttributes().GetRequest().GetHttp())
	return in
}

func TestCheck(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	type httpRequest = authv3.AttributeContext_HttpRequest
	tests := []struct {
		name   string
		in     *authv3.CheckRequest
		code   codes.Code
		status int // 0: allowed
		reason string
	}{
		{"anonymous", request("/public/a"), codes.OK, 0, authz.ReasonAnonymous},
		{"signed in", request("/a?b=c", session), codes.OK, 0, authz.ReasonAllowed},
		{"navigation without a session", request("/a"), codes.Unauthenticated, 302, authz.ReasonNoCredentials},
		{"fetch without a session", request("/a", "sec-fetch-mode: cors", "sec-fetch-dest: empty"), codes.Unauthenticated, 401, authz.ReasonNoCredentials},
		{"gRPC without a session (S15)", request("/a", "content-type: application/grpc"), codes.Unauthenticated, 401, authz.ReasonNoCredentials},
		{"WebSocket without a session (S15)", request("/a", "upgrade: websocket", "connection: Upgrade"), codes.Unauthenticated, 401, authz.ReasonNoCredentials},
		{"junk cookie", request("/a", "cookie: "+cookieName+"=junk"), codes.Unauthenticated, 302, authz.ReasonBadCredentials},
		{"store is down", request("/a", "cookie: "+cookieName+"=cannot-tell"), codes.Unavailable, 503, authz.ReasonUnavailable},
		{"unknown host (H5)", with(request("/a", session), func(h *httpRequest) { h.Host = "other.test" }), codes.PermissionDenied, 403, authz.ReasonNoRule},
		{"two hosts", with(request("/a", session), func(h *httpRequest) { h.Host = "app.test,app.test" }), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"user in host (H3)", with(request("/a", session), func(h *httpRequest) { h.Host = "user:pw@app.test" }), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"no host", with(request("/a", session), func(h *httpRequest) { h.Host = "" }), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"no method", with(request("/a", session), func(h *httpRequest) { h.Method = "" }), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"CONNECT", with(request("", session), func(h *httpRequest) { h.Method = "CONNECT"; h.Host = "app.test:443" }), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"fragment (P2)", request("/public/a#/", session), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"NUL in path (P8)", request("/public/a%00b"), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"path is not ASCII", request("/public/é"), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"readings disagree (P3)", request("/public/..%2fadmin"), codes.PermissionDenied, 400, authz.ReasonAmbiguousPath},
		{"64 KiB cookie (S10)", request("/a", "cookie: "+strings.Repeat("a", 64<<10)), codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"cookies at the limit (S10)", request("/a", "cookie: "+strings.Repeat("a=b; ", 10<<10)), codes.Unauthenticated, 302, authz.ReasonNoCredentials},
		{"method and path of the headers do not count", request("/a", ":path: /public/", ":authority: x"), codes.Unauthenticated, 302, authz.ReasonNoCredentials},
		{"path override (P12)", request("/a", "x-original-url: /public/a", "x-envoy-original-path: /public/a", "x-forwarded-uri: /public/a"), codes.Unauthenticated, 302, authz.ReasonNoCredentials},
		{"policy from the client (S16)", request("/a", "x-ext-authz-policy: public"), codes.Unauthenticated, 302, authz.ReasonNoCredentials},
		{"health-check user agent (S13)", request("/a", "user-agent: kube-probe/1.30"), codes.Unauthenticated, 302, authz.ReasonNoCredentials},
		{"empty message (N6)", &authv3.CheckRequest{}, codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"no request (N6)", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{}}, codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"no http: a TCP check (N6)", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}}, codes.PermissionDenied, 400, authz.ReasonMalformed},
		{"no headers (N6)", with(request("/a"), func(h *httpRequest) { h.Headers = nil }), codes.Unauthenticated, 401, authz.ReasonNoCredentials},
	}
	for _, test := range tests {
		for _, form := range []string{"headers", "header_map"} {
			t.Run(test.name+"/"+form, func(t *testing.T) {
				t.Parallel()
				in := test.in
				if form == "header_map" && in.GetAttributes().GetRequest().GetHttp() != nil {
					in = raw(proto.Clone(in).(*authv3.CheckRequest))
				}
				out := check(t, conn, in)
				if got := codes.Code(out.GetStatus().GetCode()); got != test.code || httpStatus(out) != test.status {
					t.Errorf("Check = %v and HTTP %d, want %v and %d", got, httpStatus(out), test.code, test.status)
				}
				if got := metadataText(out, "reason"); got != test.reason {
					t.Errorf("reason = %q, want %q", got, test.reason)
				}
			})
		}
	}
}

func TestCheckAllowSetsTheIdentity(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	spoofed := []string{
		"x-auth-request-user: root", "X-Auth-Request-Email: root@good.test", "x_auth_request_user: root",
		"x.auth.request.groups: admins", "x-auth-request-anything: root", "x-forwarded-access-token: t",
	}
	out := check(t, conn, raw(request("/a", append(spoofed, session+"; theme=dark")...))).GetOkResponse()
	for name, want := range map[string]string{"x-auth-request-user": "alice", "x-auth-request-email": "alice@good.test", "x-auth-request-groups": "staff", "cookie": "theme=dark"} {
		if got := values(out.GetHeaders(), name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"x_auth_request_user", "x.auth.request.groups", "x-auth-request-anything", "x-auth-request-preferred-username", "x-forwarded-access-token", "x-forwarded-user"} {
		if !slices.Contains(out.GetHeadersToRemove(), name) {
			t.Errorf("%s is not removed: %q", name, out.GetHeadersToRemove())
		}
	}
}

func TestCheckDynamicMetadata(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	got := map[string]string{}
	for key, v := range check(t, conn, request("/a", session)).GetDynamicMetadata().GetFields() {
		got[key] = v.GetStringValue()
	}
	want := map[string]string{"rule": "app", "reason": authz.ReasonAllowed, "request_id": "6f1c", "subject": "alice", "provider": "corp", "session": "s-7f3a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dynamic metadata of an allow (-want +got):\n%s", diff)
	}
	if denied := check(t, conn, request("/a")); metadataText(denied, "rule") != "app" || metadataText(denied, "request_id") != "6f1c" {
		t.Errorf("dynamic metadata of a denial = %v, want rule and request id", denied.GetDynamicMetadata())
	}
}

func TestCheckFormsAgree(t *testing.T) {
	t.Parallel()
	s := newServer(t, extauthz.Config{Current: fixed(t, nil)})
	for _, in := range []*authv3.CheckRequest{
		request("/a", session+"; a=b", "x_auth_request_user: root"), request("/public/x", "X-Forwarded-User: root"),
		request("/a"), request("/a", "cookie: \x00"), request("/a", "authorization: Bearer a,b"),
	} {
		a, _ := s.Check(t.Context(), proto.Clone(in).(*authv3.CheckRequest))
		b, _ := s.Check(t.Context(), raw(proto.Clone(in).(*authv3.CheckRequest)))
		sorted := protocmp.SortRepeated(func(x, y string) bool { return x < y })
		if diff := cmp.Diff(a, b, protocmp.Transform(), sorted); diff != "" {
			t.Errorf("headers and header_map disagree on %v (-headers +header_map):\n%s", in, diff)
		}
	}
}

// Two Authorization lines arrive joined from Envoy, and apart from others (S7).
func TestCheckBothForms(t *testing.T) {
	t.Parallel()
	s := newServer(t, extauthz.Config{Current: fixed(t, nil)})
	in := request("/a", "x_auth_request_user: root", session)
	in.GetAttributes().GetRequest().GetHttp().HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		nil, {}, {Key: "X.Auth.Request.User", Value: "root"}, {Key: ":path", Value: "/public/a"},
	}}
	out, _ := s.Check(t.Context(), in)
	for _, name := range []string{"x_auth_request_user", "x.auth.request.user"} {
		if !slices.Contains(out.GetOkResponse().GetHeadersToRemove(), name) {
			t.Errorf("%s is not removed: %v", name, out)
		}
	}
}

// Envoy writes "!" into http.path for a byte that is not UTF-8 (P8).
func TestCheckSeesRawPath(t *testing.T) {
	t.Parallel()
	s := newServer(t, extauthz.Config{Current: fixed(t, nil)})
	in := raw(request("/public/a!", ":path: /public/a\xff"))
	if out, _ := s.Check(t.Context(), in); httpStatus(out) != 400 {
		t.Errorf("path with a byte that is not UTF-8: %v, want 400", out)
	}
}

func TestCheckReadsThePeer(t *testing.T) {
	t.Parallel()
	socket := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "2001:db8::1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 9}}}}
	pipe := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/envoy.sock"}}}
	internal := &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "main"},
	}}}
	tests := []struct {
		name string
		peer *authv3.AttributeContext_Peer
		want authz.Peer
	}{
		{"nothing", nil, authz.Peer{}},
		{"no address", &authv3.AttributeContext_Peer{}, authz.Peer{}},
		{"empty address", &authv3.AttributeContext_Peer{Address: &corev3.Address{}}, authz.Peer{}},
		{"empty socket address", &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{}}}, authz.Peer{}},
		{"empty pipe", &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_Pipe{}}}, authz.Peer{Address: "unix:", Client: "unix:"}},
		{"socket", &authv3.AttributeContext_Peer{Address: socket}, authz.Peer{Address: "2001:db8::1", Client: "2001:db8::1"}},
		{"pipe", &authv3.AttributeContext_Peer{Address: pipe}, authz.Peer{Address: "unix:/run/envoy.sock", Client: "unix:/run/envoy.sock"}},
		{"waypoint", &authv3.AttributeContext_Peer{Address: internal}, authz.Peer{Address: "envoy-internal:main", Client: "envoy-internal:main"}},
		{"SPIFFE ID", &authv3.AttributeContext_Peer{Principal: "spiffe://cluster.local/ns/a/sa/b"}, authz.Peer{Principal: "spiffe://cluster.local/ns/a/sa/b"}},
		{"a subject is no SPIFFE ID", &authv3.AttributeContext_Peer{Principal: "CN=spiffe://x,O=o"}, authz.Peer{}},
	}
	for _, test := range tests {
		var got authz.Peer
		s := newServer(t, extauthz.Config{Current: fixed(t, func(cfg *authz.Config) {
			cfg.Observe = func(r *authz.Request, _ *authz.Decision, _ time.Duration) { got = r.Peer }
		})})
		in := request("/public/a")
		in.Attributes.Source = test.peer
		if out, _ := s.Check(t.Context(), in); out.GetOkResponse() == nil || got != test.want {
			t.Errorf("%s: Peer = %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestCheckRequestID(t *testing.T) {
	t.Parallel()
	withID := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", "from-metadata"))
	without := request("/public/a")
	delete(without.GetAttributes().GetRequest().GetHttp().GetHeaders(), "x-request-id")
	tests := []struct {
		name string
		ctx  context.Context
		in   *authv3.CheckRequest
		want string
	}{
		{"header first", withID, request("/public/a"), "6f1c"},
		{"then metadata", withID, without, "from-metadata"},
		{"then the stream", t.Context(), without, "1234567"},
	}
	s := newServer(t, extauthz.Config{Current: fixed(t, nil)})
	for _, test := range tests {
		if out, _ := s.Check(test.ctx, test.in); metadataText(out, "request_id") != test.want {
			t.Errorf("%s: request_id = %q, want %q", test.name, metadataText(out, "request_id"), test.want)
		}
	}
}

// wire sends bytes as they are.
type wire struct{}

func (wire) Name() string                  { return "proto" }
func (wire) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (wire) Unmarshal(data []byte, v any) error {
	return proto.Unmarshal(data, v.(proto.Message))
}

// TestCheckWire S11: what does not decode is denied, not an RPC error.
func TestCheckWire(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil)}))
	valid, err := proto.Marshal(request("/public/MARK"))
	if err != nil {
		t.Fatal(err)
	}
	badCookie, err := proto.Marshal(raw(request("/a", "cookie: \xff="+"\xfe; a=b")))
	if err != nil {
		t.Fatal(err)
	}
	mixed, err := proto.Marshal(raw(request("/a", session+"; x=\xff; y=z")))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		data   []byte
		status int
	}{
		{"valid", valid, 0},
		{"nothing", nil, 400},
		{"text that is not UTF-8", []byte(strings.Replace(string(valid), "MARK", "M\xffRK", 1)), 400},
		{"cut off", valid[:len(valid)-1], 400},
		{"not protobuf", []byte("GET / HTTP/1.1\r\n\r\n"), 400},
		{"unknown field", append(slices.Clone(valid), 0x98, 0x06, 0x01), 0},
		{"raw cookie that is not UTF-8", badCookie, 302},
		{"raw foreign cookie beside a good one", mixed, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := new(authv3.CheckResponse)
			if err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, test.data, out, grpc.ForceCodec(wire{})); err != nil {
				t.Fatalf("Check = %v, want an answer", err)
			}
			wellFormed(t, out)
			if got := httpStatus(out); got != test.status {
				t.Errorf("Check = HTTP %d, want %d", got, test.status)
			}
		})
	}
}

func TestCheckAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer authz.Response
		status int
		code   codes.Code
	}{
		{"page", authz.Response{Status: 200, Body: []byte("hello")}, 200, codes.PermissionDenied},
		{"redirect", authz.Response{Status: 302, Header: []authz.Field{{Name: "location", Value: "/a"}}}, 302, codes.Unauthenticated},
		{"see other", authz.Response{Status: 303}, 303, codes.PermissionDenied},
		{"method not allowed", authz.Response{Status: 405}, 405, codes.PermissionDenied},
		{"too many", authz.Response{Status: 429}, 429, codes.Unavailable},
		{"bad gateway", authz.Response{Status: 502}, 502, codes.Unavailable},
		{"no status is no allow", authz.Response{}, 500, codes.Internal},
		{"100 would hang the client", authz.Response{Status: 100}, 500, codes.Internal},
		{"204", authz.Response{Status: 204}, 500, codes.Internal},
		{"304", authz.Response{Status: 304}, 500, codes.Internal},
		{"CR LF in Location (O5)", authz.Response{Status: 302, Header: []authz.Field{{Name: "location", Value: "/a\r\nset-cookie: a=b"}}}, 500, codes.Internal},
		{"NUL in a cookie", authz.Response{Status: 302, Header: []authz.Field{{Name: "set-cookie", Value: "a=\x00"}}}, 500, codes.Internal},
		{"name with a space", authz.Response{Status: 302, Header: []authz.Field{{Name: "x y", Value: "a"}}}, 500, codes.Internal},
		{"content-length", authz.Response{Status: 200, Header: []authz.Field{{Name: "content-length", Value: "1"}}, Body: []byte("hello")}, 500, codes.Internal},
		{"pseudo header", authz.Response{Status: 200, Header: []authz.Field{{Name: ":status", Value: "200"}}}, 500, codes.Internal},
		{"body that is not UTF-8", authz.Response{Status: 200, Body: []byte("a\xffb")}, 200, codes.PermissionDenied},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn := start(t, newServer(t, extauthz.Config{Current: fixed(t, func(cfg *authz.Config) {
				cfg.Endpoints = func(host, path string) authz.Endpoint {
					return func(context.Context, *authz.Request) authz.Response { return test.answer }
				}
			})}))
			out := check(t, conn, request("/oauth2/x"))
			if got := codes.Code(out.GetStatus().GetCode()); got != test.code || httpStatus(out) != test.status {
				t.Errorf("Check = %v and HTTP %d, want %v and %d", got, httpStatus(out), test.code, test.status)
			}
		})
	}
}

func TestCheckSeveralCookies(t *testing.T) {
	t.Parallel()
	s := newServer(t, extauthz.Config{Current: fixed(t, func(cfg *authz.Config) {
		cfg.Endpoints = func(string, string) authz.Endpoint {
			return func(context.Context, *authz.Request) authz.Response {
				return authz.Response{Status: 303, Header: []authz.Field{{Name: "set-cookie", Value: "a=1"}, {Name: "location", Value: "/"}, {Name: "set-cookie", Value: "b=2"}}}
			}
		}
	})})
	out, _ := s.Check(t.Context(), request("/oauth2/x"))
	headers := out.GetDeniedResponse().GetHeaders()
	if got := values(headers, "set-cookie"); !slices.Equal(got, []string{"a=1", "b=2"}) {
		t.Errorf("set-cookie = %q, want both", got)
	}
	for _, o := range headers {
		want := corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
		if o.GetHeader().GetKey() == "set-cookie" {
			want = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
		}
		if o.GetAppendAction() != want {
			t.Errorf("%s: append_action = %v, want %v", o.GetHeader().GetKey(), o.GetAppendAction(), want)
		}
	}
}
