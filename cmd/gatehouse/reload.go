package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// lookEvery is how often files are looked at for changes. Reading them is
// cheaper than to be told wrongly: mounted volumes replace links, not files.
const lookEvery = 2 * time.Second

// follow reloads on a signal and when files change, until ctx ends.
func (p *program) follow(ctx context.Context, reload <-chan os.Signal) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen, keys := p.contents(), p.keyContents()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			seen = p.contents()
			p.reload()
		case <-tick.C:
			if now := p.contents(); now != seen {
				seen = now
				p.reload()
			}
		}
		if now := p.keyContents(); now != keys {
			keys = now
			p.reloadKeys()
		}
	}
}

// contents is a digest of all files that a graph is built from.
func (p *program) contents() [sha256.Size]byte {
	cfg := p.current.Load().config
	files := []string{p.file}
	for i := range cfg.Providers {
		for _, name := range builtFrom(&cfg.Providers[i]) {
			files = append(files, cfg.Path(name))
		}
	}
	return digest(files)
}

func (p *program) keyContents() [sha256.Size]byte {
	files, _ := p.current.Load().config.SessionKeyFiles() // what is missing changes the digest, too
	return digest(files)
}

func digest(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // the operator names it
		sum := sha256.Sum256(data)
		h.Write([]byte(file))
		h.Write(sum[:])
		if err != nil {
			h.Write([]byte("!"))
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// reload replaces the graph, or keeps it and says why.
func (p *program) reload() {
	before := p.current.Load()
	cfg, err := readConfig(p.file)
	var next *graph
	if err == nil {
		cfg = p.keepWhatStays(cfg, before.config)
		next, err = p.build(cfg, before)
	}
	p.metrics.Reloaded(err == nil)
	if err != nil {
		p.logMistakes(err)
		p.logger().Error("the configuration was not reloaded; the old one stays", "config", p.file)
		return
	}
	for _, w := range cfg.Warnings() {
		p.logger().Warn(w.Error())
	}
	p.log.SetLevel(cfg.Log.Level)
	p.swap(next)
	p.logger().Info("configuration reloaded", "config", p.file, "rules", len(cfg.Rules), "providers", len(cfg.Providers))
}

func (p *program) logMistakes(err error) {
	ms, ok := errors.AsType[config.Mistakes](err)
	if !ok {
		p.logger().Error(err.Error())
		return
	}
	for _, m := range ms {
		p.logger().Error(m.Error())
	}
}

// keepWhatStays warns of changes that only a restart can make, and goes on with
// the old values.
func (p *program) keepWhatStays(next, old *config.Config) *config.Config {
	stays := func(key string, changed bool) {
		if changed {
			p.logger().Warn("this change needs a restart; the old value stays in use", "key", key)
		}
	}
	stays("listen", !reflect.DeepEqual(next.Listen, old.Listen))
	stays("check_timeout", next.CheckTimeout != old.CheckTimeout)
	stays("tracing", !reflect.DeepEqual(next.Tracing, old.Tracing))
	stays("sessions.store", !reflect.DeepEqual(next.Sessions.Store, old.Sessions.Store))
	stays("sessions.activation_delay", next.Sessions.ActivationDelay != old.Sessions.ActivationDelay)
	kept := *next
	kept.Listen, kept.CheckTimeout, kept.Tracing = old.Listen, old.CheckTimeout, old.Tracing
	kept.Sessions.Store, kept.Sessions.ActivationDelay = old.Sessions.Store, old.Sessions.ActivationDelay
	return &kept
}

// swap puts g in the place of the graph before, starts what is new and lets
// what is gone come to its end.
func (p *program) swap(g *graph) {
	before := p.current.Load()
	stays := map[*provider]bool{}
	for _, each := range g.providers {
		stays[each] = true
		if each.stop == nil {
			p.start(each)
		}
	}
	if g.sessions != nil && g.sessions.stop == nil {
		ctx, cancel := context.WithCancel(p.lifetime)
		g.sessions.stop = cancel
		p.running.Go(func() { _ = g.sessions.Run(ctx) })
	}
	p.metrics.SetRules(g.config.RuleNames())
	p.current.Store(g)
	if before == nil {
		return
	}
	for _, each := range before.providers {
		if !stays[each] {
			each.stop()
		}
	}
	if before.login != nil {
		p.detached.Go(func() { before.login.Wait(time.Minute) })
	}
	if before.sessions != nil && before.sessions != g.sessions {
		p.detached.Go(func() {
			before.sessions.Wait(time.Minute)
			before.sessions.stop()
		})
	}
}

// start keeps a provider's discovery and keys fresh.
func (p *program) start(each *provider) {
	ctx, cancel := context.WithCancel(p.lifetime)
	each.stop = cancel
	if each.oidc != nil {
		p.running.Go(func() { _ = each.oidc.Run(ctx) })
	}
}

// reloadKeys takes new sealing keys into use, or keeps the old ones and says why.
func (p *program) reloadKeys() {
	cfg := p.current.Load().config
	if p.ring == nil || len(cfg.Sessions.KeyFiles) == 0 {
		return
	}
	files, err := readKeyFiles(cfg)
	if err == nil {
		err = p.ring.Set(keysOf(files))
	}
	if err != nil {
		p.logger().Error("the sealing keys changed but cannot be used; the old ones stay", "error", err.Error())
		return
	}
	p.logger().Info("sealing keys read again", "keys", len(files))
}

// transport measures and traces the calls to a provider.
func (l *lasting) transport(provider string, base http.RoundTripper) http.RoundTripper {
	return l.metrics.Transport(provider, l.traces.Transport(provider, base))
}
