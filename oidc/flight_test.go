package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// awaitWaiting polls until n callers wait for a reading of keys.
func awaitWaiting(t *testing.T, keys *oidc.RemoteKeys, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); keys.Waiting() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d callers wait, want %d", keys.Waiting(), n)
		}
	}
}

func (i *issuer) remoteKeys() *oidc.RemoteKeys {
	return must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: i.URL + pathJWKS, HTTP: i.Client()}))
}

func over(keys oidc.KeySource) func(*oidc.VerifierConfig) {
	return func(c *oidc.VerifierConfig) { c.Keys = keys }
}

// K2, D4: a token by a key that was published while a reading was under way is not
// refused for what that reading could not see.
func TestK2RotationDuringAReading(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	release := make(chan struct{})
	var readings int // one at a time
	i.handle(pathJWKS, func(w http.ResponseWriter, _ *http.Request) {
		if readings++; readings == 1 {
			<-release
			fmt.Fprint(w, js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}))
			return
		}
		fmt.Fprint(w, js(map[string]any{"keys": []any{jwk("k2", "RS256", rsaOther())}}))
	})
	keys := i.remoteKeys()
	v := i.verifier(over(keys))
	rotated := tok("RS256", `{"alg":"RS256","kid":"k2"}`, js(i.access()), rsaOther())
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := judge(t, v, bearer(i.good())); got != allow {
			t.Errorf("the token that began the reading: %s", got)
		}
	})
	awaitWaiting(t, keys, 1)
	for range 20 {
		wg.Go(func() {
			if got := judge(t, v, bearer(rotated)); got != allow {
				t.Errorf("a token of the key published meanwhile: %s", got)
			}
		})
	}
	awaitWaiting(t, keys, 21)
	close(release)
	wg.Wait()
	if n := i.count(pathJWKS); n != 2 {
		t.Errorf("%d readings, want 2: all who missed the key share one", n)
	}
}

// K10: whoever waits for a slow issuer takes no more than a share of what Check
// can do at once; the next is told at once that it cannot be told.
func TestK10WaitersAreBounded(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	release := make(chan struct{})
	i.handle(pathJWKS, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}))
	})
	keys := i.remoteKeys()
	v := i.verifier(over(keys))
	token := bearer(i.good())
	var wg sync.WaitGroup
	for range oidc.MaxWaiting {
		wg.Go(func() {
			if _, err := v.Authenticate(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	awaitWaiting(t, keys, oidc.MaxWaiting)
	began := time.Now()
	if _, err := v.Authenticate(t.Context(), token); !errors.Is(err, oidc.ErrUnavailable) || !strings.Contains(err.Error(), "wait for it already") {
		t.Errorf("one more: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("one more waited %v", took)
	}
	close(release)
	wg.Wait()
	if n := keys.Waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
	if got := judge(t, v, token); got != allow {
		t.Errorf("afterwards: %s", got)
	}
}

// panicking stands for a bug in what reads a document.
type panicking struct{ on bool }

func (p *panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.on {
		panic("a bug")
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A panic while a document is read is an outage of that issuer, not the end of the process.
func TestPanicInAReading(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	network := &panicking{on: true}
	keys := must(oidc.NewRemoteKeys(oidc.RemoteKeysConfig{URL: i.URL + pathJWKS, HTTP: &http.Client{Transport: network}}))
	v := i.verifier(over(keys))
	if got := judge(t, v, bearer(i.good())); got != unavailable || keys.Status().Failure == nil {
		t.Errorf("keys: %s, status %v", got, keys.Status().Failure)
	}
	p := i.provider(func(c *oidc.ProviderConfig) { c.HTTP = &http.Client{Transport: network} })
	if _, err := p.AuthorizationURL(t.Context(), oidc.AuthRequest{RedirectURI: callback, State: "s", Nonce: nonce, Verifier: verifier}); !errors.Is(err, oidc.ErrUnavailable) || p.Status().Discovery == nil {
		t.Errorf("discovery: %v, status %v", err, p.Status().Discovery)
	}
	network.on = false
	if got := judge(t, v, bearer(i.good())); got != allow {
		t.Errorf("afterwards: %s", got)
	}
}

// D6: discovery and keys behind a bearer token, asked for anew each time and shown
// to nobody else.
func TestD6TokenForTheIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	valid := "first.token"
	guard := func(answer func() string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+valid {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, answer())
		}
	}
	i.handle(pathDiscovery, guard(func() string { return js(i.metadata()) }))
	i.handle(pathJWKS, guard(func() string { return js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}) }))
	file, failure := "first.token", error(nil)
	build := func(with bool) *oidc.Verifier {
		p := i.provider(func(c *oidc.ProviderConfig) {
			c.Client = nil
			if with {
				c.Token = func() (string, error) { return file, failure }
			}
		})
		return i.verifier(over(p.Keys()))
	}
	if got := judge(t, build(false), bearer(i.good())); got != unavailable {
		t.Errorf("without a token: %s", got)
	}
	if got := judge(t, build(true), bearer(i.good())); got != allow {
		t.Errorf("with the token: %s", got)
	}
	valid, file = "second.token", "second.token"
	if got := judge(t, build(true), bearer(i.good())); got != allow {
		t.Errorf("with the next token: %s", got)
	}
	for _, bad := range []string{"", "a\nb", "a b", "stale.token"} {
		file = bad
		v := build(true)
		_, err := v.Authenticate(t.Context(), bearer(i.good()))
		if !errors.Is(err, oidc.ErrUnavailable) || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	failure = errors.New("no such file")
	if got := judge(t, build(true), bearer(i.good())); got != unavailable {
		t.Errorf("no token to be had: %s", got)
	}
}

// Somebody who gives up does not end the reading for the others.
func TestReadingOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	release := make(chan struct{})
	i.handle(pathJWKS, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, js(map[string]any{"keys": []any{jwk("k1", "RS256", rsaKey())}}))
	})
	keys := i.remoteKeys()
	v := i.verifier(over(keys))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := v.Authenticate(ctx, bearer(i.good())); !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("who gave up: %v", err)
		}
	})
	awaitWaiting(t, keys, 1)
	cancel()
	awaitWaiting(t, keys, 0)
	wg.Go(func() {
		if got := judge(t, v, bearer(i.good())); got != allow {
			t.Errorf("who came later: %s", got)
		}
	})
	awaitWaiting(t, keys, 1)
	close(release)
	wg.Wait()
	if n := i.count(pathJWKS); n != 1 {
		t.Errorf("%d readings, want 1", n)
	}
}
