package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
)

// listeners are the doors of a process. They stay the same over reloads.
type listeners struct {
	check *extauthz.Server
	grpc  net.Listener
	http  *door      // nil: not configured
	ops   *door      // nil: not configured
	admin *adminDoor // nil: not configured
	asked []*door    // by proxies over HTTP
}

// doors are those of plain HTTP.
func (l *listeners) doors() []*door {
	all := slices.Clone(l.asked)
	for _, d := range []*door{l.http, l.ops} {
		if d != nil {
			all = append(all, d)
		}
	}
	return all
}

// door is an HTTP server with its listener.
type door struct {
	name string
	*http.Server
	net.Listener
}

// listen opens every configured address, so that a busy one is known before anything is served.
func (p *program) listen(ctx context.Context, cfg *config.Config) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.check, err = p.checkServer(cfg); err != nil {
		return nil, err
	}
	if err = p.metrics.InFlight(l.check.InFlight); err != nil {
		return nil, err
	}
	if l.grpc, err = open(ctx, "listen.grpc", cfg, cfg.Listen.GRPC.Address); err != nil {
		return nil, err
	}
	if l.http, err = p.openDoor(ctx, cfg, "http", cfg.Listen.HTTP, p.endpoints()); err != nil {
		return nil, err
	}
	if l.ops, err = p.openDoor(ctx, cfg, "ops", cfg.Listen.Ops, telemetry.NewOps(&p.health, p.metrics)); err != nil {
		return nil, err
	}
	if l.admin, err = p.openAdmin(ctx, cfg); err != nil {
		return nil, err
	}
	l.asked, err = p.openForwardAuth(ctx, cfg)
	return l, err
}

func (p *program) checkServer(cfg *config.Config) (*extauthz.Server, error) {
	grpc := cfg.Listen.GRPC
	tlsConfig, err := serverTLS(cfg, grpc.TLS, p.logger(), "h2")
	if err != nil {
		return nil, cfg.Mistake("listen.grpc.tls", err.Error(), "", "")
	}
	ec := extauthz.Config{
		Current: p.authorizer, Client: p.client, Timeout: cfg.CheckTimeout, MaxInFlight: grpc.MaxInFlight,
		TLS: tlsConfig, Reflection: grpc.Reflection,
	}
	if grpc.TLS != nil {
		ec.ClientIDs = grpc.TLS.ClientIDs
	}
	if p.traces != nil {
		ec.Trace = p.traces.Check
	}
	return extauthz.New(ec)
}

// openDoor returns nil when h is nil.
func (p *program) openDoor(ctx context.Context, cfg *config.Config, name string, h *config.HTTP, handler http.Handler) (*door, error) {
	if h == nil {
		return nil, nil //nolint:nilnil // the listener is not configured
	}
	tlsConfig, err := serverTLS(cfg, h.TLS, p.logger(), "h2", "http/1.1")
	if err == nil && h.TLS != nil && len(h.TLS.ClientIDs) > 0 {
		tlsConfig, err = extauthz.AllowClients(tlsConfig, h.TLS.ClientIDs)
	}
	if err != nil {
		return nil, cfg.Mistake("listen."+name+".tls", err.Error(), "", "")
	}
	l, err := open(ctx, "listen."+name, cfg, h.Address)
	if err != nil {
		return nil, err
	}
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	return &door{name: name, Listener: l, Server: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second, // a login may wait 30 s for its provider
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(p.logger().Handler(), slog.LevelDebug),
	}}, nil
}

func open(ctx context.Context, key string, cfg *config.Config, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, cfg.Mistake(key+".address", "cannot listen: "+err.Error(), "", "free the port or choose another one")
	}
	return l, nil
}

// serve runs every server and returns the first error of one that ended before it was told to.
func (l *listeners) serve(log *slog.Logger) <-chan error {
	failed := make(chan error, 2+len(l.doors()))
	run := func(name string, at net.Listener, serve func() error) {
		log.Info("listening", "listener", name, "address", at.Addr().String())
		go func() {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s listener: %w", name, err)
			}
		}()
	}
	run("grpc", l.grpc, func() error { return l.check.Serve(l.grpc) })
	for _, d := range l.doors() {
		run(d.name, d.Listener, func() error { return d.Serve(d.Listener) })
	}
	if a := l.admin; a != nil {
		run("admin", a.Listener, func() error { return a.Serve(a.Listener) })
	}
	return failed
}

// close frees what listen opened when nothing was served yet.
func (l *listeners) close() {
	if l.check != nil {
		l.check.Stop()
	}
	if l.grpc != nil {
		_ = l.grpc.Close()
	}
	for _, d := range l.doors() {
		_ = d.Listener.Close()
	}
	if l.admin != nil {
		_ = l.admin.Close()
	}
}
