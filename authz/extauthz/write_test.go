package extauthz

import (
	"slices"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func line(name, value string) authz.Field { return authz.Field{Name: name, Value: value} }

// written is what Envoy decodes; nil where nothing may leave.
func written(t testing.TB, r *authz.Request, d *authz.Decision) (*authv3.CheckResponse, bool) {
	t.Helper()
	b, ok := write(nil, r, d)
	if !ok {
		return &authv3.CheckResponse{Status: &statuspb.Status{Code: 2}}, false
	}
	out := new(authv3.CheckResponse)
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatalf("the answer does not decode: %v", err)
	}
	return out, true
}

// TestWriteAllow gives write what an Authorizer never should.
func TestWriteAllow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		d    authz.Decision
		ok   bool
	}{
		{"plain", authz.Decision{Set: []authz.Field{line("x-auth-request-user", "alice")}, Remove: []string{"x_auth"}}, true},
		{"UTF-8 cookie", authz.Decision{Set: []authz.Field{line("cookie", "a=é")}}, true},
		{"cookie that is not UTF-8", authz.Decision{Set: []authz.Field{line("cookie", "a=\xe9")}}, false},
		{"CR LF", authz.Decision{Set: []authz.Field{line("x-auth-request-user", "a\r\nx-evil: 1")}}, false},
		{"NUL", authz.Decision{Set: []authz.Field{line("x-auth-request-user", "a\x00")}}, false},
		{"DEL", authz.Decision{Set: []authz.Field{line("x-auth-request-user", "a\x7f")}}, false},
		{"path", authz.Decision{Set: []authz.Field{line(":path", "/")}}, false},
		{"host", authz.Decision{Set: []authz.Field{line("host", "a")}}, false},
		{"content-length", authz.Decision{Set: []authz.Field{line("content-length", "0")}}, false},
		{"transfer-encoding", authz.Decision{Set: []authz.Field{line("transfer-encoding", "chunked")}}, false},
		{"upper case", authz.Decision{Set: []authz.Field{line("X-User", "a")}}, false},
		{"no name", authz.Decision{Set: []authz.Field{line("", "a")}}, false},
		{"remove nothing", authz.Decision{Remove: []string{""}}, false},
		{"remove host", authz.Decision{Remove: []string{"host"}}, false},
		{"remove content-length", authz.Decision{Remove: []string{"content-length"}}, false},
		{"remove a pseudo header", authz.Decision{Remove: []string{":path"}}, false},
		{"remove a line", authz.Decision{Remove: []string{"a\r\nb"}}, false},
		{"remove beyond ASCII", authz.Decision{Remove: []string{"x-auth-requeſt-user"}}, false},
	}
	for _, test := range tests {
		test.d.Outcome = authz.Allow
		if _, ok := write(nil, &authz.Request{}, &test.d); ok != test.ok {
			t.Errorf("%s: write = %v, want %v", test.name, ok, test.ok)
		}
	}
}

func TestWriteAllowEmptyValue(t *testing.T) {
	t.Parallel()
	out, ok := written(t, &authz.Request{}, &authz.Decision{Outcome: authz.Allow, Set: []authz.Field{line("x-auth-request-email", "")}})
	if !ok || len(out.GetOkResponse().GetHeaders()) != 0 || !slices.Equal(out.GetOkResponse().GetHeadersToRemove(), []string{"x-auth-request-email"}) {
		t.Errorf("write = %v, %v, want the header removed", out, ok)
	}
}

// Envoy sends any status verbatim, and takes 0 for an allow (N12).
func TestWriteStatus(t *testing.T) {
	t.Parallel()
	for status := -1; status < 700; status++ {
		for _, outcome := range []authz.Outcome{authz.Deny, authz.Answer, 7} {
			out, ok := written(t, &authz.Request{}, &authz.Decision{Outcome: outcome, Response: authz.Response{Status: status}})
			want := status == 302 || status >= 400 && status <= 599 || outcome == authz.Answer && (status == 200 || status == 303)
			if ok != want || out.GetStatus().GetCode() == 0 || out.GetOkResponse() != nil {
				t.Errorf("write of %v with status %d = %v, code %d; want %v", outcome, status, ok, out.GetStatus().GetCode(), want)
			}
		}
	}
}

// Whatever write lets through has to survive the codec, or it becomes an RPC error.
func TestWriteMarshals(t *testing.T) {
	t.Parallel()
	bad := "\xff\x00\r\n"
	out, ok := written(t, &authz.Request{ID: bad}, &authz.Decision{
		Rule: bad, Reason: bad, Identity: &authz.Identity{Subject: bad, Provider: bad, Session: bad},
		Response: authz.Response{Status: 403, Body: []byte(bad)},
	})
	if !ok || out.GetDeniedResponse().GetBody() == "" { // written has decoded it
		t.Errorf("write = %v, %v", out, ok)
	}
}

func TestBare(t *testing.T) {
	t.Parallel()
	for _, status := range []int{500, 503} {
		out := new(authv3.CheckResponse)
		if err := proto.Unmarshal(bare(status), out); err != nil {
			t.Fatal(err)
		}
		if got := int(out.GetDeniedResponse().GetStatus().GetCode()); got != status || out.GetStatus().GetCode() == 0 {
			t.Errorf("bare(%d) = %v", status, out)
		}
	}
}
