// Package forwardauth serves an Authorizer over HTTP to proxies that ask about each
// request before they pass it on: nginx, ingress-nginx, Traefik, Caddy and Envoy.
//
// The question is a request of the proxy's own, in which headers say what the client
// asked for; whoever may ask could claim anything. So only the addresses in Trusted may,
// and a question that is not whole is refused: a proxy that forgets to say what it is
// asked for must not work at all, or a client could say it in its place. Nobody is
// recognised by what a proxy passes on but by the client's own credentials.
//
// The answer is 200 with what the application shall receive, for the proxy to copy, or a
// refusal in a status that this proxy understands. Proxies lose cookies that come with a
// 200, so that an allow never sets one.
package forwardauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	defaultTimeout     = time.Second
	defaultMaxInFlight = 10_000
)

// Current is one configuration to answer from.
type Current struct {
	Authorizer *authz.Authorizer        // nil: every question is answered 503
	Prefix     string                   // of our own addresses: "/oauth2"; questions come to Prefix + "/auth"
	Origin     func(host string) string // how browsers see a host: "https://app.example.com"; empty: nobody signs in there; nil: unknown
}

// Config is what a Handler works with.
type Config struct {
	// Current is asked once per question, so that a reload swaps whole configurations. Required.
	Current func() Current

	Profile Profile // which proxy asks. Required.

	// Trusted are the addresses that may ask, and whose forwarding headers count. Nothing
	// else follows from being among them: nobody is let in for an address. None: nobody may.
	Trusted []netip.Prefix

	// Secret returns what every question has to bring in the header SecretHeader. It is
	// asked at every question; while it fails the answer is 503. nil: none is needed.
	Secret func() (string, error)

	// Proven says that who connects has proven to be the proxy, by a client certificate.
	// Only with it or with a Secret do tokens go into an answer: an address is no proof.
	Proven bool

	// Timeout is the deadline of one question; zero: 1 s. Like that of a Check it does not
	// end with the client's connection.
	Timeout time.Duration

	// MaxInFlight is how many questions may be worked on at once; beyond it they are
	// refused with 503. Zero: 10,000.
	MaxInFlight int

	// Miswired is told about every question that shows a mistake in how the proxy is set
	// up. It may be called by many at once. nil: nobody is.
	Miswired func(*Fault)
}

// Handler answers the questions of one proxy, or of several alike. Make one with New; it
// is safe for concurrent use.
type Handler struct {
	cfg      Config
	inFlight atomic.Int64
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Current == nil:
		return nil, errors.New("forwardauth: Current is required")
	case profiles[cfg.Profile] == nil:
		return nil, fmt.Errorf("forwardauth: profile %q is not one of %q", cfg.Profile, Profiles())
	case cfg.Timeout < 0 || cfg.MaxInFlight < 0:
		return nil, errors.New("forwardauth: a bound is negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = defaultMaxInFlight
	}
	if cfg.Miswired == nil {
		cfg.Miswired = func(*Fault) {}
	}
	return &Handler{cfg: cfg}, nil
}

// ServeHTTP answers one question. It reads no body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	c := h.cfg.Current()
	if c.Authorizer == nil {
		h.refuse(w, authz.RenderText(&authz.Request{}, authz.Problem{Status: http.StatusServiceUnavailable}), "")
		return
	}
	r, d := h.decide(&c, in)
	if d.Outcome == authz.Allow {
		if h.allow(w.Header(), r, &d) {
			w.WriteHeader(http.StatusOK)
			return
		}
		clear(w.Header()) // a mistake of ours: authz checks what it sets
		d = c.Authorizer.Fail(r, http.StatusInternalServerError, authz.ReasonPanic)
	}
	origin := ""
	if c.Origin != nil {
		origin = c.Origin(r.Host)
	}
	h.refuse(w, d.Response, origin)
}

var errUnreadableSecret = errors.New("the secret of the proxy cannot be read")

// decide turns every way to fail into a decision.
func (h *Handler) decide(c *Current, in *http.Request) (r *authz.Request, d authz.Decision) {
	a := c.Authorizer
	r = &authz.Request{}
	defer func() {
		if v := recover(); v != nil {
			d = a.Panicked(r, v)
		}
	}()
	busy := h.inFlight.Add(1) > int64(h.cfg.MaxInFlight)
	defer h.inFlight.Add(-1)
	if busy {
		return r, a.Fail(r, http.StatusServiceUnavailable, authz.ReasonOverloaded)
	}
	raw, err := h.read(c.Prefix, in)
	r, malformed := authz.NewRequest(raw)
	fault, miswired := errors.AsType[*Fault](err)
	switch {
	case miswired:
		h.cfg.Miswired(fault)
		return r, a.Miswired(r, fault)
	case errors.Is(err, errUnreadableSecret):
		return r, a.Fail(r, http.StatusServiceUnavailable, authz.ReasonUnavailable)
	case err != nil:
		return r, a.Reject(r, err)
	case malformed != nil:
		return r, a.Reject(r, malformed)
	}
	return r, h.judge(c, in, r)
}

// judge asks the rules, unless no answer could be of use.
func (h *Handler) judge(c *Current, in *http.Request, r *authz.Request) authz.Decision {
	a, p := c.Authorizer, profiles[h.cfg.Profile]
	if p.statusOnly && below(r.Path, c.Prefix) && (c.Origin == nil || c.Origin(r.Host) != "") {
		fault := faultOf(UnroutedPages, "asked about %q: answers of ours do not reach a browser through this proxy; route %s/ to listen.http, unasked", r.Path, c.Prefix)
		h.cfg.Miswired(fault)
		return a.Miswired(r, fault)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.Context()), h.cfg.Timeout)
	defer cancel()
	d := a.Authorize(ctx, r)
	if d.Reason == authz.ReasonNoRule && !p.keepsHost && r.Host == hostOf(in.Host) {
		h.cfg.Miswired(faultOf(OwnName, "the host is said to be %q, which is how the proxy calls Gatehouse, and no rule names it: let it say what the client asked for", r.Host))
	}
	if d.Outcome != authz.Allow {
		return d
	}
	if !p.removes {
		if name := irremovable(d.Remove); name != "" {
			return a.Reject(r, fmt.Errorf("the client sent %q, which an application could take for a header of ours and this proxy cannot take away", name))
		}
	}
	h.withholdTokens(&d)
	return d
}
