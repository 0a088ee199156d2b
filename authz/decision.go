package authz

import (
	"context"
	"time"
)

// Outcome is the kind of a Decision. The zero value is Deny.
type Outcome int

const (
	Deny   Outcome = iota
	Allow          // pass on to the application
	Answer         // our own page or redirect; never an allow
)

// Response is an HTTP response of our own.
type Response struct {
	Status int
	Header []Field // lower-case names; several set-cookie lines are allowed
	Body   []byte
}

// Decision is the answer to a request. Reason is for operators and never leaves
// in a response.
type Decision struct {
	Outcome  Outcome
	Rule     string // name of the rule, or empty
	Reason   string // short fixed code: "allowed", "no_rule", "no_credentials", … a safe metric label
	Detail   string // free text for the log, bounded; may be empty
	Identity *Identity
	Set      []Field  // Allow: headers for the application, overwriting
	Remove   []string // Allow: names to remove; disjoint from Set
	Response Response // Deny, Answer
}

// Problem is what a Render function is asked to show.
type Problem struct {
	Status     int           // 302 (sign in), 400, 401, 403, 404, 405, 429, 500, 503
	Reason     string        // as in Decision; choose words by it, never print Detail
	Challenge  Challenge     // 302 and 401
	RetryAfter time.Duration // 503
}

// Endpoint answers a request to one of our own addresses.
type Endpoint func(context.Context, *Request) Response

// Config is what an Authorizer works with.
type Config struct {
	Policy    *Policy
	Endpoints func(host, path string) Endpoint         // asked before the rules; nil result: none; nil func: none
	Render    func(*Request, Problem) Response         // nil: plain text
	Observe   func(*Request, *Decision, time.Duration) // called once per decision; nil: not
}

// Authorizer decides about requests. It is immutable and safe for concurrent use.
type Authorizer struct{ cfg Config }

func New(cfg Config) (*Authorizer, error) { panic("contract") }

// Authorize never fails: what goes wrong is a Decision, closed.
func (a *Authorizer) Authorize(ctx context.Context, r *Request) Decision { panic("contract") }

// Reject answers a request that NewRequest refused with err.
func (a *Authorizer) Reject(r *Request, err error) Decision { panic("contract") }

// Fail answers when no decision could be reached: overload (503) or a panic (500).
func (a *Authorizer) Fail(r *Request, status int, reason string) Decision { panic("contract") }
