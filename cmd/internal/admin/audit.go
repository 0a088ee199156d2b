package admin

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
)

// unary admits, bounds and logs a call; these cannot be had apart.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer func() {
		err = s.survive(recover(), err)
		s.audit(ctx, info.FullMethod, start, err, append(asked(req), answered(resp, err)...))
	}()
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// stream does the same for reflection and watchers of health, with a line at the end.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	start := time.Now()
	defer func() {
		err = s.survive(recover(), err)
		s.audit(stream.Context(), info.FullMethod, start, err, nil)
	}()
	if err := s.admit(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}

// survive keeps a mistake of ours from ending the process, which answers Checks, too.
func (s *Server) survive(panicked any, err error) error {
	if panicked == nil {
		return err
	}
	s.cfg.Log.Error("panic in the admin API", "stack", string(debug.Stack()))
	return status.Error(codes.Internal, "a mistake of Gatehouse's; its log says more")
}

// audit writes the line of one call: who, what, and how it ended.
func (s *Server) audit(ctx context.Context, method string, start time.Time, err error, attrs []slog.Attr) {
	level, st := slog.LevelInfo, status.Convert(err)
	attrs = append([]slog.Attr{
		slog.String("caller", clip(s.caller(ctx))),
		slog.String("method", clip(method)),
	}, attrs...)
	if from := address(ctx); from != "" {
		attrs = append(attrs, slog.String("address", from))
	}
	attrs = append(attrs, slog.String("outcome", st.Code().String()), slog.Int64("duration_us", time.Since(start).Microseconds()))
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", clip(st.Message())))
		if cause := cause(err); cause != "" {
			attrs = append(attrs, slog.String("cause", clip(cause)))
		}
	}
	s.cfg.Log.LogAttrs(context.WithoutCancel(ctx), level, "admin call", attrs...)
}

// asked is what a request is about. It may not have been checked yet.
func asked(req any) []slog.Attr {
	var u *adminv1.User
	name := ""
	switch r := req.(type) {
	case *adminv1.ListRequest:
		u = r.GetUser()
	case *adminv1.RevokeRequest:
		u, name = r.GetUser(), r.GetSession()
	}
	var attrs []slog.Attr
	for _, a := range []slog.Attr{
		slog.String("provider", clip(u.GetProvider())), slog.String("issuer", clip(u.GetIssuer())),
		slog.String("subject", clip(u.GetSubject())), slog.String("session", clip(name)),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return attrs
}

// answered counts what a call found or ended, also one that failed half way. Of one that
// cannot tell it says nothing: a zero would read as if nobody was signed in.
func answered(resp any, err error) []slog.Attr {
	if err != nil {
		resp = nil
		for _, detail := range status.Convert(err).Details() {
			resp = detail
		}
	}
	switch r := resp.(type) {
	case *adminv1.ListResponse:
		return []slog.Attr{slog.Int("found", int(r.GetTotal()))}
	case *adminv1.RevokeResponse:
		return []slog.Attr{slog.Int("ended", int(r.GetEnded()))}
	}
	return nil
}

// clip bounds what a caller chooses, at a boundary of characters.
func clip(s string) string {
	const limit = 256
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
