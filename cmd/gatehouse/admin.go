package main

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// adminDoor is the admin API with its listener.
type adminDoor struct {
	*admin.Server
	net.Listener
}

// openAdmin returns nil when no admin listener is configured.
func (p *program) openAdmin(ctx context.Context, cfg *config.Config) (*adminDoor, error) {
	a := cfg.Listen.Admin
	if a == nil {
		return nil, nil //nolint:nilnil // the listener is not configured
	}
	ac := admin.Config{Current: p.operated, Log: p.log.Audit()}
	var err error
	if ac.TLS, err = p.adminTLS(cfg, a.TLS); err != nil {
		return nil, cfg.Mistake("listen.admin.tls", err.Error(), "", "")
	}
	if a.TokenFile != "" {
		path := cfg.Path(a.TokenFile)
		ac.Token = func() (string, error) { return config.ReadSecret(path) }
		token, err := ac.Token()
		if err == nil {
			err = admin.CheckToken(token)
		}
		if err != nil {
			return nil, cfg.Mistake("listen.admin.token_file", err.Error(), "", "")
		}
	}
	server, err := admin.New(ac)
	if err != nil {
		return nil, err
	}
	l, err := openAdminListener(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &adminDoor{server, l}, nil
}

// adminTLS is that of Check: files read again when they change, callers by SPIFFE ID.
func (p *program) adminTLS(cfg *config.Config, t *config.TLS) (*tls.Config, error) {
	c, err := serverTLS(cfg, t, p.logger(), "h2")
	if err != nil || t == nil || len(t.ClientIDs) == 0 {
		return c, err
	}
	return extauthz.AllowClients(c, t.ClientIDs)
}

func openAdminListener(ctx context.Context, cfg *config.Config) (net.Listener, error) {
	path, ok := cfg.Listen.Admin.Socket()
	if !ok {
		return open(ctx, "listen.admin", cfg, cfg.Listen.Admin.Address)
	}
	l, err := admin.ListenSocket(ctx, path)
	if err != nil {
		return nil, cfg.Mistake("listen.admin.address", "cannot listen: "+err.Error(), "", "the directory must be there and writable for this process, and nobody else's socket in it")
	}
	return l, nil
}

// operated is what operators work on: the graph of the moment.
func (p *program) operated() admin.Current {
	g := p.current.Load()
	if g == nil {
		return admin.Current{}
	}
	c := admin.Current{Issuers: map[string]string{}}
	if g.sessions != nil {
		c.Sessions = g.sessions.Manager
	}
	for i := range g.config.Providers {
		c.Issuers[g.config.Providers[i].Name] = g.config.Providers[i].Issuer
	}
	return c
}

// adminPatience is how long an end waits for operators' calls. A stream of reflection
// that somebody left open never ends by itself.
const adminPatience = 5 * time.Second

// closeAdmin serves operators for pause, as everything is, and then takes leave. That a
// call of theirs was cut is no failure of the drain: they are told.
func (p *program) closeAdmin(ctx context.Context, door *adminDoor, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	if err := door.Shutdown(ctx); err != nil {
		p.logger().Warn("stopping", "error", err.Error())
	}
}
