package authz

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"
)

// endpointTimeout is the deadline of an endpoint over HTTP. An endpoint that has
// something to say earlier (a "still working" page) says it by itself.
const endpointTimeout = 10 * time.Second

// Handler serves the endpoints of an Authorizer over HTTP and answers 404 to
// everything else. The operator routes the prefix of the endpoints to it, on the
// same host, so that Host, path and cookies are those of the application.
//
// current is asked once per request, so that a reload swaps whole
// configurations; while it returns nil the answer is 503. client finds the
// client's address for logs; nil: the address of the connection. Bodies are not
// read. As in a Check, the client's disconnect does not end the context of an
// endpoint, which would tear a code exchange in two.
func Handler(current func() *Authorizer, client ClientAddress) http.Handler {
	if client == nil {
		client = PeerAddress()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := current()
		if a == nil {
			send(w, RenderText(&Request{}, Problem{Status: http.StatusServiceUnavailable}))
			return
		}
		send(w, a.handle(r, client))
	})
}

// handle is what Authorize is to a Check, without the rules.
func (a *Authorizer) handle(in *http.Request, client ClientAddress) (out Response) {
	var r *Request
	defer func() {
		if p := recover(); p != nil {
			out = a.Panicked(r, p).Response
		}
	}()
	r, err := NewRequest(rawHTTP(in, client))
	if err != nil {
		return a.Reject(r, err).Response
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.Context()), endpointTimeout)
	defer cancel()
	if d, ok := a.serveEndpoint(ctx, r); ok {
		return d.Response
	}
	return a.Fail(r, http.StatusNotFound, ReasonNoRule).Response
}

// rawHTTP takes the request target as the client wrote it: net/url has decoded
// its Path already.
func rawHTTP(in *http.Request, client ClientAddress) Raw {
	h := make(Header, 0, len(in.Header))
	for name, values := range in.Header {
		name = lowerASCII(name)
		for _, value := range values {
			h = append(h, Field{Name: name, Value: value})
		}
	}
	id, _ := h.Get("x-request-id")
	peer := Peer{Address: in.RemoteAddr}
	if host, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		peer.Address = host
	}
	peer.Client = client(h, peer.Address)
	return Raw{Method: in.Method, Authority: in.Host, Target: in.RequestURI, Header: h, Peer: peer, ID: id}
}

// send writes an answer, or 500 when a line of it must not leave: net/http would
// only drop or bend it.
func send(w http.ResponseWriter, out Response) {
	if checkResponse(out) != nil {
		out = RenderText(&Request{}, Problem{Status: http.StatusInternalServerError})
	}
	h := w.Header()
	for _, f := range out.Header {
		h.Add(f.Name, f.Value)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(out.Body)))
	w.WriteHeader(out.Status)
	_, _ = w.Write(out.Body) // for HEAD net/http keeps it; a client that has gone away needs no word
}
