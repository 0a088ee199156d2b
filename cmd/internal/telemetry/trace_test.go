package telemetry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func recorded(t *testing.T, sample float64) (*Traces, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	return newTraces(recorder, TraceConfig{Sample: sample, Service: "gatehouse"}), recorder
}

func TestCheckSpanIsAChildOfEnvoys(t *testing.T) {
	traces, spans := recorded(t, 0)
	ctx, end := traces.Check(metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", parent)))
	if got := trace.SpanContextFromContext(ctx).TraceID().String(); got != parent[3:35] {
		t.Errorf("trace id %s", got)
	}
	end(&authz.Decision{Outcome: authz.Allow, Rule: "app", Reason: "allowed", Identity: &authz.Identity{Subject: "alice", Tokens: &authz.Tokens{Access: "secret"}}})
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Parent().SpanID().String() != parent[36:52] {
		t.Fatalf("spans = %v", ended)
	}
	text := attributes(ended[0])
	if !strings.Contains(text, "gatehouse.rule=app") || strings.Contains(text, "alice") || strings.Contains(text, "secret") {
		t.Errorf("attributes %s", text)
	}
}

func attributes(s sdktrace.ReadOnlySpan) string {
	var b strings.Builder
	for _, a := range s.Attributes() {
		b.WriteString(string(a.Key) + "=" + a.Value.String() + " ")
	}
	return b.String()
}

func TestCheckSpanWithoutAParent(t *testing.T) {
	for _, md := range []metadata.MD{nil, metadata.Pairs("traceparent", "junk"), metadata.Pairs("traceparent", parent, "traceparent", parent)} {
		traces, spans := recorded(t, 1)
		_, end := traces.Check(metadata.NewIncomingContext(t.Context(), md))
		end(nil)
		if got := spans.Ended(); len(got) != 1 || got[0].Parent().IsValid() {
			t.Errorf("%v: spans = %v", md, got)
		}
	}
	traces, spans := recorded(t, 0)
	_, end := traces.Check(t.Context())
	end(&authz.Decision{})
	if len(spans.Ended()) != 0 {
		t.Error("a span although the sample is 0 and Envoy did not decide")
	}
}

func TestProviderSpanHoldsNoAddress(t *testing.T) {
	var received http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received = r.Header }))
	defer server.Close()
	traces, spans := recorded(t, 1)
	resp, err := (&http.Client{Transport: traces.Transport("corp", http.DefaultTransport)}).Get(server.URL + "/?code=secret")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := spans.Ended(); len(got) != 1 || strings.Contains(attributes(got[0]), "secret") || !strings.Contains(attributes(got[0]), "gatehouse.provider=corp") {
		t.Errorf("spans = %v", got)
	}
	if received.Get("traceparent") != "" {
		t.Error("the provider was told of the trace")
	}
}
