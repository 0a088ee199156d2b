package authz

import (
	"context"
	"time"
)

// Outcome is the kind of a Decision. The zero value is Deny.
type Outcome int

// The kinds of Decision.
const (
	Deny   Outcome = iota
	Allow          // pass on to the application
	Answer         // our own page or redirect; never an allow
)

func (o Outcome) String() string {
	switch o {
	case Deny:
		return "deny"
	case Allow:
		return "allow"
	case Answer:
		return "answer"
	}
	return "unknown"
}

// Reasons of a Decision. The list is fixed, so that it can label a metric.
const (
	ReasonAllowed         = "allowed"
	ReasonAnonymous       = "anonymous"
	ReasonPassage         = "passage" // on to our own HTTP listener
	ReasonNoRule          = "no_rule"
	ReasonAmbiguousPath   = "ambiguous_path"
	ReasonMalformed       = "malformed_request"
	ReasonWiring          = "proxy_wiring" // a proxy asked in a way that it is not set up for
	ReasonNoCredentials   = "no_credentials"
	ReasonBadCredentials  = "bad_credentials"
	ReasonCondition       = "condition_failed"
	ReasonHeadersTooLarge = "headers_too_large"
	ReasonUnavailable     = "unavailable"
	ReasonOverloaded      = "overloaded"
	ReasonPanic           = "panic"
	ReasonEndpoint        = "endpoint"
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
	Reason   string // one of the Reason constants
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
	Challenge  Challenge     // 302, 401; on 403 only as a way to sign in as somebody else, or to get a token with more scope
	RetryAfter time.Duration // 429 and 503
}

// Endpoint answers a request to one of our own addresses.
type Endpoint func(context.Context, *Request) Response
