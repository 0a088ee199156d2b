package extauthz

import (
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Numbers of the fields that are written; all are below 16.
const (
	responseStatus   = 1 // of CheckResponse
	responseDenied   = 2
	responseOK       = 3
	responseMetadata = 4

	okHeaders = 2 // of OkHttpResponse
	okRemove  = 5

	deniedStatus  = 1 // of DeniedHttpResponse
	deniedHeaders = 2
	deniedBody    = 3
)

// write appends a decision in Envoy's words, a CheckResponse. It reports false, and what
// it wrote is good for nothing, when the decision holds a line or a status that must not
// leave. The generated encoder would have a tree built first; tests hold the two against
// each other.
//
// Every string in the message is valid UTF-8: another one would fail in Envoy's decoder,
// and that is an error, which failure_mode_allow lets through.
func write(b []byte, r *authz.Request, d *authz.Decision) ([]byte, bool) {
	valid := false
	if d.Outcome == authz.Allow {
		b = appendMessage(b, responseStatus, 0) // code 0; without a status it would be an allow, too
		b, valid = writeOK(b, d)
	} else {
		code := int(grpcCode(d.Response.Status))
		b = appendMessage(b, responseStatus, 2) // codes are 1 to 16
		b = appendNumber(b, 1, code)
		b, valid = writeDenied(b, &d.Response)
		valid = valid && sendable(d)
	}
	return writeMetadata(b, r, d), valid
}

// writeOK overwrites and removes. A header with an empty value would reach
// the application as an empty header, so it is removed instead.
func writeOK(b []byte, d *authz.Decision) ([]byte, bool) {
	size := 0
	for _, f := range d.Set {
		switch {
		case !f.Valid():
			return b, false
		case f.Value == "":
			size += sizeText(f.Name)
		default:
			size += 1 + protowire.SizeBytes(sizeOption(f, overwrite))
		}
	}
	for _, name := range d.Remove {
		if !authz.ValidName(name) {
			return b, false
		}
		size += sizeText(name)
	}
	b = appendMessage(b, responseOK, size)
	for _, f := range d.Set {
		if f.Value == "" {
			b = appendText(b, okRemove, f.Name)
		} else {
			b = appendOption(b, okHeaders, f, overwrite)
		}
	}
	for _, name := range d.Remove {
		b = appendText(b, okRemove, name)
	}
	return b, true
}

// uncached: a CDN may keep a 302 as well.
var uncached = authz.Field{Name: "cache-control", Value: "no-store"}

func writeDenied(b []byte, r *authz.Response) ([]byte, bool) {
	body := strings.ToValidUTF8(string(r.Body), "\uFFFD")
	status := appendNumber(make([]byte, 0, 8), 1, r.Status) // HttpStatus.code
	size := 1 + protowire.SizeBytes(len(status)) + 1 + protowire.SizeBytes(sizeOption(uncached, overwrite))
	for _, f := range r.Header {
		if !f.Valid() {
			return b, false
		}
		if f.Name != uncached.Name {
			size += 1 + protowire.SizeBytes(sizeOption(f, actionFor(f.Name)))
		}
	}
	if body != "" {
		size += sizeText(body)
	}
	b = appendMessage(b, responseDenied, size)
	b = append(appendMessage(b, deniedStatus, len(status)), status...)
	b = appendOption(b, deniedHeaders, uncached, overwrite)
	for _, f := range r.Header {
		if f.Name != uncached.Name {
			b = appendOption(b, deniedHeaders, f, actionFor(f.Name))
		}
	}
	if body != "" {
		b = appendText(b, deniedBody, body)
	}
	return b, true
}

const (
	overwrite = int(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	add       = int(corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
)

func actionFor(name string) int {
	if name == "set-cookie" || name == "www-authenticate" {
		return add
	}
	return overwrite
}

// sizeOption is the size of a HeaderValueOption.
func sizeOption(f authz.Field, action int) int {
	size := 1 + protowire.SizeBytes(sizeHeader(f))
	if action != 0 {
		size += 2
	}
	return size
}

// sizeHeader is the size of a HeaderValue.
func sizeHeader(f authz.Field) int {
	size := sizeText(f.Name)
	if f.Value != "" {
		size += sizeText(f.Value)
	}
	return size
}

// appendOption appends a HeaderValueOption. It leaves the deprecated append field unset:
// true would drop the header unless the client had sent one, false would override the
// action.
func appendOption(b []byte, number protowire.Number, f authz.Field, action int) []byte {
	b = appendMessage(b, number, sizeOption(f, action))
	b = appendMessage(b, 1, sizeHeader(f))
	b = appendText(b, 1, f.Name)
	if f.Value != "" {
		b = appendText(b, 2, f.Value)
	}
	return appendNumber(b, 3, action)
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
func bare(status int) []byte {
	r := &authz.Request{}
	out, _ := write(nil, r, &authz.Decision{Response: authz.RenderText(r, authz.Problem{Status: status})})
	return out
}

// writeMetadata goes to Envoy's access log, on denials too, under
// envoy.filters.http.ext_authz. It names no secret: the session by its public name.
func writeMetadata(b []byte, r *authz.Request, d *authz.Decision) []byte {
	fields := [6][2]string{{"rule", d.Rule}, {"reason", d.Reason}, {"request_id", r.ID}}
	if d.Identity != nil {
		fields[3], fields[4], fields[5] = [2]string{"subject", d.Identity.Subject}, [2]string{"provider", d.Identity.Provider}, [2]string{"session", d.Identity.Session}
	}
	size := 0
	for i, f := range fields {
		if fields[i][1] = strings.ToValidUTF8(f[1], "\uFFFD"); f[1] != "" {
			size += 1 + protowire.SizeBytes(sizeEntry(f[0], fields[i][1]))
		}
	}
	b = appendMessage(b, responseMetadata, size)
	for _, f := range fields {
		if f[1] == "" {
			continue
		}
		b = appendMessage(b, 1, sizeEntry(f[0], f[1])) // Struct.fields
		b = appendText(b, 1, f[0])
		b = appendMessage(b, 2, sizeText(f[1]))
		b = appendText(b, 3, f[1]) // Value.string_value
	}
	return b
}

// sizeEntry is the size of an entry of Struct.fields.
func sizeEntry(name, value string) int {
	return sizeText(name) + 1 + protowire.SizeBytes(sizeText(value))
}
