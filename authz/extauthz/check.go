package extauthz

import (
	"context"
	"net/http"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Check answers one request of Envoy given in go-control-plane's types: for callers in
// this process. Served calls take the same way without the types. A nil request is
// denied, and so is one that cannot be encoded; the error is nil unless our own answer
// does not decode.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c := check{err: errUndecodable}
	if data, err := proto.Marshal(in); err == nil && in != nil {
		c = read(data)
	}
	out := new(authv3.CheckResponse)
	if err := proto.Unmarshal(s.check(ctx, &c, nil), out); err != nil {
		return nil, status.Error(codes.Internal, "the answer does not decode")
	}
	return out, nil
}

// check appends the answer to buf. It never fails: to Envoy an RPC error is no denial.
func (s *Server) check(call context.Context, in *check, buf []byte) (out []byte) {
	defer func() {
		if recover() != nil { // outside decide: in Current or Trace, so there may be nobody to tell
			out = bare(http.StatusInternalServerError)
		}
	}()
	a := s.cfg.Current()
	if a == nil {
		return bare(http.StatusServiceUnavailable)
	}
	ctx, end := s.trace(call)
	r, d := s.decide(ctx, a, in)
	out, valid := write(buf, r, &d)
	if !valid { // a mistake of ours: authz checks what it sets
		d = a.Fail(r, http.StatusInternalServerError, authz.ReasonPanic)
		if out, valid = write(buf, r, &d); !valid {
			out = bare(http.StatusInternalServerError)
		}
	}
	end(&d)
	return out
}

// decide turns every way to fail into a decision.
func (s *Server) decide(call context.Context, a *authz.Authorizer, in *check) (r *authz.Request, d authz.Decision) {
	r = &authz.Request{}
	defer func() {
		if v := recover(); v != nil {
			d = a.Panicked(r, v)
		}
	}()
	busy := s.inFlight.Add(1) > int64(s.cfg.MaxInFlight)
	defer s.inFlight.Add(-1)
	raw, unread := in.raw(call, s.cfg.Client)
	r, err := authz.NewRequest(raw)
	switch {
	case busy:
		return r, a.Fail(r, http.StatusServiceUnavailable, authz.ReasonOverloaded)
	case unread != nil:
		return r, a.Reject(r, unread)
	case err != nil:
		return r, a.Reject(r, err)
	}
	ctx := newCheckContext(call, s.cfg.Timeout)
	defer ctx.end()
	return r, a.Authorize(ctx, r)
}

func (s *Server) trace(call context.Context) (context.Context, func(*authz.Decision)) {
	if s.cfg.Trace == nil {
		return call, func(*authz.Decision) {}
	}
	return s.cfg.Trace(call)
}
