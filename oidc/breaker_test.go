package oidc_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// tokenEndpoint is a transport whose discovery is good and whose token endpoint
// answers as a test says.
type tokenEndpoint struct {
	answer func(*http.Request) (int, string, error)
	hits   atomic.Int64
}

func (e *tokenEndpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	const base = "https://idp.test"
	status, body := 200, js(map[string]any{"issuer": base, "authorization_endpoint": base + "/a", "token_endpoint": base + "/t", "jwks_uri": base + pathJWKS})
	if r.URL.Path == "/t" {
		e.hits.Add(1)
		var err error
		if status, body, err = e.answer(r); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

const renewedWithout = `{"access_token":"at-2","token_type":"Bearer","expires_in":300}`

// refresher is a provider with such an endpoint, and a grant to refresh there.
func refresher(answer func(*http.Request) (int, string, error)) (*tokenEndpoint, func(context.Context) error) {
	e := &tokenEndpoint{answer: answer}
	p := must(oidc.NewProvider(oidc.ProviderConfig{
		Name: "corp", Issuer: "https://idp.test", HTTP: &http.Client{Transport: e}, Client: &oidc.ClientConfig{ID: clientID},
	}))
	have := &oidc.Grant{
		Identity: &authz.Identity{Issuer: "https://idp.test", Subject: "alice"},
		Refresh:  "rt-1", IDToken: b64([]byte(es256)) + "." + b64([]byte(`{"sub":"alice"}`)) + ".e30",
	}
	return e, func(ctx context.Context) error {
		_, err := p.Refresh(ctx, have)
		return err
	}
}

// After an outage the provider is asked once per pause, whoever calls; the pause
// grows to half a minute and ends with the first answer.
func TestRefreshBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		e, refresh := refresher(func(*http.Request) (int, string, error) {
			if down {
				return 0, "", errors.New("connection refused")
			}
			return 200, renewedWithout, nil
		})
		var at []time.Time // of the requests
		for range 5 * 60 * 10 {
			before := e.hits.Load()
			if err := refresh(t.Context()); !errors.Is(err, oidc.ErrUnavailable) || errors.Is(err, oidc.ErrRejected) {
				t.Fatal(err)
			}
			if e.hits.Load() > before {
				at = append(at, time.Now())
			}
			time.Sleep(100 * time.Millisecond)
		}
		for n := 1; n < len(at); n++ {
			want := min(time.Second<<(n-1), 30*time.Second)
			if got := at[n].Sub(at[n-1]); got < want*3/4 || got > want+200*time.Millisecond {
				t.Errorf("pause %d was %v, want about %v", n, got, want)
			}
		}
		if len(at) < 12 || len(at) > 20 {
			t.Errorf("%d requests in 5 minutes of outage", len(at))
		}
		down = false
		time.Sleep(31 * time.Second)
		for range 3 {
			if err := refresh(t.Context()); err != nil {
				t.Errorf("once it is up: %v", err)
			}
		}
		down = true // and the next outage begins small again
		_ = refresh(t.Context())
		down = false
		time.Sleep(1100 * time.Millisecond)
		if err := refresh(t.Context()); err != nil {
			t.Errorf("a second after a new outage: %v", err)
		}
	})
}

// One session's trouble is not the others'; trouble of all is.
func TestRefreshOutageOrNot(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		outage bool
	}{
		{400, `{"error":"invalid_grant"}`, false},
		{400, `{"error":"invalid_request"}`, false},
		{400, `{"error":"invalid_scope"}`, false},
		{200, `{"access_token":"a","token_type":"Bearer","id_token":"junk"}`, false},
		{401, `{"error":"invalid_client"}`, true},
		{400, `{"error":"temporarily_unavailable"}`, true},
		{429, ``, true},
		{503, ``, true},
		{200, `<html>`, true},
		{200, `{"token_type":"Bearer"}`, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			status, body := tt.status, tt.body
			_, refresh := refresher(func(*http.Request) (int, string, error) { return status, body, nil })
			if err := refresh(t.Context()); err == nil {
				t.Fatalf("%d %s: no error", tt.status, tt.body)
			}
			status, body = 200, renewedWithout
			if err := refresh(t.Context()); (err != nil) != tt.outage {
				t.Errorf("after %d %s: %v, want left alone: %v", tt.status, tt.body, err, tt.outage)
			}
		})
	}
}

// A caller that leaves says nothing about the provider, not even as the probe.
func TestRefreshLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mode := "hang"
		_, refresh := refresher(func(r *http.Request) (int, string, error) {
			switch mode {
			case "hang":
				<-r.Context().Done()
				return 0, "", r.Context().Err()
			case "down":
				return 503, "", nil
			}
			return 200, renewedWithout, nil
		})
		leave := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := refresh(ctx); !errors.Is(err, oidc.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		leave()
		mode = "down"
		if err := refresh(t.Context()); errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		mode = "hang"
		leave() // it was the probe
		mode = "up"
		if err := refresh(t.Context()); err != nil {
			t.Errorf("the next probe: %v", err)
		}
	})
}

// A call takes 30 seconds at most, and counts as an outage then.
func TestRefreshTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, refresh := refresher(func(r *http.Request) (int, string, error) {
			<-r.Context().Done()
			return 0, "", r.Context().Err()
		})
		began := time.Now()
		if err := refresh(t.Context()); !errors.Is(err, oidc.ErrUnavailable) || time.Since(began) != 30*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if err := refresh(t.Context()); !errors.Is(err, oidc.ErrUnavailable) || time.Since(began) != 30*time.Second || e.hits.Load() != 1 {
			t.Errorf("the next one: %v, %d requests", err, e.hits.Load())
		}
	})
}

// A slow provider binds a bounded number of calls, nobody queues, and only one call
// is the probe. Failures of calls that began together make one pause, not many.
func TestRefreshBulkhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int64
		status.Store(503)
		release := make(chan struct{})
		e, refresh := refresher(func(*http.Request) (int, string, error) {
			<-release
			return int(status.Load()), renewedWithout, nil
		})
		results := make(chan error, 300)
		start := func(n int) {
			for range n {
				go func() { results <- refresh(t.Context()) }()
			}
			synctest.Wait()
		}
		start(150)
		if len(results) != 50 || e.hits.Load() != 100 {
			t.Errorf("%d of 150 failed at once, %d requests; want 50 and 100", len(results), e.hits.Load())
		}
		close(release)
		synctest.Wait()
		for range 150 {
			if err := <-results; !errors.Is(err, oidc.ErrUnavailable) {
				t.Errorf("%v, want unavailable", err)
			}
		}
		status.Store(200)
		release = make(chan struct{})
		time.Sleep(1100 * time.Millisecond) // the first pause, although 100 calls failed
		start(100)
		if len(results) != 99 || e.hits.Load() != 101 {
			t.Errorf("%d of 100 failed at once, %d requests in all; want 99 and one probe", len(results), e.hits.Load())
		}
		close(release)
		synctest.Wait()
		start(100)
		failed := 0
		for range 200 {
			if err := <-results; err != nil {
				failed++
			}
		}
		if failed != 99 {
			t.Errorf("%d failed, want the 99 during the probe", failed)
		}
	})
}
