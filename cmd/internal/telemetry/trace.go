package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// TraceConfig is what Traces work with.
type TraceConfig struct {
	Endpoint string  // of the collector; http:// is plain text
	Sample   float64 // share of Checks that are traced when Envoy did not decide
	Service  string
	Version  string
}

// Traces sends spans to a collector. A nil *Traces traces nothing.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTraces does not wait for the collector: while it is away, spans are dropped.
func NewTraces(ctx context.Context, cfg TraceConfig) (*Traces, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
	if err != nil {
		return nil, err
	}
	return newTraces(sdktrace.NewBatchSpanProcessor(exporter), cfg), nil
}

func newTraces(spans sdktrace.SpanProcessor, cfg TraceConfig) *Traces {
	p := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(spans),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.Service),
			attribute.String("service.version", cfg.Version))),
	)
	return &Traces{provider: p, tracer: p.Tracer("gatehouse")}
}

// Check starts the span of one Check as a child of the span that Envoy names in
// the call's gRPC metadata (W3C traceparent). The trace context inside the
// checked request is the client's own word and not used.
func (t *Traces) Check(ctx context.Context) (context.Context, func(*authz.Decision)) {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = propagation.TraceContext{}.Extract(ctx, carrier(md))
	}
	ctx, span := t.tracer.Start(ctx, "gatehouse.Check", trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(d *authz.Decision) {
		if d != nil && span.IsRecording() {
			span.SetAttributes(
				attribute.String("gatehouse.outcome", d.Outcome.String()),
				attribute.String("gatehouse.rule", d.Rule),
				attribute.String("gatehouse.reason", d.Reason))
		}
		span.End()
	}
}

// Transport makes a span of every call to a provider that goes through base.
// The provider is not told of it, and no address becomes an attribute, since
// addresses can carry codes.
func (t *Traces) Transport(provider string, base http.RoundTripper) http.RoundTripper {
	if t == nil {
		return base
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		ctx, span := t.tracer.Start(r.Context(), "gatehouse.provider.call", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("gatehouse.provider", provider), attribute.String("http.request.method", r.Method)))
		defer span.End()
		resp, err := base.RoundTrip(r.WithContext(ctx))
		if err != nil {
			span.SetStatus(codes.Error, "no answer")
			return nil, err
		}
		span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
		return resp, nil
	})
}

// Shutdown sends what is left.
func (t *Traces) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// carrier reads gRPC metadata, of which the keys are lower case.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) == 1 {
		return v[0]
	}
	return ""
}

func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
