package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of every call to a provider. A body is counted after decompression.
const (
	maxDocument     = 256 << 10
	documentTimeout = 10 * time.Second
	tokenTimeout    = 30 * time.Second
)

// limited returns a client that uses base's transport but never follows a
// redirect: a provider's address is configuration, and whoever can plant a
// redirect must not choose whom we believe.
func limited(base *http.Client) *http.Client {
	c := &http.Client{}
	if base != nil {
		c.Transport, c.Timeout = base.Transport, base.Timeout
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// answer is an HTTP response read whole, within the limits.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends req. Its errors wrap ErrUnavailable; a redirect is one of them.
func call(client *http.Client, req *http.Request) (*answer, error) {
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, fmt.Errorf("%w: %s answers %d, a redirect to %.200q; redirects are not followed, the final address has to be configured",
			ErrUnavailable, where(req), resp.StatusCode, resp.Header.Get("Location"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrUnavailable, where(req), err)
	}
	if len(body) > maxDocument {
		return nil, fmt.Errorf("%w: %s answers more than %d KiB", ErrUnavailable, where(req), maxDocument>>10)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// document reads a JSON document of a provider within documentTimeout. token, when
// not nil, supplies a bearer token for it. Discovery decides by its jwks_uri who else
// gets that token, which adds nobody: who answers discovery has it by then.
func document(ctx context.Context, client *http.Client, address string, token func() (string, error)) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if token != nil {
		if err := present(req, token); err != nil {
			return nil, err
		}
	}
	a, err := call(client, req)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("%w: %s answers %d", ErrUnavailable, where(req), a.status)
	}
	return a, nil
}

// present adds the bearer token that is ours (RFC 6750 section 2.1).
func present(req *http.Request, token func() (string, error)) error {
	value, err := token()
	switch {
	case err != nil:
		return fmt.Errorf("%w: the token for the provider: %w", ErrUnavailable, err)
	case !token68(value):
		return fmt.Errorf("%w: the token for the provider is empty or holds what no token does", ErrUnavailable)
	}
	req.Header.Set("Authorization", "Bearer "+value)
	return nil
}

// where names the address of a request without its query.
func where(req *http.Request) string {
	return req.URL.Scheme + "://" + req.URL.Host + req.URL.EscapedPath()
}

// checkAddress accepts an absolute https URL without user, fragment and (for an
// issuer, OpenID Connect Discovery 1.0 section 2) query. Plain http is accepted
// only on loopback names, and only where allowed.
func checkAddress(address string, plainHTTP bool) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%.200q is not a URL", address)
	case u.Host == "" || u.Opaque != "" || u.User != nil || strings.ContainsRune(address, '#'):
		return nil, fmt.Errorf("%.200q is not an absolute URL without user and fragment", address)
	case u.Scheme == "https":
		return u, nil
	case u.Scheme == "http" && plainHTTP && loopback(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("%.200q does not begin with https:// (http:// is for an issuer on a loopback name only)", address)
}

func loopback(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "::1" || strings.HasPrefix(host, "127.") && strings.Trim(host, "0123456789.") == ""
}

// keep calls refresh until ctx ends: again after the time it returns, and after
// an error with a growing pause. Pauses are jittered, so that replicas started
// together do not ask together.
func keep(ctx context.Context, refresh func(context.Context) (time.Duration, error)) {
	const shortest, longest = time.Second, time.Minute
	pause := shortest
	for ctx.Err() == nil {
		next, err := refresh(ctx)
		if err != nil {
			next, pause = pause, min(2*pause, longest)
		} else {
			pause = shortest
		}
		timer := time.NewTimer(next*3/4 + rand.N(next/4+1)) //nolint:gosec // jitter is no secret
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// unavailable makes err wrap ErrUnavailable.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
