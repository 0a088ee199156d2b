package extauthz

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/metadata"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

var (
	errNotHTTP     = errors.New("the check carries no HTTP request (a network filter sent it?)")
	errUndecodable = errors.New("the check is not a valid CheckRequest")
)

// read takes from a CheckRequest what authz may look at. Any part may be
// missing. What the message says beyond it is left unread on purpose: scheme,
// context extensions and metadata decide nothing.
func read(ctx context.Context, in *authv3.CheckRequest, client authz.ClientAddress) (authz.Raw, error) {
	if in == nil {
		return authz.Raw{}, errUndecodable
	}
	source := in.GetAttributes().GetSource()
	raw := authz.Raw{Peer: authz.Peer{
		Address:   address(source.GetAddress()),
		Principal: spiffeID(source.GetPrincipal()),
	}}
	http := in.GetAttributes().GetRequest().GetHttp()
	if http == nil {
		return raw, errNotHTTP
	}
	raw.Method = http.GetMethod()
	raw.Authority = http.GetHost()
	raw.Target = target(http)
	raw.Header = header(http)
	raw.ID = requestID(ctx, raw.Header, http.GetId())
	raw.Peer.Client = client(raw.Header, raw.Peer.Address)
	return raw, nil
}

// target is the path that Envoy routes. In http.path Envoy writes "!" for a byte
// that is not UTF-8, while the application receives the byte; the raw form shows
// it, and is then what has to be refused.
func target(http *authv3.AttributeContext_HttpRequest) string {
	for _, line := range http.GetHeaderMap().GetHeaders() {
		if line.GetKey() == ":path" {
			if raw := line.GetRawValue(); !utf8.Valid(raw) {
				return string(raw)
			}
			break
		}
	}
	return http.GetPath()
}

// header reads both forms. Envoy fills one of them; from anything that fills
// both, every line counts, and what must be single is refused as a duplicate.
func header(http *authv3.AttributeContext_HttpRequest) authz.Header {
	h := make(authz.Header, 0, len(http.GetHeaders())+len(http.GetHeaderMap().GetHeaders()))
	for name, value := range http.GetHeaders() {
		h = appendField(h, name, value)
	}
	for _, line := range http.GetHeaderMap().GetHeaders() {
		value := line.GetValue()
		if raw := line.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		h = appendField(h, line.GetKey(), value)
	}
	return h
}

// appendField drops pseudo headers: method, host and path have fields of their
// own, which Envoy fills also where an allow-list hides the headers.
func appendField(h authz.Header, name, value string) authz.Header {
	if name == "" || name[0] == ':' {
		return h
	}
	return append(h, authz.Field{Name: lowerASCII(name), Value: value})
}

// requestID prefers x-request-id, as in the access logs of everybody else, over
// Envoy's stream id.
func requestID(ctx context.Context, h authz.Header, stream string) string {
	if id, n := h.Get("x-request-id"); n > 0 {
		return id
	}
	if ids := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(ids) > 0 {
		return ids[0]
	}
	return stream
}

// address is the text of any kind of address, without a port.
func address(a *corev3.Address) string {
	switch a := a.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		return a.SocketAddress.GetAddress()
	case *corev3.Address_Pipe:
		return "unix:" + a.Pipe.GetPath()
	case *corev3.Address_EnvoyInternalAddress: // waypoints
		return "envoy-internal:" + a.EnvoyInternalAddress.GetServerListenerName()
	}
	return ""
}

// spiffeID keeps a principal that is a SPIFFE ID. Envoy falls back to a DNS name
// or to the subject of the certificate, which attest something else.
func spiffeID(principal string) string {
	if strings.HasPrefix(principal, "spiffe://") {
		return principal
	}
	return ""
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
