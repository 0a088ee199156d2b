package extauthz_test

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

// FuzzCheck feeds arbitrary bytes. Nothing panics, nothing is allowed that does
// not carry the cookie or match the anonymous rule, and every line that leaves is clean.
func FuzzCheck(f *testing.F) {
	for _, in := range []*authv3.CheckRequest{
		request("/public/a"), request("/a", session), raw(request("/a?b=c", session+"; x=y", "x_auth_request_user: root")),
		request("/public/..%2fa"), {}, {Attributes: &authv3.AttributeContext{}},
	} {
		data, err := proto.Marshal(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0xff})
	current := fixed(f, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newServer(t, extauthz.Config{Current: current})
		in := new(authv3.CheckRequest)
		if proto.Unmarshal(data, in) != nil {
			in = nil
		}
		out, err := s.Check(t.Context(), in)
		if err != nil {
			t.Fatalf("Check = %v", err)
		}
		wellFormed(t, out)
		if _, err := proto.Marshal(out); err != nil {
			t.Fatalf("the answer does not marshal: %v", err)
		}
		if metadataText(out, "reason") == authz.ReasonPanic {
			t.Fatal("something panicked")
		}
		if out.GetOkResponse() == nil {
			return
		}
		switch http := in.GetAttributes().GetRequest().GetHttp(); metadataText(out, "reason") {
		case authz.ReasonAnonymous:
			if path, _, _ := strings.Cut(http.GetPath(), "?"); path != "/public" && !strings.HasPrefix(path, "/public/") {
				t.Fatalf("%q was allowed anonymously", path)
			}
		case authz.ReasonAllowed:
			if !strings.Contains(string(data), cookieName+"="+good) {
				t.Fatal("allowed without the cookie")
			}
		default:
			t.Fatalf("allowed for the reason %q", metadataText(out, "reason"))
		}
	})
}
