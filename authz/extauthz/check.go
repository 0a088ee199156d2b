package extauthz

import (
	"context"
	"net/http"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// checkService is the service description of go-control-plane with a handler of
// our own: a message that does not decode is denied like any other bad request.
// The generated handler would return an RPC error, and so let a client that can
// break the encoding (CVE-2023-27488) through a filter with failure_mode_allow.
var checkService = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(authv3.CheckRequest)
			if dec(in) != nil {
				return srv.(*Server).check(ctx, nil), nil
			}
			return srv.(*Server).check(ctx, in), nil
		},
	}},
}

// Check answers one request of Envoy. The error is always nil: to Envoy an RPC
// error is no denial. A nil request is denied.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.check(ctx, in), nil
}

func (s *Server) check(call context.Context, in *authv3.CheckRequest) (out *authv3.CheckResponse) {
	defer func() {
		if v := recover(); v != nil { // the rendering of a panic, or an observer of it, panicked again
			s.panicked(v)
			out = bare(http.StatusInternalServerError)
		}
	}()
	a := s.cfg.Current()
	if a == nil {
		return bare(http.StatusServiceUnavailable)
	}
	ctx, end := s.trace(call)
	r, d := s.decide(ctx, a, in)
	out, valid := write(r, &d)
	if !valid {
		d = a.Fail(r, http.StatusInternalServerError, "panic")
		if out, valid = write(r, &d); !valid {
			out = bare(http.StatusInternalServerError)
		}
	}
	end(&d)
	return out
}

// decide turns every way to fail into a decision.
func (s *Server) decide(call context.Context, a *authz.Authorizer, in *authv3.CheckRequest) (r *authz.Request, d authz.Decision) {
	r = &authz.Request{}
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v)
			d = a.Fail(r, http.StatusInternalServerError, "panic")
		}
	}()
	busy := s.inFlight.Add(1) > int64(s.cfg.MaxInFlight)
	defer s.inFlight.Add(-1)
	raw, unread := read(call, in, s.cfg.Client)
	r, err := authz.NewRequest(raw)
	switch {
	case busy:
		return r, a.Fail(r, http.StatusServiceUnavailable, "overloaded")
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

func (s *Server) panicked(v any) {
	if s.cfg.Panicked != nil {
		s.cfg.Panicked(v, debug.Stack())
	}
}
