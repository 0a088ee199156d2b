// Package admin serves the admin API to operators over gRPC.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// Operators are few: what is beyond these bounds is no operator.
const (
	callTimeout        = 30 * time.Second // ending the sessions of a user takes a few round trips for each
	maxMessage         = 64 << 10
	maxMetadata        = 16 << 10
	maxStreams         = 100
	handshakeTimeout   = 5 * time.Second
	maxConnectionIdle  = 5 * time.Minute
	maxConnectionAge   = 30 * time.Minute // ends the streams of reflection, too
	connectionAgeGrace = time.Minute      // beyond any call
	pingInterval       = time.Minute
	pingTimeout        = 10 * time.Second
	minClientPing      = 10 * time.Second
)

// Config is what a Server works with.
type Config struct {
	// Current is asked once per call, so that a reload swaps whole configurations. Required.
	Current func() Current

	// TLS is nil for plain text. Who completes its handshake may call, if Token is nil.
	TLS *tls.Config

	// Token returns the token that every call has to bring as "authorization: Bearer".
	// It is asked at every call; while it fails nobody may call. nil: none is needed.
	Token func() (string, error)

	Log *slog.Logger // gets one line per call, but for one whose message cannot be read: it does nothing. Required.
}

// Current is what calls are answered from.
type Current struct {
	Sessions *session.Manager  // nil: nobody signs in here
	Issuers  map[string]string // issuer by the name of its provider
}

// Server answers operators. Make one with New; it is safe for concurrent use.
type Server struct {
	cfg  Config
	grpc *grpc.Server
}

// New checks cfg. It neither listens nor starts anything. It does not insist on a proof
// of who is calling: which listeners need one, the configuration knows.
func New(cfg Config) (*Server, error) {
	if cfg.Current == nil || cfg.Log == nil {
		return nil, errors.New("admin: Current and Log are required")
	}
	s := &Server{cfg: cfg}
	s.grpc = grpc.NewServer(append(options(cfg.TLS), grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
		grpc.UnknownServiceHandler(unknown))...)
	adminv1.RegisterSessionsServer(s.grpc, &sessions{current: cfg.Current})
	h := health.NewServer()
	h.SetServingStatus(adminv1.Sessions_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s.grpc, h)
	reflection.Register(s.grpc)
	return s, nil
}

func options(t *tls.Config) []grpc.ServerOption {
	creds := peerCredentials()
	if t != nil {
		creds = credentials.NewTLS(t)
	}
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxMetadata),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     maxConnectionIdle,
			MaxConnectionAge:      maxConnectionAge,
			MaxConnectionAgeGrace: connectionAgeGrace,
			Time:                  pingInterval,
			Timeout:               pingTimeout,
		}),
	}
}

// unknown answers calls of what is not there, so that they are admitted and logged like
// all others: who tries around without a token shall be seen.
func unknown(any, grpc.ServerStream) error {
	return status.Error(codes.Unimplemented, "no such method")
}

// Serve answers on l until Shutdown, and then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Shutdown lets calls come to their end. When ctx ends first it cuts what is left,
// as it does with watchers of health, and returns an error.
func (s *Server) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		go s.grpc.Stop() // it waits for handshakes under way, and the time is over
		return fmt.Errorf("admin: calls were cut short: %w", context.Cause(ctx))
	}
}
