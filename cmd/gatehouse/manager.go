package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// sessions is a session manager at work. It lives on over reloads as long as its
// limits stay the same: what it knows of endings and renewals is not lost.
type sessions struct {
	*session.Manager
	limits limits
	stop   context.CancelFunc // nil until started
}

// limits is what a manager is made of, besides what lasts as long as the process.
type limits struct {
	idle, absolute, storeGrace, providerGrace time.Duration
	notBefore                                 time.Time
	cacheMiB                                  int
}

func limitsOf(s *config.Sessions) limits {
	return limits{s.IdleTimeout, s.AbsoluteTimeout, s.StoreGrace, s.ProviderGrace, s.NotBefore.UTC(), s.CacheMiB}
}

// manage makes the manager of cfg, or takes over the running one (nil: none).
func (l *lasting) manage(cfg *config.Config, running *sessions) (*sessions, error) {
	s := &cfg.Sessions
	if running != nil && running.limits == limitsOf(s) {
		return running, nil
	}
	cache := int64(s.CacheMiB) << 20
	if cache == 0 {
		cache = -1
	}
	m, err := session.New(session.Config{
		Store: l.store, Ring: l.ring, IdleTimeout: s.IdleTimeout, AbsoluteTimeout: s.AbsoluteTimeout, NotBefore: s.NotBefore,
		StoreGrace: s.StoreGrace, ProviderGrace: s.ProviderGrace, CacheBytes: cache,
		Renew: login.Renew(l.find, l.logger()), Event: l.sessionEvent,
	})
	if err != nil {
		return nil, err
	}
	return &sessions{Manager: m, limits: limitsOf(s)}, nil
}

// sessionEvent counts what happens to sessions, and logs what an operator should know.
func (l *lasting) sessionEvent(e session.Event) {
	l.metrics.SessionEvent(e.Kind)
	level, known := eventLevels[e.Kind]
	if !known {
		level = slog.LevelWarn
	}
	var attrs []slog.Attr
	if e.Session != "" {
		attrs = append(attrs, slog.String("session", e.Session))
	}
	if e.Err != nil && !errors.Is(e.Err, context.Canceled) {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	l.logger().LogAttrs(context.Background(), level, "session_"+e.Kind, attrs...)
}

var eventLevels = map[string]slog.Level{
	session.EventRenewed:     slog.LevelDebug,
	session.EventRenewFailed: slog.LevelWarn,
	session.EventRevoked:     slog.LevelInfo,
	session.EventStale:       slog.LevelDebug, // one for every request: the metric counts them
	session.EventReturned:    slog.LevelWarn,
	session.EventAlive:       slog.LevelInfo,
	session.EventLost:        slog.LevelWarn,
}

// provider finds a login provider in the configuration of now; nil: there is none.
func (p *program) provider(name string) *oidc.Provider {
	if g := p.current.Load(); g != nil {
		return g.provider(name)
	}
	return nil
}

// cached says what the local cache holds, for metrics.
func (p *program) cached() (held int, bytes int64, alive bool) {
	if g := p.current.Load(); g != nil && g.sessions != nil {
		return g.sessions.Cached()
	}
	return 0, 0, false
}
