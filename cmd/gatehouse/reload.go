package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// lookEvery is how often files are looked at for changes. Reading them is
// cheaper than to be told wrongly: mounted volumes replace links, not files.
const lookEvery = 2 * time.Second

// follow reloads on a signal and when files differ from what was seen before they
// were read, until ctx ends.
func (p *program) follow(ctx context.Context, reload <-chan os.Signal, seen looks) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	graph, keys := attempt{seen: seen.graph}, attempt{seen: seen.keys}
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			graph.make(contents(p.file, p.current.Load().config), true, p.reload, p.notReloaded)
		case <-tick.C:
			if now := contents(p.file, p.current.Load().config); graph.due(now) {
				graph.make(now, false, p.reload, p.notReloaded)
			}
		}
		if now := keyContents(p.current.Load().config); keys.due(now) {
			keys.make(now, false, p.reloadKeys, p.keysNotReloaded)
		}
	}
}

// looks is what files contained before they were read: what is written meanwhile
// shows at the next look.
type looks struct{ graph, keys [sha256.Size]byte }

// attempt is the last one to use what stands in some files.
type attempt struct {
	seen  [sha256.Size]byte // what they contained, before they were read
	wrong string            // why it could not be used; empty: it is in use
	again time.Time         // not to be tried again before
}

// due reports whether to try. What failed is tried again even if nothing seems to have
// changed: the file that was missing may be none that was looked at, or have been missing
// for a moment only, between two looks.
func (a *attempt) due(now [sha256.Size]byte) bool {
	return now != a.seen || a.wrong != "" && !time.Now().Before(a.again)
}

// make tries, and says what is wrong unless it said the same about the same before. A
// failure takes at most a twentieth of the time until it is over.
func (a *attempt) make(now [sha256.Size]byte, asked bool, try func() error, say func(error)) {
	start, said := time.Now(), ""
	if now == a.seen && !asked {
		said = a.wrong
	}
	err := try()
	*a = attempt{seen: now, again: time.Now().Add(20 * time.Since(start))}
	if err == nil {
		return
	}
	if a.wrong = err.Error(); a.wrong != said {
		say(err)
	}
}

// contents is a digest of all files that a graph is built from.
func contents(file string, cfg *config.Config) [sha256.Size]byte {
	files := []string{file}
	for i := range cfg.Providers {
		for _, name := range builtFrom(&cfg.Providers[i]) {
			files = append(files, cfg.Path(name))
		}
	}
	return digest(files)
}

func keyContents(cfg *config.Config) [sha256.Size]byte {
	files, _ := cfg.SessionKeyFiles() // what is missing changes the digest, too
	return digest(files)
}

// digest tells what files contain, and which of them cannot be read.
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

// reload replaces the graph, or keeps it and returns why.
func (p *program) reload() error {
	before := p.current.Load()
	cfg, err := readConfig(p.file)
	if err != nil {
		return err
	}
	cfg, kept := keepWhatStays(cfg, before.config)
	next, err := p.build(cfg, before)
	if err != nil && len(kept) > 0 { // an old value may be what does not fit
		return fmt.Errorf("%w (until a restart the old values of %s stay in use)", err, strings.Join(kept, ", "))
	}
	if err != nil {
		return err
	}
	p.metrics.Reloaded(true)
	for _, key := range kept {
		p.logger().Warn("this change needs a restart; the old value stays in use", "key", key)
	}
	for _, w := range cfg.Warnings() {
		p.logger().Warn(w.Error())
	}
	p.log.SetLevel(cfg.Log.Level)
	p.swap(next)
	p.logger().Info("configuration reloaded", "config", p.file, "rules", len(cfg.Rules), "providers", len(cfg.Providers))
	return nil
}

func (p *program) notReloaded(err error) {
	p.metrics.Reloaded(false)
	p.logMistakes(err)
	p.logger().Error("the configuration was not reloaded; the old one stays", "config", p.file)
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

// keepWhatStays is next with the old values of what only a restart can change, and the
// keys of those that differ.
func keepWhatStays(next, old *config.Config) (_ *config.Config, keys []string) {
	stays := func(key string, changed bool) {
		if changed {
			keys = append(keys, key)
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
	return &kept, keys
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
		if before != nil && before.sessions != nil {
			g.sessions.Inherit(before.sessions.Manager)
		}
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
		p.detached.Go(func() { before.login.Wait(time.Minute); before.logout.Wait(time.Minute) })
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
	p.running.Go(func() { each.run(ctx) })
}

// reloadKeys takes new sealing keys into use, or keeps the old ones and returns why.
func (p *program) reloadKeys() error {
	cfg := p.current.Load().config
	if p.ring == nil || len(cfg.Sessions.KeyFiles) == 0 {
		return nil
	}
	files, err := readKeyFiles(cfg)
	if err != nil {
		return err
	}
	before := p.ring.Schedule(cfg.Sessions.AbsoluteTimeout, nil)
	if err := p.ring.Set(keysOf(files)); err != nil {
		return err
	}
	p.logger().Info("sealing keys read again", "keys", len(files))
	for _, w := range badRotation(before, p.ring.Schedule(cfg.Sessions.AbsoluteTimeout, nil)) {
		p.logger().Warn(w)
	}
	return nil
}

func (p *program) keysNotReloaded(err error) {
	p.logger().Error("the sealing keys changed but cannot be used; the old ones stay", "error", err.Error())
}

// badRotation says what a change of keys costs: "gatehouse keys list" would have told.
func badRotation(before, after []seal.Duty) (warnings []string) {
	is := func(id string) func(seal.Duty) bool { return func(d seal.Duty) bool { return d.ID == id } }
	sealed := false // newest first: the key that seals, and those behind it, have sealed
	for _, d := range before {
		if sealed = sealed || d.Seals; sealed && !d.Spare && !slices.ContainsFunc(after, is(d.ID)) {
			warnings = append(warnings, "sealing key "+d.ID+" was removed while it was needed: what it sealed does not open any more, until its file is back")
		}
	}
	for _, d := range after {
		if d.Seals && !slices.ContainsFunc(before, is(d.ID)) {
			warnings = append(warnings, "sealing key "+d.ID+" came too late and seals at once: replicas that do not have it yet cannot open what it seals; put keys in place within sessions.activation_delay of their creation")
		}
	}
	return warnings
}

// transport measures and traces the calls to a provider.
func (l *lasting) transport(provider string, base http.RoundTripper) http.RoundTripper {
	return l.metrics.Transport(provider, l.traces.Transport(provider, base))
}
