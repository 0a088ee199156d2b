package authz

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

const (
	retryAfter = 5 * time.Second
	maxDetail  = 512
)

// Config is what an Authorizer works with.
type Config struct {
	Policy    *Policy
	Passage   Passage                                  // let through before everything else; zero: nothing is
	Endpoints func(host, path string) Endpoint         // asked before the rules; nil result: none; nil func: none
	Render    func(*Request, Problem) Response         // nil: RenderText
	Observe   func(*Request, *Decision, time.Duration) // called once per decision; nil: not
}

// Authorizer decides about requests. It is immutable and safe for concurrent use.
type Authorizer struct{ cfg Config }

// New returns an Authorizer for cfg, of which Policy is required.
func New(cfg Config) (*Authorizer, error) {
	if cfg.Policy == nil {
		return nil, errors.New("authz: Config.Policy is missing")
	}
	return &Authorizer{cfg: cfg}, nil
}

// Authorize never fails: what goes wrong is a Decision, closed.
func (a *Authorizer) Authorize(ctx context.Context, r *Request) Decision {
	return a.observed(r, func() Decision {
		switch leads, err := a.cfg.Passage.leads(r); {
		case err != nil:
			return a.ambiguous(r, err)
		case leads:
			return pass(r)
		}
		if endpoint := a.endpoint(r); endpoint != nil {
			return a.answer(ctx, r, endpoint)
		}
		return a.judge(ctx, r)
	})
}

// serveEndpoint serves our own addresses only, for an edge behind which no
// application stands. false: there is no such address, and nothing was observed.
func (a *Authorizer) serveEndpoint(ctx context.Context, r *Request) (Decision, bool) {
	var endpoint Endpoint
	found := a.guarded(r, func() Decision {
		endpoint = a.endpoint(r)
		return Decision{}
	})
	if endpoint == nil && found.Reason == "" {
		return Decision{}, false
	}
	return a.observed(r, func() Decision {
		if endpoint == nil {
			return found // looking for it panicked
		}
		return a.answer(ctx, r, endpoint)
	}), true
}

// Reject answers a request that NewRequest refused with err.
func (a *Authorizer) Reject(r *Request, err error) Decision {
	return a.observed(r, func() Decision {
		return a.deny(r, Decision{Reason: ReasonMalformed, Detail: err.Error()}, Problem{Status: 400})
	})
}

// Miswired answers a question whose asker is not set up as it has to be, for the reason
// err: 403, since neither whom it is about nor what it asks for can be believed.
func (a *Authorizer) Miswired(r *Request, err error) Decision {
	return a.observed(r, func() Decision {
		return a.deny(r, Decision{Reason: ReasonWiring, Detail: err.Error()}, Problem{Status: 403})
	})
}

// Fail answers when no decision could be reached: overload (503) or a panic
// (500). r may be nil.
func (a *Authorizer) Fail(r *Request, status int, reason string) Decision {
	if r == nil {
		r = &Request{}
	}
	return a.observed(r, func() Decision {
		return a.deny(r, Decision{Reason: reason}, Problem{Status: status})
	})
}

// Panicked answers when an edge recovered value from a panic of its own. Call it
// in the deferred function: what panicked is read from the stack. r may be nil.
func (a *Authorizer) Panicked(r *Request, value any) Decision {
	if r == nil {
		r = &Request{}
	}
	return a.observed(r, func() Decision { return a.panicked(value) })
}

// observed runs decide and reports the outcome once. A panic on the way, also in
// Observe, is a denial: an edge that lost its answer would leave the proxy with
// an error, and some proxies are set up to pass on errors.
func (a *Authorizer) observed(r *Request, decide func() Decision) (d Decision) {
	start := time.Now()
	d = a.guarded(r, decide)
	if a.cfg.Observe != nil {
		defer func() {
			if p := recover(); p != nil {
				d = a.panicked(p)
			}
		}()
		a.cfg.Observe(r, &d, time.Since(start))
	}
	return d
}

func (a *Authorizer) guarded(r *Request, decide func() Decision) (d Decision) {
	defer func() {
		if p := recover(); p != nil {
			d = a.panicked(p)
			d.Response = RenderText(r, Problem{Status: 500, Reason: ReasonPanic})
		}
	}()
	return decide()
}

// panicked does not call Render: it may be what panicked.
func (a *Authorizer) panicked(p any) Decision {
	return Decision{
		Reason:   ReasonPanic,
		Detail:   cut(fmt.Sprintf("%s: %v", panicPlace(), p), maxDetail),
		Response: RenderText(&Request{}, Problem{Status: 500, Reason: ReasonPanic}),
	}
}

// panicPlace finds the function that panicked, below the runtime's own.
func panicPlace() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	below := false
	for {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if below && !inRuntime {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		below = below || f.Function == "runtime.gopanic"
		if !more {
			return "unknown"
		}
	}
}

func (a *Authorizer) endpoint(r *Request) Endpoint {
	if a.cfg.Endpoints == nil {
		return nil
	}
	return a.cfg.Endpoints(r.Host, r.Path)
}

func (a *Authorizer) answer(ctx context.Context, r *Request, endpoint Endpoint) Decision {
	resp := endpoint(ctx, r)
	if err := checkResponse(resp); err != nil {
		return a.deny(r, Decision{Reason: ReasonEndpoint, Detail: err.Error()}, Problem{Status: 500})
	}
	return Decision{Outcome: Answer, Reason: ReasonEndpoint, Response: noStore(resp)}
}

// judge finds the rule and lets it judge.
func (a *Authorizer) judge(ctx context.Context, r *Request) Decision {
	rule, err := a.cfg.Policy.Match(r)
	switch _, ambiguous := errors.AsType[*AmbiguousError](err); {
	case ambiguous:
		return a.ambiguous(r, err)
	case err != nil:
		return a.deny(r, Decision{Reason: ReasonNoRule}, Problem{Status: 403})
	case rule.Anonymous:
		return a.allow(r, rule, nil, ReasonAnonymous)
	}
	v := recognise(ctx, r, rule)
	d := Decision{Rule: rule.Name, Reason: v.reason, Identity: v.identity}
	if v.err != nil {
		d.Detail = v.err.Error()
	}
	switch v.reason {
	case ReasonAllowed:
		return a.allow(r, rule, v.identity, ReasonAllowed)
	case ReasonNoCredentials, ReasonBadCredentials:
		return a.deny(r, d, signIn(r, challenge(r, rule, &v)))
	case ReasonCondition:
		c := challenge(r, rule, &v)
		if !v.bearer || !errors.Is(v.err, ErrInsufficientScope) {
			c.WWWAuthenticate = "" // no other token would help, or it is not for the caller to know
		}
		return a.deny(r, d, Problem{Status: 403, Challenge: c})
	}
	return a.deny(r, d, Problem{Status: 503})
}

func (a *Authorizer) ambiguous(r *Request, err error) Decision {
	return a.deny(r, Decision{Reason: ReasonAmbiguousPath, Detail: err.Error()}, Problem{Status: 400})
}

func (a *Authorizer) allow(r *Request, rule *Rule, id *Identity, reason string) Decision {
	d := Decision{Outcome: Allow, Rule: rule.Name, Reason: reason, Identity: id}
	var err error
	d.Set, d.Remove, err = upstreamHeaders(r, rule, id, a.cfg.Policy.extra)
	if err == nil {
		return d
	}
	denied := Decision{Rule: rule.Name, Reason: ReasonUnavailable, Detail: err.Error(), Identity: id}
	if errors.Is(err, errTooLarge) {
		denied.Reason = ReasonHeadersTooLarge
		return a.deny(r, denied, Problem{Status: 403})
	}
	return a.deny(r, denied, Problem{Status: 503})
}

// deny completes d with a page for p. A Render function that answers with
// another status, or with what must not leave, is not asked again.
func (a *Authorizer) deny(r *Request, d Decision, p Problem) Decision {
	p.Reason = d.Reason
	if p.Status != 302 && (p.Status < 400 || p.Status > 599) {
		p.Status = 500 // an edge that fails with a success
	}
	if (p.Status == 503 || p.Status == 429) && p.RetryAfter == 0 {
		p.RetryAfter = retryAfter
	}
	d.Outcome = Deny
	d.Detail = cut(d.Detail, maxDetail)
	if a.cfg.Render != nil {
		d.Response = a.cfg.Render(r, p)
		if suits(d.Response.Status, p.Status) && checkResponse(d.Response) == nil {
			d.Response = noStore(d.Response)
			return d
		}
	}
	d.Response = RenderText(r, p)
	return d
}

// suits reports whether a page may have status got where want was asked for.
// Only the way to the login may turn into the bare fact that one is needed.
func suits(got, want int) bool {
	return got == want || want == 302 && got == 401
}

// verdict is what the sources of a rule say about a request.
type verdict struct {
	reason   string
	identity *Identity // with ReasonAllowed and ReasonCondition
	err      error     // why not
	bearer   bool      // judged by the bearer sources alone
	errs     []error   // by source: what it said, nil where it was not asked
}

// recognise asks the sources of rule who is calling. The first identity that the
// rule lets pass wins; identities are never merged.
func recognise(ctx context.Context, r *Request, rule *Rule) verdict {
	v := verdict{reason: ReasonNoCredentials, err: ErrNoCredentials}
	if _, present := r.Header.Bearer(); present && !rule.Sources[0].Login {
		v.bearer = true
	}
	for i := range rule.Sources {
		if v.bearer == rule.Sources[i].Login {
			continue
		}
		id, err := authenticate(ctx, r, rule.Sources[i].Authenticator)
		reason := reasonFor(err)
		if err == nil {
			if err = satisfies(r, rule, id); err == nil {
				return verdict{reason: ReasonAllowed, identity: id}
			}
			reason = ReasonCondition
		}
		if v.errs == nil {
			v.errs = make([]error, len(rule.Sources))
		}
		v.errs[i] = err
		if severity(reason) > severity(v.reason) || reason == v.reason && errors.Is(v.err, ErrForeign) {
			v.reason, v.identity, v.err = reason, id, err
		}
	}
	return v
}

var errNoIdentity = errors.New("authenticator returned neither identity nor error")

func authenticate(ctx context.Context, r *Request, by Authenticator) (*Identity, error) {
	id, err := by.Authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	if id == nil {
		return nil, errNoIdentity
	}
	return id, nil
}

func reasonFor(err error) string {
	switch {
	case errors.Is(err, ErrNoCredentials):
		return ReasonNoCredentials
	case errors.Is(err, ErrBadCredentials):
		return ReasonBadCredentials
	}
	return ReasonUnavailable
}

// severity orders what several sources say. "Cannot tell" outweighs every "no":
// the source that is out of order might have said yes.
func severity(reason string) int {
	switch reason {
	case ReasonNoCredentials:
		return 0
	case ReasonBadCredentials:
		return 1
	case ReasonCondition:
		return 2
	}
	return 3
}

var errNobody = errors.New("identity without subject or user name")

func satisfies(r *Request, rule *Rule, id *Identity) error {
	if strings.TrimSpace(id.Subject) == "" || strings.TrimSpace(id.User) == "" {
		return errNobody
	}
	return rule.Require.Check(r, id)
}

// challenge joins what the sources that judged r say about signing in.
func challenge(r *Request, rule *Rule, v *verdict) Challenge {
	var all Challenge
	for i, s := range rule.Sources {
		if v.bearer && s.Login {
			continue
		}
		err := v.err
		if v.errs != nil && v.errs[i] != nil {
			err = v.errs[i]
		}
		if !s.Login && errors.Is(err, ErrForeign) && !errors.Is(v.err, ErrForeign) {
			continue // another source knows these credentials, and says what is wrong with them
		}
		c := s.Authenticator.Challenge(r, err)
		if all.Location == "" && localAddress(c.Location) {
			all.Location = c.Location
		}
		all.WWWAuthenticate = joinChallenges(all.WWWAuthenticate, c.WWWAuthenticate)
		all.Clear = append(all.Clear, c.Clear...)
	}
	return all
}

// signIn sends a navigation to the login, and tells everybody else what
// credentials are missing.
func signIn(r *Request, c Challenge) Problem {
	if r.Caller == Navigation && c.Location != "" {
		return Problem{Status: 302, Challenge: c}
	}
	return Problem{Status: 401, Challenge: c}
}

func joinChallenges(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "" || a == b:
		return a
	}
	return a + ", " + b
}

// localAddress reports whether s is a path on the host that was asked for, as
// every browser reads it.
func localAddress(s string) bool {
	return len(s) > 1 && s[0] == '/' && s[1] != '/' && s[1] != '\\' && validValue(s)
}
