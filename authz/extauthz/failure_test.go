package extauthz_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

// TestCheckPanics X10.
func TestCheckPanics(t *testing.T) {
	t.Parallel()
	boom := func(context.Context, *authz.Request) (*authz.Identity, error) { panic("boom") }
	tests := []struct {
		name   string
		change func(*authz.Config)
	}{
		{"authenticator", nil},
		{"endpoint", func(cfg *authz.Config) {
			cfg.Endpoints = func(string, string) authz.Endpoint {
				return func(context.Context, *authz.Request) authz.Response { panic("boom") }
			}
		}},
		{"lookup of endpoints", func(cfg *authz.Config) {
			cfg.Endpoints = func(string, string) authz.Endpoint { panic("boom") }
		}},
		{"observer", func(cfg *authz.Config) {
			cfg.Observe = func(*authz.Request, *authz.Decision, time.Duration) { panic("boom") }
		}},
		{"render", func(cfg *authz.Config) {
			cfg.Render = func(*authz.Request, authz.Problem) authz.Response { panic("boom") }
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := authorizer(t, &sessions{t: t, authenticate: boom}, test.change)
			conn := start(t, newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return a }}))
			for range 2 { // the process lives on
				if out := check(t, conn, request("/a", session)); httpStatus(out) != http.StatusInternalServerError {
					t.Errorf("Check = HTTP %d, want 500", httpStatus(out))
				}
			}
		})
	}
}

// What panics outside the Authorizer is denied as well.
func TestCheckPanicsAtTheEdge(t *testing.T) {
	t.Parallel()
	current := fixed(t, nil)
	tests := []struct {
		name   string
		cfg    extauthz.Config
		reason string
	}{
		{"reading", extauthz.Config{Current: current, Client: func(authz.Header, string) string { panic("boom") }}, authz.ReasonPanic},
		{"no authorizer", extauthz.Config{Current: func() *authz.Authorizer { panic("boom") }}, ""},
		{"trace", extauthz.Config{Current: current, Trace: func(context.Context) (context.Context, func(*authz.Decision)) { panic("boom") }}, ""},
	}
	for _, test := range tests {
		out, err := newServer(t, test.cfg).Check(t.Context(), request("/public/a"))
		if err != nil || httpStatus(out) != http.StatusInternalServerError || metadataText(out, "reason") != test.reason {
			t.Errorf("%s: Check = %v, %v, want HTTP 500, reason %q", test.name, out, err, test.reason)
		}
		wellFormed(t, out)
	}
}

func TestCheckWithoutConfiguration(t *testing.T) {
	t.Parallel()
	conn := start(t, newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return nil }}))
	if out := check(t, conn, request("/public/a")); httpStatus(out) != http.StatusServiceUnavailable {
		t.Errorf("Check = HTTP %d, want 503", httpStatus(out))
	}
}

func TestCheckDeadline(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ *authz.Request) (*authz.Identity, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a := authorizer(t, &sessions{t: t, authenticate: hang}, nil)
	conn := start(t, newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return a }, Timeout: 300 * time.Millisecond}))
	for _, patience := range []time.Duration{10 * time.Second, 200 * time.Millisecond} { // Envoy's own default is 200 ms
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		out, err := authv3.NewAuthorizationClient(conn).Check(ctx, request("/a", session))
		cancel()
		if err != nil {
			t.Fatalf("patience %v: Check = %v, want an answer before the caller's deadline", patience, err)
		}
		if took := time.Since(begin); httpStatus(out) != http.StatusServiceUnavailable || took < 100*time.Millisecond || took > 5*time.Second {
			t.Errorf("patience %v: Check = HTTP %d after %v, want 503 at the deadline", patience, httpStatus(out), took)
		}
	}
}

// A refresh under way must not be torn when the browser goes away.
func TestCheckOutlivesTheClient(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	wait := func(ctx context.Context, _ *authz.Request) (*authz.Identity, error) {
		close(asked)
		<-gone
		time.Sleep(50 * time.Millisecond) // the cancellation has to travel
		result <- ctx.Err()
		return alice, nil
	}
	a := authorizer(t, &sessions{t: t, authenticate: wait}, nil)
	conn := start(t, newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return a }, Timeout: 20 * time.Second}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := authv3.NewAuthorizationClient(conn).Check(ctx, request("/a", session))
		done <- err
	}()
	<-asked
	cancel()
	if err := <-done; !errors.Is(ctx.Err(), context.Canceled) || err == nil {
		t.Fatalf("Check = %v, want it cancelled", err)
	}
	close(gone)
	if err := <-result; err != nil {
		t.Errorf("the authenticator's context ended with the client: %v", err)
	}
}

func TestCheckOverload(t *testing.T) {
	t.Parallel()
	const limit = 3
	release, entered := make(chan struct{}), make(chan struct{}, limit)
	wait := func(context.Context, *authz.Request) (*authz.Identity, error) {
		entered <- struct{}{}
		<-release
		return alice, nil
	}
	a := authorizer(t, &sessions{t: t, authenticate: wait}, nil)
	conn := start(t, newServer(t, extauthz.Config{Current: func() *authz.Authorizer { return a }, MaxInFlight: limit, Timeout: 20 * time.Second}))
	results := make(chan *authv3.CheckResponse, limit)
	for range limit {
		go func() {
			out, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), request("/a", session))
			if err != nil {
				t.Error(err)
			}
			results <- out
		}()
	}
	for range limit {
		<-entered
	}
	out := check(t, conn, request("/public/a"))
	if httpStatus(out) != http.StatusServiceUnavailable || metadataText(out, "reason") != authz.ReasonOverloaded {
		t.Errorf("Check beyond the limit = HTTP %d, reason %q, want 503, overloaded", httpStatus(out), metadataText(out, "reason"))
	}
	close(release)
	for range limit {
		if out := <-results; out.GetOkResponse() == nil {
			t.Errorf("Check within the limit = %v, want an allow", out)
		}
	}
	if out := check(t, conn, request("/public/a")); out.GetOkResponse() == nil {
		t.Errorf("Check after the load = HTTP %d, want an allow", httpStatus(out))
	}
}

func TestCheckTrace(t *testing.T) {
	t.Parallel()
	type key struct{}
	var ended []string
	a := authorizer(t, &sessions{t: t, authenticate: func(ctx context.Context, _ *authz.Request) (*authz.Identity, error) {
		if ctx.Value(key{}) != "span" {
			t.Error("the span does not reach the authenticator")
		}
		return alice, nil
	}}, nil)
	s := newServer(t, extauthz.Config{
		Current: func() *authz.Authorizer { return a },
		Trace: func(ctx context.Context) (context.Context, func(*authz.Decision)) {
			return context.WithValue(ctx, key{}, "span"), func(d *authz.Decision) { ended = append(ended, d.Reason) }
		},
	})
	_, _ = s.Check(t.Context(), request("/a", session))
	if !slices.Equal(ended, []string{authz.ReasonAllowed}) {
		t.Errorf("spans ended with %q, want one with %q", ended, authz.ReasonAllowed)
	}
}
