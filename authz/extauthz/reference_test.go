package extauthz

import (
	"context"
	"strings"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// This file reads and writes the messages of a Check with the generated types. It is
// what read and write are held against.

// readReference takes from a CheckRequest what authz may look at. Any part may be
// missing. What the message says beyond it is left unread on purpose: scheme,
// context extensions and metadata decide nothing.
func readReference(ctx context.Context, in *authv3.CheckRequest, client authz.ClientAddress) (authz.Raw, error) {
	if in == nil {
		return authz.Raw{}, errUndecodable
	}
	source := in.GetAttributes().GetSource()
	raw := authz.Raw{Peer: authz.Peer{
		Address:   addressReference(source.GetAddress()),
		Principal: spiffeID(source.GetPrincipal()),
	}}
	http := in.GetAttributes().GetRequest().GetHttp()
	if http == nil {
		return raw, errNotHTTP
	}
	raw.Method = http.GetMethod()
	raw.Authority = http.GetHost()
	raw.Target = targetReference(http)
	raw.Header = headerReference(http)
	raw.ID = requestIDReference(ctx, raw.Header, http.GetId())
	raw.Peer.Client = client(raw.Header, raw.Peer.Address)
	return raw, nil
}

// targetReference is the path that Envoy routes. In http.path Envoy writes "!" for a byte
// that is not UTF-8, while the application receives the byte; the raw form shows
// it, and is then what has to be refused.
func targetReference(http *authv3.AttributeContext_HttpRequest) string {
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

// headerReference reads both forms. Envoy fills one of them; from anything that fills
// both, every line counts, and what must be single is refused as a duplicate.
func headerReference(http *authv3.AttributeContext_HttpRequest) authz.Header {
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

// requestIDReference prefers x-request-id, as in the access logs of everybody else, over
// Envoy's stream id.
func requestIDReference(ctx context.Context, h authz.Header, stream string) string {
	if id, n := h.Get("x-request-id"); n > 0 {
		return id
	}
	if ids := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(ids) > 0 {
		return ids[0]
	}
	return stream
}

// addressReference is the text of any kind of address, without a port.
func addressReference(a *corev3.Address) string {
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

// writeReference puts a decision into Envoy's words. It reports false, and writes
// nothing, when the decision holds a line or a status that must not leave.
//
// Every string in the message is valid UTF-8 afterwards: another one would fail
// in the codec, and that is an RPC error, which failure_mode_allow lets through.
func writeReference(r *authz.Request, d *authz.Decision) (*authv3.CheckResponse, bool) {
	out := &authv3.CheckResponse{DynamicMetadata: metadataReference(r, d)}
	if d.Outcome == authz.Allow {
		ok, valid := okReference(d)
		out.Status = &statuspb.Status{Code: int32(codes.OK)}
		out.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: ok}
		return out, valid
	}
	denied, valid := deniedReference(&d.Response)
	out.Status = &statuspb.Status{Code: int32(grpcCode(d.Response.Status))}
	out.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied}
	return out, valid && sendable(d)
}

// okReference overwrites and removes. A header with an empty value would reach
// the application as an empty header, so it is removed instead.
func okReference(d *authz.Decision) (*authv3.OkHttpResponse, bool) {
	ok := &authv3.OkHttpResponse{
		Headers:         make([]*corev3.HeaderValueOption, 0, len(d.Set)),
		HeadersToRemove: make([]string, 0, len(d.Remove)),
	}
	for _, f := range d.Set {
		switch {
		case !f.Valid():
			return nil, false
		case f.Value == "":
			ok.HeadersToRemove = append(ok.HeadersToRemove, f.Name)
		default:
			ok.Headers = append(ok.Headers, optionReference(f, overwriteAction))
		}
	}
	for _, name := range d.Remove {
		if !authz.ValidName(name) {
			return nil, false
		}
		ok.HeadersToRemove = append(ok.HeadersToRemove, name)
	}
	return ok, true
}

func deniedReference(r *authz.Response) (*authv3.DeniedHttpResponse, bool) {
	denied := &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(r.Status)},
		Headers: make([]*corev3.HeaderValueOption, 0, len(r.Header)+1),
		Body:    strings.ToValidUTF8(string(r.Body), "\uFFFD"),
	}
	denied.Headers = append(denied.Headers, optionReference(uncached, overwriteAction))
	for _, f := range r.Header {
		if !f.Valid() {
			return nil, false
		}
		if f.Name == uncached.Name {
			continue
		}
		action := overwriteAction
		if f.Name == "set-cookie" || f.Name == "www-authenticate" {
			action = addAction
		}
		denied.Headers = append(denied.Headers, optionReference(f, action))
	}
	return denied, true
}

const (
	overwriteAction = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	addAction       = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
)

// optionReference leaves the deprecated append field unset: true would drop the header
// unless the client had sent one, false would override the action.
func optionReference(f authz.Field, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: f.Name, Value: f.Value},
		AppendAction: action,
	}
}

// metadataReference goes to Envoy's access log, on denials too, under
// envoy.filters.http.ext_authz. It names no secret: the session by its public name.
func metadataReference(r *authz.Request, d *authz.Decision) *structpb.Struct {
	fields := make(map[string]*structpb.Value, 6)
	set := func(name, value string) {
		if value != "" {
			fields[name] = structpb.NewStringValue(strings.ToValidUTF8(value, "\uFFFD"))
		}
	}
	set("rule", d.Rule)
	set("reason", d.Reason)
	set("request_id", r.ID)
	if d.Identity != nil {
		set("subject", d.Identity.Subject)
		set("provider", d.Identity.Provider)
		set("session", d.Identity.Session)
	}
	return &structpb.Struct{Fields: fields}
}
