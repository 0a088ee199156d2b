package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Forward says what the application receives beside the usual identity headers.
// The zero value adds nothing and takes nothing away.
type Forward struct {
	AccessToken bool          // X-Auth-Request-Access-Token
	IDToken     bool          // Authorization: Bearer
	Headers     []ClaimHeader // made of claims
	Groups      []string      // globs: only these groups are sent; nil: all
}

// Tokens reports whether the application receives one of the user's tokens.
func (f *Forward) Tokens() bool { return f.AccessToken || f.IDToken }

func (f *Forward) empty() bool { return !f.Tokens() && f.Headers == nil && f.Groups == nil }

// groups returns those of all that the application may know.
func (f *Forward) groups(all []string) []string {
	if f.Groups == nil {
		return all
	}
	var sent []string
	for _, g := range all {
		if slices.ContainsFunc(f.Groups, func(glob string) bool { return matchGlob(glob, g) }) {
			sent = append(sent, g)
		}
	}
	return sent
}

// ClaimHeader is a header made of claims. NewClaimHeader makes one.
type ClaimHeader struct {
	name  string
	parts []headerPart
}

// headerPart is literal text and then the claim at pointer, which is empty in
// the last part.
type headerPart struct {
	literal, pointer string
	stops            byte // encoded in the value, because the literal behind it begins so; 0: nothing
}

// NewClaimHeader reads a template: text in which {claim} stands for the claim of
// that name or JSON Pointer (see Claims.Lookup). The claim is a text, a number or
// a bool, or, when it is all of the template, an array of these, joined as groups
// are. Where one claim is missing or is something else, the header is not sent.
//
// Values are percent-encoded like those of the other identity headers, and so is
// the first character of the text between two claims: decoding after a split at
// that text gives the claims back.
func NewClaimHeader(name, template string) (ClaimHeader, error) {
	h := ClaimHeader{name: lowerASCII(name)}
	if err := checkClaimHeaderName(h.name); err != nil {
		return ClaimHeader{}, fmt.Errorf("%q %w", name, err)
	}
	if strings.ContainsFunc(template, func(c rune) bool { return c < ' ' || c > '~' || c == '%' }) || strings.TrimSpace(template) != template {
		return ClaimHeader{}, errors.New("a template is printable ASCII without %, and no space at its ends")
	}
	for rest, more := template, true; more; {
		var part headerPart
		part.literal, rest, more = strings.Cut(rest, "{")
		if more {
			var closed bool
			part.pointer, rest, closed = strings.Cut(rest, "}")
			if !closed || strings.Contains(part.pointer, "{") {
				return ClaimHeader{}, errors.New("a { without its }: a claim is written {name} or {/json/pointer}")
			}
			if err := checkPointer(part.pointer); err != nil {
				return ClaimHeader{}, err
			}
		}
		if strings.Contains(part.literal, "}") {
			return ClaimHeader{}, errors.New("a } without its {: a claim is written {name} or {/json/pointer}")
		}
		h.parts = append(h.parts, part)
	}
	return h, h.separate()
}

// separate finds what stands between claims.
func (h *ClaimHeader) separate() error {
	claims := len(h.parts) - 1
	if claims == 0 {
		return errors.New("the template names no claim, such as {team}")
	}
	for i := range claims - 1 {
		between := h.parts[i+1].literal
		if between == "" || isAlnum(between[0]) { // a letter or digit could be part of an escape
			return errors.New("nobody could tell where one claim ends and the next begins: put text between them that begins with neither letter nor digit")
		}
		h.parts[i].stops = between[0]
	}
	return nil
}

// value is what the application receives, or "" for nothing.
func (h *ClaimHeader) value(c Claims) string {
	if len(h.parts) == 2 && h.parts[0].literal == "" && h.parts[1].literal == "" {
		return claimValues(c, h.parts[0].pointer)
	}
	var b strings.Builder
	for _, part := range h.parts {
		b.WriteString(part.literal)
		if part.pointer == "" {
			break
		}
		v, _ := c.Lookup(part.pointer)
		s, ok := scalarText(v)
		if !ok {
			return ""
		}
		b.WriteString(encodeValue(s, part.stops))
	}
	return b.String()
}

// claimValues joins the values of one claim. A list is sent whole or not at all.
func claimValues(c Claims, pointer string) string {
	v, _ := c.Lookup(pointer)
	list, ok := v.([]any)
	if !ok {
		s, _ := scalarText(v)
		return encodeValue(s, 0)
	}
	values := make([]string, len(list))
	for i, item := range list {
		if values[i], ok = scalarText(item); !ok {
			return ""
		}
	}
	return encodeGroups(values)
}

// scalarText is the text of a claim that fits into a line. An empty one says nothing.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

// checkClaimHeaderName keeps templates away from names that mean something to
// proxies and servers, or that another line of ours owns.
func checkClaimHeaderName(name string) error {
	switch {
	case !ValidName(name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-':
		return errors.New("is no name for a header: letters, digits and -, and none that frames a message")
	case lookalike(name):
		return errors.New("is set or removed by Gatehouse itself")
	case slices.Contains(takenNames, name) || slices.ContainsFunc(takenPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }):
		return errors.New("already means something to browsers, proxies or servers")
	}
	return nil
}

var (
	takenNames = []string{
		"age", "authorization", "cache-control", "cookie", "cookie2", "date", "dnt", "early-data", "expect", "forwarded", "from", "link",
		"location", "max-forwards", "origin", "pragma", "priority", "range", "referer", "server", "set-cookie", "traceparent", "tracestate",
		"upgrade-insecure-requests", "user-agent", "vary", "via", "warning", "www-authenticate", "x-csrf-token", "x-host", "x-http-method",
		"x-http-method-override", "x-method-override", "x-original-host", "x-original-url", "x-original-uri", "x-original-method", "x-real-ip",
		"x-request-id", "x-requested-with", "x-rewrite-url", "true-client-ip", "cf-connecting-ip", "x-client-ip", "x-cluster-client-ip",
	}
	takenPrefixes = []string{
		"accept", "access-control-", "content-", "grpc-", "if-", "proxy-", "sec-", "x-b3-", "x-envoy-", "x-forwarded-", "x-istio-",
	}
)
