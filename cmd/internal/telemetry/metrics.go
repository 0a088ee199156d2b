package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// reasons are all values of the label reason; anything else is counted as "other".
var reasons = []string{
	authz.ReasonAllowed, authz.ReasonAnonymous, authz.ReasonPassage, authz.ReasonNoRule, authz.ReasonAmbiguousPath, authz.ReasonMalformed, authz.ReasonWiring,
	authz.ReasonNoCredentials, authz.ReasonBadCredentials, authz.ReasonCondition, authz.ReasonHeadersTooLarge,
	authz.ReasonUnavailable, authz.ReasonOverloaded, authz.ReasonPanic, authz.ReasonEndpoint, "other",
}

const outcomes = 3

// Metrics counts and measures. Labels come from the configuration and from
// fixed lists, so requests cannot make new series. Safe for concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	provider  *sdkmetric.MeterProvider
	decisions metric.Int64Counter
	duration  metric.Float64Histogram
	calls     metric.Float64Histogram
	store     metric.Float64Histogram
	reloads   metric.Int64Counter
	sessions  metric.Int64Counter
	faults    metric.Int64Counter
	reasons   map[string]int
	outcomes  [outcomes][]metric.RecordOption
	rules     atomic.Pointer[map[string]*series] // by rule; "" for what no rule decided
}

// series are the ready label sets of one rule, made when first used.
type series struct {
	rule string
	adds [][]atomic.Pointer[[]metric.AddOption] // by outcome and reason
}

// NewMetrics makes the instruments and, beside them, those of the Go runtime and the process.
func NewMetrics(version string) (*Metrics, error) {
	m := &Metrics{registry: prometheus.NewRegistry(), reasons: map[string]int{}}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(m.registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	// The number of series is bounded by the configuration, so no further limit is needed, and
	// dropping the series of the 2001st rule would be wrong.
	m.provider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithCardinalityLimit(0))
	for i, reason := range reasons {
		m.reasons[reason] = i
	}
	for o := range outcomes {
		m.outcomes[o] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", authz.Outcome(o).String())))}
	}
	m.SetRules(nil)
	return m, m.instruments(version)
}

func (m *Metrics) instruments(version string) error {
	meter := m.provider.Meter("gatehouse")
	var errs [8]error
	m.decisions, errs[0] = meter.Int64Counter("gatehouse.decisions", metric.WithDescription("Decisions by rule, outcome and reason."))
	m.duration, errs[1] = meter.Float64Histogram("gatehouse.check.duration", metric.WithUnit("s"), metric.WithDescription("Time to reach a decision."),
		metric.WithExplicitBucketBoundaries(.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1))
	m.calls, errs[2] = meter.Float64Histogram("gatehouse.provider.call.duration", metric.WithUnit("s"), metric.WithDescription("Calls to providers by result (HTTP status class or error)."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	m.store, errs[3] = meter.Float64Histogram("gatehouse.store.call.duration", metric.WithUnit("s"), metric.WithDescription("Calls to the session store by operation and result."),
		metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1))
	m.reloads, errs[4] = meter.Int64Counter("gatehouse.config.reloads", metric.WithDescription("Attempts to reload the configuration by result."))
	m.sessions, errs[5] = meter.Int64Counter("gatehouse.session.events", metric.WithDescription("What happens to sessions, by kind of event."))
	m.faults, errs[6] = meter.Int64Counter("gatehouse.forward_auth.faults", metric.WithDescription("Questions of proxies that are set up wrongly, by listener and kind of fault."))
	_, errs[7] = meter.Int64ObservableGauge("gatehouse.build.info", metric.WithDescription("Always 1; the version is a label."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(1, metric.WithAttributes(attribute.String("version", version)))
			return nil
		}))
	return errors.Join(errs[:]...)
}

// Handler serves the metrics in Prometheus' formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// SetRules says which rules there are: a new configuration. Counts of rules that stay go on.
func (m *Metrics) SetRules(names []string) {
	rules := map[string]*series{"": newSeries("")}
	for _, name := range names {
		rules[name] = newSeries(name)
	}
	m.rules.Store(&rules)
}

func newSeries(rule string) *series {
	s := &series{rule: rule, adds: make([][]atomic.Pointer[[]metric.AddOption], outcomes)}
	for o := range s.adds {
		s.adds[o] = make([]atomic.Pointer[[]metric.AddOption], len(reasons))
	}
	return s
}

// Observe counts and measures one decision.
func (m *Metrics) Observe(_ *authz.Request, d *authz.Decision, took time.Duration) {
	outcome := int(d.Outcome)
	if outcome < 0 || outcome >= outcomes {
		outcome = int(authz.Deny)
	}
	ctx := context.Background()
	m.decisions.Add(ctx, 1, m.labels(d.Rule, outcome, d.Reason)...)
	m.duration.Record(ctx, took.Seconds(), m.outcomes[outcome]...)
}

func (m *Metrics) labels(rule string, outcome int, reason string) []metric.AddOption {
	rules := *m.rules.Load()
	s := rules[rule]
	if s == nil { // a decision of the configuration before a reload
		s = rules[""]
	}
	i, known := m.reasons[reason]
	if !known {
		i = len(reasons) - 1
	}
	slot := &s.adds[outcome][i]
	if ready := slot.Load(); ready != nil {
		return *ready
	}
	ready := []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
		attribute.String("rule", s.rule),
		attribute.String("outcome", authz.Outcome(outcome).String()),
		attribute.String("reason", reasons[i])))}
	slot.Store(&ready)
	return ready
}

// Reloaded counts an attempt to reload the configuration.
func (m *Metrics) Reloaded(ok bool) {
	result := "success"
	if !ok {
		result = "failure"
	}
	m.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", result)))
}

// StoreCall measures a call to the session store. The operation is one of a fixed list.
func (m *Metrics) StoreCall(operation string, err error, took time.Duration) {
	result := "success"
	if err != nil {
		result = "error"
	}
	m.store.Record(context.Background(), took.Seconds(), metric.WithAttributes(attribute.String("operation", operation), attribute.String("result", result)))
}

// SessionEvent counts something that happened to a session. The kind is one of a fixed list.
func (m *Metrics) SessionEvent(kind string) {
	m.sessions.Add(context.Background(), 1, metric.WithAttributes(attribute.String("event", kind)))
}

// Miswired counts a question that shows a mistake in how a proxy is set up. The listener
// comes from the configuration, and the kind is one of a fixed list.
func (m *Metrics) Miswired(listener, kind string) {
	m.faults.Add(context.Background(), 1, metric.WithAttributes(attribute.String("listener", listener), attribute.String("kind", kind)))
}

// Sessions shows the local cache: how many sessions it holds, their size, and whether
// endings are told. read is called at every scrape.
func (m *Metrics) Sessions(read func() (held int, bytes int64, alive bool)) error {
	meter := m.provider.Meter("gatehouse")
	cached, err1 := meter.Int64ObservableGauge("gatehouse.session.cached", metric.WithDescription("Sessions held opened in memory."))
	size, err2 := meter.Int64ObservableGauge("gatehouse.session.cached.size", metric.WithUnit("By"), metric.WithDescription("What they are accounted for."))
	feed, err3 := meter.Int64ObservableGauge("gatehouse.session.feed.alive", metric.WithDescription("1 while the store tells promptly which sessions end; else every session is proven at the store."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		held, bytes, alive := read()
		o.ObserveInt64(cached, int64(held))
		o.ObserveInt64(size, bytes)
		var v int64
		if alive {
			v = 1
		}
		o.ObserveInt64(feed, v)
		return nil
	}, cached, size, feed)
	return err
}

// Rules shows how many rules let everybody pass, and how many do not. read is called
// at every scrape.
func (m *Metrics) Rules(read func() (anonymous, protected int)) error {
	_, err := m.provider.Meter("gatehouse").Int64ObservableGauge("gatehouse.rules", metric.WithDescription("Rules by whom they let pass: anonymous (everybody) or protected."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			anonymous, protected := read()
			o.Observe(int64(anonymous), metric.WithAttributes(attribute.String("access", "anonymous")))
			o.Observe(int64(protected), metric.WithAttributes(attribute.String("access", "protected")))
			return nil
		}))
	return err
}

// Probe shows which protected origins did not refuse a stranger when they were asked
// last. read is called at every scrape.
func (m *Metrics) Probe(read func() map[ProbeDoor]bool) error {
	_, err := m.provider.Meter("gatehouse").Int64ObservableGauge("gatehouse.probe.failed", metric.WithDescription("1 when a protected host let a stranger in, or could not be asked."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for door, failed := range read() {
				var v int64
				if failed {
					v = 1
				}
				o.Observe(v, metric.WithAttributes(attribute.String("rule", door.Rule), attribute.String("origin", door.Origin)))
			}
			return nil
		}))
	return err
}

// ProbeDoor is a protected origin and the rule that protects it; both are configuration.
type ProbeDoor struct{ Rule, Origin string }

// InFlight shows how many Checks are being worked on. read is called at every scrape.
func (m *Metrics) InFlight(read func() int64) error {
	_, err := m.provider.Meter("gatehouse").Int64ObservableGauge("gatehouse.checks.in_flight", metric.WithDescription("Checks being worked on."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(read())
			return nil
		}))
	return err
}

// Providers shows which providers are ready. read is called at every scrape.
func (m *Metrics) Providers(read func() map[string]bool) error {
	_, err := m.provider.Meter("gatehouse").Int64ObservableGauge("gatehouse.provider.ready", metric.WithDescription("1 when the provider's configuration and keys have been read."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for name, ready := range read() {
				var v int64
				if ready {
					v = 1
				}
				o.Observe(v, metric.WithAttributes(attribute.String("provider", name)))
			}
			return nil
		}))
	return err
}

// Transport measures the calls to one provider that go through base.
func (m *Metrics) Transport(provider string, base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		start := time.Now()
		resp, err := base.RoundTrip(r)
		result := "error"
		if err == nil {
			result = fmt.Sprintf("%dxx", min(max(resp.StatusCode/100, 1), 5))
		}
		m.calls.Record(r.Context(), time.Since(start).Seconds(), metric.WithAttributes(attribute.String("provider", provider), attribute.String("result", result)))
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
