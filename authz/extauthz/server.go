// Package extauthz serves an Authorizer over Envoy's gRPC ext_authz v3.
package extauthz

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Config is what a Server works with.
type Config struct {
	Current     func() *authz.Authorizer // asked once per Check
	Client      authz.ClientAddress
	Timeout     time.Duration // own deadline per Check; default 1 s
	MaxInFlight int           // beyond it: denied 503; default 10,000
	TLS         *tls.Config   // nil: plain text
	ClientIDs   []string      // SPIFFE ids that may call Check; needs client certificates
	Reflection  bool
	// Trace, when set, is given the gRPC metadata's trace context and starts a span; cmd supplies it.
	Trace func(ctx context.Context) (context.Context, func(*authz.Decision))
}

type Server struct{ cfg Config }

func New(cfg Config) (*Server, error) { panic("contract") }

// Serve serves Check, health and (behind the flag) reflection on l until Drain or Stop.
func (s *Server) Serve(l net.Listener) error { panic("contract") }

// Drain answers NOT_SERVING to health checks, goes on serving for pause, then sends GOAWAY
// and waits for the Checks in flight, until ctx ends.
func (s *Server) Drain(ctx context.Context, pause time.Duration) error { panic("contract") }
