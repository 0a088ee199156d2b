package extauthz_test

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

// FuzzCheck feeds arbitrary bytes. Nothing panics, nothing is allowed that does
// not carry the cookie or match the anonymous rule, and every line that leaves is clean.
func FuzzCheck(f *testing.F) {
	for _, in := range []*authv3.CheckRequest{
		request("/public/a"), request("/a", session), raw(request("/a?b=c", session+"; x=y", "x_auth_request_user: root")),
		request("/public/..%2fa"),
		{},
		{Attributes: &authv3.AttributeContext{}},
	} {
		data, err := proto.Marshal(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0xff})
	s := newServer(f, extauthz.Config{Current: fixed(f, nil)})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := new(authv3.CheckRequest)
		if proto.Unmarshal(data, in) != nil {
			in = nil
		}
		judge(t, s, in)
	})
}

// FuzzCheckText changes the text of a well-formed message, in both header forms.
func FuzzCheckText(f *testing.F) {
	f.Add("app.test", "/public/a", "x-auth-request-user", "root")
	f.Add("APP.test.:443", "/a?b", "cookie", cookieName+"="+good+"; a=b")
	f.Add("app.test", "/public;/..%2fadmin", "X_Auth.Request User", "\xff\r\n")
	f.Add("app.test", "/a", "cookie", "a=b,"+cookieName+"="+good)
	s := newServer(f, extauthz.Config{Current: fixed(f, nil)})
	f.Fuzz(func(t *testing.T, host, path, name, value string) {
		in := request(path, name+": "+value)
		in.GetAttributes().GetRequest().GetHttp().Host = host
		judge(t, s, in)
		in = raw(in)
		judge(t, s, in)
		if data, err := proto.Marshal(in); err == nil { // what can travel may end in no other answer
			again := new(authv3.CheckRequest)
			if err := proto.Unmarshal(data, again); err != nil {
				t.Fatal(err)
			}
			judge(t, s, again)
		}
	})
}

func judge(t *testing.T, s *extauthz.Server, in *authv3.CheckRequest) {
	t.Helper()
	out, err := s.Check(t.Context(), in)
	if err != nil {
		t.Fatalf("Check = %v", err)
	}
	wellFormed(t, out)
	if _, err := proto.Marshal(out); err != nil {
		t.Fatalf("the answer does not marshal: %v", err)
	}
	http := in.GetAttributes().GetRequest().GetHttp()
	switch reason, allowed := metadataText(out, "reason"), out.GetOkResponse() != nil; {
	case reason == authz.ReasonPanic:
		t.Fatal("something panicked")
	case !allowed:
	case reason == authz.ReasonAnonymous:
		if path, _, _ := strings.Cut(http.GetPath(), "?"); path != "/public" && !strings.HasPrefix(path, "/public/") {
			t.Fatalf("%q was allowed anonymously", path)
		}
	case reason != authz.ReasonAllowed || !strings.Contains(prototext.Format(in), cookieName+"="+good):
		t.Fatalf("allowed for the reason %q without the cookie", reason)
	}
}
