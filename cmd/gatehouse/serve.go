package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Answer Envoy's Checks and sign browsers in",
		Long: "Answer Envoy's Checks and sign browsers in, until SIGTERM or SIGINT; a second signal stops at once.\n" +
			"The configuration is read again when it changes and on SIGHUP; one with mistakes is logged and the old one stays.\n" +
			"Exit codes: 0 ended as told, 1 failure, 2 wrong flags or configuration.",
		Args: cobra.NoArgs,
	}
	file := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		sig, stop := watchSignals(cancel)
		defer stop()
		return serve(ctx, *file, c.ErrOrStderr(), sig)
	}
	return c
}

// sameSignal is how close signals must be to be one: some senders tell a process
// and its whole group.
const sameSignal = 300 * time.Millisecond

// told is what a running process can be told, besides to end.
type told struct {
	reload <-chan os.Signal // SIGHUP
	hurry  <-chan struct{}  // closed at the second signal to end
}

// watchSignals calls end at the first SIGTERM or SIGINT.
func watchSignals(end func()) (t told, stop func()) {
	hup, term, hurry, done := make(chan os.Signal, 1), make(chan os.Signal, 2), make(chan struct{}), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case <-term:
			}
			switch {
			case first.IsZero():
				first = time.Now()
				end()
			case time.Since(first) > sameSignal:
				close(hurry)
				return
			}
		}
	}()
	return told{hup, hurry}, func() {
		signal.Stop(hup)
		signal.Stop(term)
		close(done)
	}
}

// program is a running Gatehouse.
type program struct {
	lasting
	file     string
	health   telemetry.Health
	current  atomic.Pointer[graph]
	probed   probed
	detached sync.WaitGroup  // logins of graphs that were replaced
	running  sync.WaitGroup  // what runs until the end
	lifetime context.Context //nolint:containedctx // ends what a reload starts: the process is its owner
}

// serve is the life of a process: read, build, listen, serve, follow changes,
// drain. It ends when ctx does.
func serve(ctx context.Context, file string, logs io.Writer, tell told) error {
	before := digest([]string{file})
	cfg, err := readConfig(file)
	if err != nil {
		return err
	}
	seen := looks{graph: contents(file, cfg), keys: keyContents(cfg)}
	if digest([]string{file}) != before {
		seen.graph = before // changed while it was read: the first look shall find it so
	}
	defer runtime.KeepAlive(headroom())
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	p := &program{file: file, lifetime: lifetime}
	defer func() {
		end()
		p.running.Wait()
	}()
	if err := p.prepare(cfg, logs); err != nil {
		return asFailure(err)
	}
	g, err := p.build(cfg, &graph{})
	if err != nil {
		return asFailure(err)
	}
	doors, err := p.listen(ctx, cfg)
	if err != nil {
		return asFailure(err)
	}
	p.welcome(cfg)
	p.swap(g)
	failed := doors.serve(p.logger())
	p.health.SetReady(true)
	_ = p.log.Flush()
	p.running.Go(func() { p.follow(ctx, tell.reload, seen) })
	p.running.Go(func() { p.probeDoors(ctx) })
	select {
	case err = <-failed:
		p.logger().Error("stopping", "error", err.Error())
	case <-ctx.Done():
		p.logger().Info("draining", "pause", p.current.Load().config.Shutdown.Pause.String())
	}
	_ = p.log.Flush() // whoever watches need not wait for the next second; its error is Run's, too
	return asFailure(errors.Join(err, p.drain(doors, tell.hurry)))
}

// headroom lets garbage of some 64 MiB pile up before it is collected. A heap that is
// nearly empty would be collected a dozen times a second under load, which costs a
// fifth of the time of a Check. The memory itself is never touched, so it takes no room.
func headroom() *[32 << 20]byte { return new([32 << 20]byte) }

// readConfig reads the configuration and makes sure of its files.
func readConfig(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if err := cfg.CheckFiles(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// prepare makes what lasts as long as the process.
func (p *program) prepare(cfg *config.Config, logs io.Writer) (err error) {
	p.log = telemetry.NewLog(logs)
	p.log.SetLevel(cfg.Log.Level)
	p.running.Go(func() { _ = p.log.Run(p.lifetime) })
	if p.metrics, err = telemetry.NewMetrics(buildVersion()); err != nil {
		return err
	}
	if t := cfg.Tracing; t != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.logger().Warn("tracing", "error", err.Error()) }))
		p.traces, err = telemetry.NewTraces(p.lifetime, telemetry.TraceConfig{
			Endpoint: t.OTLPEndpoint, Sample: t.Sample, Service: t.ServiceName, Version: buildVersion(),
		})
		if err != nil {
			return cfg.Mistake("tracing.otlp_endpoint", err.Error(), "", "")
		}
	}
	p.health.Degraded = p.degraded
	if err := errors.Join(p.metrics.Providers(p.providerStates), p.metrics.Probe(p.probed.read), p.metrics.Rules(p.ruleCounts)); err != nil {
		return err
	}
	p.find = p.provider
	return p.prepareSessions(cfg)
}

func (p *program) prepareSessions(cfg *config.Config) (err error) {
	if cfg.Sessions.Store == nil {
		return nil
	}
	if p.ring, err = buildRing(cfg); err != nil {
		return err
	}
	redisstore.LogTo(p.logger())
	store, err := buildStore(cfg, p.logger())
	if err != nil {
		return err
	}
	if memory, ok := store.(*session.Memory); ok {
		p.running.Go(func() { _ = memory.Run(p.lifetime) })
	}
	p.store = timedStore{store, p.metrics.StoreCall}
	return p.metrics.Sessions(p.cached)
}

// ruleCounts is how many rules let everybody pass, and how many do not.
func (p *program) ruleCounts() (anonymous, protected int) {
	g := p.current.Load()
	if g == nil {
		return 0, 0
	}
	anonymous = g.config.AnonymousRules()
	return anonymous, len(g.config.Rules) - anonymous
}

// welcome logs what an operator should know about a start.
func (p *program) welcome(cfg *config.Config) {
	p.logger().Info("starting", "version", buildVersion(), "config", p.file, "rules", len(cfg.Rules), "anonymous_rules", cfg.AnonymousRules(), "providers", len(cfg.Providers))
	for _, w := range cfg.Warnings() {
		p.logger().Warn(w.Error())
	}
	if store, ok := unwrap(p.store).(checkedStore); ok {
		p.running.Go(func() { p.checkStore(store) })
	}
}

// checkedStore is a store that can say what is wrong with its server.
type checkedStore interface {
	Ping(context.Context) error
	Check(context.Context) (warning string, err error)
	Close() error
}

func unwrap(s session.Store) session.Store {
	if timed, ok := s.(timedStore); ok {
		return timed.Store
	}
	return s
}

// checkStore warns once about a server that would lose sessions.
func (p *program) checkStore(store checkedStore) {
	ctx, cancel := context.WithTimeout(p.lifetime, 5*time.Second)
	defer cancel()
	warning, err := store.Check(ctx)
	if err != nil {
		p.logger().Warn("the session store cannot be checked", "error", err.Error())
	}
	if warning != "" {
		p.logger().Warn("the session store may lose sessions", "why", warning)
	}
}

func (p *program) authorizer() *authz.Authorizer {
	if g := p.current.Load(); g != nil {
		return g.authorizer
	}
	return nil
}

func (p *program) client(h authz.Header, peer string) string {
	if g := p.current.Load(); g != nil {
		return g.client(h, peer)
	}
	return peer
}

// providerStates says which providers are ready.
func (p *program) providerStates() map[string]bool {
	states := map[string]bool{}
	if g := p.current.Load(); g != nil {
		for _, each := range g.providers {
			states[each.name] = each.ready()
		}
	}
	return states
}

// degraded names what does not work while requests are served all the same.
func (p *program) degraded() []string {
	var names []string
	for name, ready := range p.providerStates() {
		if !ready {
			names = append(names, "provider "+name)
		}
	}
	if store, ok := unwrap(p.store).(checkedStore); ok {
		ctx, cancel := context.WithTimeout(p.lifetime, 300*time.Millisecond)
		defer cancel()
		if store.Ping(ctx) != nil {
			names = append(names, "store")
		}
	}
	return names
}

// drain takes leave: Envoys are told and given time to notice while everything
// is still answered, then what is under way is finished, within a time.
func (p *program) drain(doors *listeners, hurry <-chan struct{}) error {
	p.health.SetReady(false)
	shutdown := p.current.Load().config.Shutdown
	ctx, cancel := context.WithTimeout(p.lifetime, shutdown.Pause+shutdown.Timeout)
	defer cancel()
	go func() {
		select {
		case <-hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	var group errgroup.Group
	group.Go(func() error { return doors.check.Drain(ctx, shutdown.Pause) })
	for _, d := range doors.doors() {
		if d == doors.ops { // it tells that we are draining
			continue
		}
		group.Go(func() error {
			select {
			case <-time.After(shutdown.Pause):
			case <-ctx.Done():
			}
			return d.Shutdown(ctx)
		})
	}
	if doors.admin != nil {
		group.Go(func() error { p.closeAdmin(ctx, doors.admin, shutdown.Pause); return nil })
	}
	err := group.Wait()
	p.finishLogins(ctx)
	if doors.ops != nil {
		err = errors.Join(err, doors.ops.Server.Close())
	}
	if store, ok := unwrap(p.store).(checkedStore); ok {
		err = errors.Join(err, store.Close())
	}
	err = errors.Join(err, p.traces.Shutdown(ctx))
	if err == nil {
		p.logger().Info("stopped")
	}
	return err
}

// finishLogins waits for code exchanges and renewals: what a provider gave and nobody
// kept is a login lost. Tokens that are being revoked are let finish, too.
func (p *program) finishLogins(ctx context.Context) {
	left := func() time.Duration {
		deadline, ok := ctx.Deadline()
		if !ok {
			return time.Minute
		}
		return max(time.Until(deadline), 0)
	}
	if g := p.current.Load(); g.login != nil {
		g.login.Wait(left())
		g.sessions.Wait(left())
		g.logout.Wait(left())
	}
	done := make(chan struct{})
	go func() {
		p.detached.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// asFailure marks errors that are not mistakes in a configuration.
func asFailure(err error) error {
	if err == nil || errors.As(err, new(config.Mistake)) || errors.As(err, new(config.Mistakes)) {
		return err
	}
	return failure{err}
}
