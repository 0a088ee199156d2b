package extauthz

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// samples are messages in which every field is set that is read, and many that are not.
func samples() []*authv3.CheckRequest {
	peer := func(a *corev3.Address) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: a, Service: "svc", Labels: map[string]string{"a": "b"}, Principal: "spiffe://td/ns/a/sa/b", Certificate: "-----"}
	}
	socket := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711}}}}
	pipe := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/x.sock"}}}
	inner := &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "waypoint"},
	}}}
	plain := &authv3.AttributeContext_HttpRequest{
		Id: "17", Method: "GET", Host: "app.test", Path: "/a?b=c", Scheme: "https", Query: "q", Fragment: "f", Size: -1, Protocol: "HTTP/2", Body: "body", RawBody: []byte("raw"),
		Headers: map[string]string{":path": "/a?b=c", "Cookie": "a=b; c=d", "accept": "text/html", "x-empty": "", "x-request-id": "r-1"},
	}
	mapped := &authv3.AttributeContext_HttpRequest{
		Id: "18", Method: "POST", Host: "app.test", Path: "/a!", HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: ":path", RawValue: []byte("/a\xff")},
			{Key: ":path", RawValue: []byte("/second")},
			{Key: "X-Twice", RawValue: []byte("1")},
			{Key: "x-twice", Value: "2"},
			{Key: "x-both", Value: "v", RawValue: []byte("r")},
			{Key: "x-raw", RawValue: []byte{0xff, 0}},
			{Key: ""},
		}},
	}
	var all []*authv3.CheckRequest
	for _, a := range []*corev3.Address{socket, pipe, inner, {}, nil} {
		for _, h := range []*authv3.AttributeContext_HttpRequest{plain, mapped, {}, nil} {
			all = append(all, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
				Source: peer(a), Destination: peer(pipe), Request: &authv3.AttributeContext_Request{Http: h}, ContextExtensions: map[string]string{"x": "y"},
			}})
		}
	}
	return append(all, &authv3.CheckRequest{}, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{}})
}

func TestReadAgreesWithGeneratedDecoder(t *testing.T) {
	for i, in := range samples() {
		data, err := proto.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		agree(t, i, data)
	}
}

// A field that comes twice is merged, one of another wire type is skipped, unknown ones
// and groups as well.
func TestReadMerges(t *testing.T) {
	marshal := func(in *authv3.CheckRequest) []byte {
		data, err := proto.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	http := func(h *authv3.AttributeContext_HttpRequest) *authv3.CheckRequest {
		return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: h}}}
	}
	first := marshal(http(&authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a", Headers: map[string]string{"x": "1"}}))
	second := marshal(http(&authv3.AttributeContext_HttpRequest{Method: "POST", Path: "/b", Headers: map[string]string{"y": "2"}}))
	odd := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte{0xff})
	group := protowire.AppendTag(protowire.AppendTag(protowire.AppendTag(nil, 98, protowire.StartGroupType), 97, protowire.StartGroupType), 97, protowire.EndGroupType)
	group = protowire.AppendTag(group, 98, protowire.EndGroupType)
	peer := func(a *corev3.SocketAddress) []byte {
		return marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source:  &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: a}}},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET"}},
		}})
	}
	named, unnamed := peer(&corev3.SocketAddress{Address: "192.0.2.7"}), peer(&corev3.SocketAddress{Protocol: corev3.SocketAddress_UDP})
	other, err := proto.Marshal(samples()[4]) // a pipe
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range [][]byte{
		slices.Concat(named, unnamed), slices.Concat(named, other), slices.Concat(other, unnamed), slices.Concat(named, other, unnamed),
		slices.Concat(first, second), slices.Concat(second, first), slices.Concat(odd, first), slices.Concat(first, unknown, second), slices.Concat(group, first, odd),
	} {
		agree(t, i, data)
		if c := read(data); c.err != nil || c.method == "" {
			t.Errorf("case %d: read = %+v", i, c)
		}
	}
}

// A field of another wire type is an unknown one: it is neither a kind of address nor an
// HTTP request.
func TestReadSkipsOtherWireTypes(t *testing.T) {
	number := func(n protowire.Number) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), 7)
	}
	within := func(b []byte, path ...protowire.Number) []byte {
		for _, n := range slices.Backward(path) {
			b = protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
		}
		return b
	}
	socket, err := proto.Marshal(samples()[0])
	if err != nil {
		t.Fatal(err)
	}
	pipe := slices.Concat(socket, within(number(2), 1, 1, 1))
	agree(t, "a number for a pipe", pipe)
	if c := read(pipe); c.peer() != "192.0.2.7" {
		t.Errorf("a number for a pipe: the peer is %q", c.peer())
	}
	none := within(number(2), 1, 4)
	agree(t, "a number for the HTTP request", none)
	if c := read(none); c.http {
		t.Error("a number is taken for an HTTP request")
	}
}

// agree holds read against the generated decoder. What that refuses may be refused here
// or not, since parts that nobody looks at are not looked at.
func agree(t testing.TB, name any, data []byte) {
	t.Helper()
	in := new(authv3.CheckRequest)
	if proto.Unmarshal(data, in) != nil {
		return
	}
	client := authz.PeerAddress()
	want, wantErr := readReference(t.Context(), in, client)
	c := read(data)
	got, gotErr := c.raw(t.Context(), client)
	order := func(h authz.Header) authz.Header { // a map has none
		return slices.SortedStableFunc(slices.Values(h), func(a, b authz.Field) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value)) })
	}
	got.Header, want.Header = order(got.Header), order(want.Header)
	if gotErr != wantErr || !reflect.DeepEqual(got, want) { //nolint:errorlint // the very same errors
		t.Errorf("%v: read = %+v, %v\nthe generated decoder: %+v, %v", name, got, gotErr, want, wantErr)
	}
}

// repeated reports whether a map entry comes twice: to the decoder the last one counts,
// to us both do, so that what must be single is refused.
func repeated(data []byte) bool {
	c := read(data)
	seen := map[string]bool{}
	for _, f := range c.header {
		if seen[f.Name] {
			return true
		}
		seen[f.Name] = true
	}
	return false
}

func FuzzRead(f *testing.F) {
	for _, in := range samples() {
		data, err := proto.Marshal(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		if repeated(data) {
			return
		}
		agree(t, "fuzz", data)
	})
}

// Strings of a request must not share memory with the buffer that gRPC uses again.
func TestReadCopies(t *testing.T) {
	data, err := proto.Marshal(samples()[0])
	if err != nil {
		t.Fatal(err)
	}
	c := read(data)
	before := strings.Join([]string{c.method, c.authority, c.path, c.address, c.header[0].Value}, "|")
	before = strings.Clone(before)
	clear(data)
	if after := strings.Join([]string{c.method, c.authority, c.path, c.address, c.header[0].Value}, "|"); after != before {
		t.Errorf("the request changed with the buffer: %q, then %q", before, after)
	}
}

func decisions() []authz.Decision {
	id := &authz.Identity{Subject: "alice", Provider: "corp", Session: "abc"}
	lines := []authz.Field{{Name: "x-auth-request-user", Value: "alice"}, {Name: "cookie", Value: "a=b; c=é"}, {Name: "x-auth-request-email", Value: ""}, {Name: "x-long", Value: strings.Repeat("v", 300)}}
	return []authz.Decision{
		{Outcome: authz.Allow, Rule: "app", Reason: authz.ReasonAllowed, Identity: id, Set: lines, Remove: []string{"x-auth-request-groups", "x_auth_request_user"}},
		{Outcome: authz.Allow},
		{Outcome: authz.Deny, Rule: "app", Reason: authz.ReasonNoCredentials, Response: authz.Response{Status: 302, Header: []authz.Field{
			{Name: "location", Value: "/oauth2/start?rd=/"}, {Name: "set-cookie", Value: "a=b"}, {Name: "set-cookie", Value: "c=d"}, {Name: "cache-control", Value: "private"}, {Name: "x-empty", Value: ""},
		}}},
		{Outcome: authz.Answer, Response: authz.Response{Status: 200, Body: []byte(strings.Repeat("page", 3000) + "\xff"), Header: []authz.Field{{Name: "www-authenticate", Value: "Bearer"}}}},
		{Outcome: authz.Deny, Response: authz.Response{Status: 503}},
		{Outcome: authz.Deny, Response: authz.Response{Status: 0}},
		{Outcome: authz.Allow, Set: []authz.Field{{Name: "a", Value: "\r\n"}}},
	}
}

func TestWriteAgreesWithGeneratedEncoder(t *testing.T) {
	for i, d := range decisions() {
		writesAlike(t, i, &authz.Request{ID: "r-1\xff"}, &d)
	}
}

func writesAlike(t testing.TB, name any, r *authz.Request, d *authz.Decision) {
	t.Helper()
	want, wantOK := writeReference(r, d)
	b, ok := write(nil, r, d)
	if ok != wantOK {
		t.Fatalf("%v: write = %v, the reference says %v", name, ok, wantOK)
	}
	if !ok {
		return
	}
	got := new(authv3.CheckResponse)
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatalf("%v: the answer does not decode: %v", name, err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("%v: write = %v\nthe generated encoder: %v", name, got, want)
	}
}

func FuzzWrite(f *testing.F) {
	f.Add(true, 200, "app", "r-1", "alice", "x-auth-request-user", "alice", "x-gone", "body")
	f.Add(false, 302, "", "", "", "location", "/x", "", "")
	f.Add(false, 503, "\xff", "\xff", "\xff", "set-cookie", "a\r\nb", ":path", "\xff")
	f.Fuzz(func(t *testing.T, allow bool, status int, rule, id, subject, name, value, remove, body string) {
		d := authz.Decision{Rule: rule, Reason: rule, Identity: &authz.Identity{Subject: subject}, Response: authz.Response{Status: status, Body: []byte(body), Header: []authz.Field{{Name: name, Value: value}}}}
		if allow {
			d.Outcome, d.Set, d.Remove = authz.Allow, []authz.Field{{Name: name, Value: value}}, []string{remove}
		}
		writesAlike(t, "fuzz", &authz.Request{ID: id}, &d)
	})
}
