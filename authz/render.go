package authz

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// RenderText shows p as plain text. It is the Render function of a Config that
// has none, and what is left when one fails.
func RenderText(r *Request, p Problem) Response {
	h := []Field{
		{"cache-control", "no-store"},
		{"content-type", "text/plain; charset=utf-8"},
		{"x-content-type-options", "nosniff"},
	}
	body := problemText(p)
	if r.Caller != GRPC {
		body += "\n"
		if r.ID != "" {
			body += "Request " + r.ID + "\n"
		}
	}
	return Response{Status: p.Status, Header: append(h, ProblemHeader(r, p)...), Body: []byte(body)}
}

// ProblemHeader returns the header lines that p asks for, whoever renders it:
// where to sign in, how to authenticate, when to come back, which cookies are
// dead. Callers of kind GRPC get no cookies and no address.
func ProblemHeader(r *Request, p Problem) []Field {
	var h []Field
	add := func(name, value string) {
		if f := (Field{name, value}); value != "" && f.Valid() {
			h = append(h, f)
		}
	}
	switch p.Status {
	case 302:
		add("location", p.Challenge.Location)
	case 401, 403:
		add("www-authenticate", p.Challenge.WWWAuthenticate)
	}
	if p.RetryAfter > 0 {
		seconds := (p.RetryAfter + time.Second - 1) / time.Second
		add("retry-after", strconv.FormatInt(int64(seconds), 10))
	}
	if r.Caller != GRPC && (p.Status == 302 || p.Status == 401) {
		for _, f := range p.Challenge.Clear {
			add(f.Name, f.Value)
		}
	}
	return h
}

// problemText never says more than the caller may know: neither the rule nor the
// condition that failed.
func problemText(p Problem) string {
	switch p.Reason {
	case ReasonAmbiguousPath:
		return "The path of this request can be read in more than one way."
	case ReasonHeadersTooLarge:
		return "You are signed in, but there is too much to tell the application about you. Please ask your administrator."
	case ReasonOverloaded:
		return "Too many requests at once. Please try again in a moment."
	}
	switch p.Status {
	case 302, 401:
		return "Please sign in."
	case 400:
		return "This request is malformed."
	case 403:
		return "You may not see this page."
	case 404:
		return "There is no such page."
	case 405:
		return "This page does not work that way."
	case 429, 503:
		return "This cannot be decided right now. Please try again in a moment."
	}
	return "Something went wrong."
}

// checkResponse refuses what Envoy would pass on verbatim and should not: a
// status that hangs clients or hides bodies, a line break in a header, a length
// that is not ours to say.
func checkResponse(resp Response) error {
	switch s := resp.Status; {
	case s == 200, s == 302, s == 303, s >= 400 && s <= 599:
	default:
		return fmt.Errorf("response has status %d", s)
	}
	for _, f := range resp.Header {
		if !f.Valid() {
			return fmt.Errorf("response has a header %q that cannot be sent", cut(f.Name, 64))
		}
	}
	return nil
}

// noStore adds Cache-Control where it is missing, without touching a header list
// that others may share.
func noStore(resp Response) Response {
	if _, n := Header(resp.Header).Get("cache-control"); n == 0 {
		resp.Header = append(slices.Clip(resp.Header), Field{"cache-control", "no-store"})
	}
	return resp
}
