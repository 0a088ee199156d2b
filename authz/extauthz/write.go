package extauthz

import (
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// write puts a decision into Envoy's words. It reports false, and writes
// nothing, when the decision holds a line or a status that must not leave.
//
// Every string in the message is valid UTF-8 afterwards: another one would fail
// in the codec, and that is an RPC error, which failure_mode_allow lets through.
func write(r *authz.Request, d *authz.Decision) (*authv3.CheckResponse, bool) {
	out := &authv3.CheckResponse{DynamicMetadata: dynamicMetadata(r, d)}
	if d.Outcome == authz.Allow {
		ok, valid := okResponse(d)
		out.Status = &statuspb.Status{Code: int32(codes.OK)}
		out.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: ok}
		return out, valid
	}
	denied, valid := deniedResponse(&d.Response)
	out.Status = &statuspb.Status{Code: int32(grpcCode(d.Response.Status))} //nolint:gosec // 0 to 16
	out.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied}
	return out, valid && sendable(d)
}

// okResponse overwrites and removes. A header with an empty value would reach
// the application as an empty header, so it is removed instead.
func okResponse(d *authz.Decision) (*authv3.OkHttpResponse, bool) {
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
			ok.Headers = append(ok.Headers, option(f, overwrite))
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

func deniedResponse(r *authz.Response) (*authv3.DeniedHttpResponse, bool) {
	denied := &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(r.Status)}, //nolint:gosec // sendable bounds it
		Headers: make([]*corev3.HeaderValueOption, 0, len(r.Header)+1),
		Body:    strings.ToValidUTF8(string(r.Body), "\uFFFD"),
	}
	uncached := authz.Field{Name: "cache-control", Value: "no-store"} // a CDN may keep a 302 as well
	denied.Headers = append(denied.Headers, option(uncached, overwrite))
	for _, f := range r.Header {
		if !f.Valid() {
			return nil, false
		}
		if f.Name == uncached.Name {
			continue
		}
		action := overwrite
		if f.Name == "set-cookie" || f.Name == "www-authenticate" {
			action = add
		}
		denied.Headers = append(denied.Headers, option(f, action))
	}
	return denied, true
}

const (
	overwrite = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	add       = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
)

// option leaves the deprecated append field unset: true would drop the header
// unless the client had sent one, false would override the action.
func option(f authz.Field, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: f.Name, Value: f.Value},
		AppendAction: action,
	}
}

// sendable reports whether a status may leave for this outcome. Envoy sends any
// number verbatim: 100 hangs the client, 204 and 304 go out with a body, and 0
// is an allow.
func sendable(d *authz.Decision) bool {
	switch status := d.Response.Status; {
	case status == http.StatusFound, 400 <= status && status <= 599:
		return true
	case status == http.StatusOK, status == http.StatusSeeOther:
		return d.Outcome == authz.Answer
	}
	return false
}

// grpcCode is the code of the CheckResponse, never OK: that alone would be an
// allow, whatever else the message says.
func grpcCode(status int) codes.Code {
	switch {
	case status == http.StatusFound, status == http.StatusUnauthorized:
		return codes.Unauthenticated
	case status == http.StatusTooManyRequests,
		status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return codes.Unavailable
	case status >= 500:
		return codes.Internal
	}
	return codes.PermissionDenied
}

// bare is the answer when there is no Authorizer to ask.
func bare(status int) *authv3.CheckResponse {
	r := &authz.Request{}
	out, _ := write(r, &authz.Decision{Response: authz.RenderText(r, authz.Problem{Status: status})})
	return out
}

// dynamicMetadata goes to Envoy's access log, on denials too, under
// envoy.filters.http.ext_authz. It names no secret: the session by its public name.
func dynamicMetadata(r *authz.Request, d *authz.Decision) *structpb.Struct {
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
