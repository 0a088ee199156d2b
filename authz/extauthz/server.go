// Package extauthz serves an Authorizer over Envoy's gRPC ext_authz v3.
//
// To Envoy an RPC error is not a denial: with failure_mode_allow it is an open
// door. So every way to fail (overload, deadline, panic, a message that cannot
// be read) is answered with a denial of its own, and a Check never ends in an error.
package extauthz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	defaultTimeout     = time.Second
	defaultMaxInFlight = 10_000

	// maxMessage holds Envoy's 60 KiB of headers many times over and no large
	// body: Gatehouse reads none (leave with_request_body unset). A message beyond it is
	// the one Check that ends in an RPC error, before it can reach a handler.
	maxMessage = 1 << 20

	// maxMetadata is beyond what Envoy lets a client send, since Envoy may copy the
	// client's tracing headers into the call.
	maxMetadata = 128 << 10

	handshakeTimeout   = 5 * time.Second
	maxStreams         = 1000 // Envoy opens further connections beyond it; grpc-go's default is no limit (CVE-2023-44487)
	streamWorkers      = 64   // goroutines that stay, with stacks that have grown; when all are busy new ones are made
	maxConnectionAge   = 5 * time.Minute
	connectionAgeGrace = 30 * time.Second // beyond any Check, or Checks of an old connection are torn
	pingInterval       = time.Minute
	pingTimeout        = 10 * time.Second
	minClientPing      = 10 * time.Second // Envoy may ping idle connections; grpc-go's default closes them
)

// Config is what a Server works with.
type Config struct {
	// Current returns the Authorizer to use. It is asked once per Check, so that
	// a reload swaps whole configurations. While it returns nil every Check is denied with 503. Required.
	Current func() *authz.Authorizer

	// Client finds the client's address for logs; nil: the address of the peer.
	Client authz.ClientAddress

	// Timeout is the deadline of one Check; zero: 1 s. When Envoy's own is
	// shorter, that one less an eighth is used. The context that reaches the
	// Authorizer ends with it and not with the client's connection. An
	// Authenticator has to honour it: nobody else can end its work.
	Timeout time.Duration

	// MaxInFlight is how many Checks may be worked on at once; beyond it they are
	// denied with 503. Zero: 10,000.
	MaxInFlight int

	TLS *tls.Config // nil: plain text

	// ClientIDs are the SPIFFE IDs that may connect, exact text. They need a TLS
	// that requires client certificates. None: everybody whom TLS lets in.
	ClientIDs []string

	Reflection bool // serve gRPC reflection

	// Trace, when set, is given the context of the call with Envoy's gRPC metadata and
	// starts a span. The context it returns reaches the Authorizer; the function
	// ends the span. nil: none.
	Trace func(ctx context.Context) (context.Context, func(*authz.Decision))
}

// Server answers Checks. Make one with New; it is safe for concurrent use.
type Server struct {
	cfg      Config
	grpc     *grpc.Server
	health   *health.Server
	stopping chan struct{} // closed when draining has come to GOAWAY
	drained  atomic.Bool
	inFlight atomic.Int64
}

// New checks cfg. It does not listen; the goroutines that will work on Checks wait from
// now on, and end with Drain or Stop.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Current == nil:
		return nil, errors.New("extauthz: Current is required")
	case cfg.Timeout < 0 || cfg.Timeout >= connectionAgeGrace:
		return nil, fmt.Errorf("extauthz: Timeout %v: want more than 0 and less than %v", cfg.Timeout, connectionAgeGrace)
	case cfg.MaxInFlight < 0:
		return nil, fmt.Errorf("extauthz: MaxInFlight %d is negative", cfg.MaxInFlight)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = defaultMaxInFlight
	}
	if cfg.Client == nil {
		cfg.Client = authz.PeerAddress()
	}
	if len(cfg.ClientIDs) > 0 {
		var err error
		if cfg.TLS, err = AllowClients(cfg.TLS, cfg.ClientIDs); err != nil {
			return nil, fmt.Errorf("extauthz: %w", err)
		}
	}
	s := &Server{cfg: cfg, health: health.NewServer(), stopping: make(chan struct{})}
	s.grpc = grpc.NewServer(options(cfg.TLS)...)
	s.grpc.RegisterService(&checkService, s)
	healthpb.RegisterHealthServer(s.grpc, &healthService{Server: s.health, stopping: s.stopping})
	s.health.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	return s, nil
}

func options(t *tls.Config) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxMetadata),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      maxConnectionAge,
			MaxConnectionAgeGrace: connectionAgeGrace,
			Time:                  pingInterval,
			Timeout:               pingTimeout,
		}),
	}
	if t != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(t)))
	}
	return opts
}

// Serve serves Check, health and (behind the flag) reflection on l until Drain
// or Stop, and then returns nil. It may be called for several listeners, which it closes.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// InFlight is how many Checks are being worked on.
func (s *Server) InFlight() int64 { return s.inFlight.Load() }

// Drain answers NOT_SERVING to health checks, goes on serving for pause (until
// every Envoy has noticed), then sends GOAWAY and waits for the Checks in
// flight. When ctx ends first it cuts what is left and returns an error. Only
// the first call does anything.
func (s *Server) Drain(ctx context.Context, pause time.Duration) error {
	if s.drained.Swap(true) {
		return nil
	}
	s.health.Shutdown()
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	close(s.stopping)
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
		return fmt.Errorf("extauthz: %d checks were cut short: %w", s.inFlight.Load(), context.Cause(ctx))
	}
}

// Stop ends at once and tears what is in flight.
func (s *Server) Stop() { s.grpc.Stop() }

// healthService ends the streams of watchers when draining: a GracefulStop
// waits for every stream, and a watcher's never ends by itself.
type healthService struct {
	*health.Server
	stopping <-chan struct{}
}

func (h *healthService) Watch(in *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-h.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return h.Server.Watch(in, &watchStream{Health_WatchServer: stream, ctx: ctx})
}

type watchStream struct {
	healthpb.Health_WatchServer
	ctx context.Context //nolint:containedctx // a stream is where grpc keeps it
}

func (w *watchStream) Context() context.Context { return w.ctx }
