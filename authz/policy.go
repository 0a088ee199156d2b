package authz

// Forward says which of a user's tokens the application receives.
type Forward struct {
	AccessToken bool // X-Auth-Request-Access-Token
	IDToken     bool // Authorization: Bearer
}

// Source is one way to be recognised by a rule.
type Source struct {
	Provider      string
	Login         bool // a browser session; false: a bearer token
	Authenticator Authenticator
}

// Rule says who may pass on some hosts and paths.
type Rule struct {
	Name      string
	Hosts     []string // exact, or "*.example.com"
	Paths     []string // exact, or ending in "/**"; none: every path
	Methods   []string // none: every method
	Anonymous bool     // allow: anonymous. Then Sources and Require are empty
	Sources   []Source // bearer before login, whatever the order given: an invalid bearer token is refused even beside a good cookie
	Require   Condition
	Forward   Forward
	Overrides []string
}

// Policy is an immutable index of rules. Match does not slow down with their number.
type Policy struct{ rules []*Rule }

// NewPolicy indexes rules. The error joins one *RuleError per mistake.
func NewPolicy(rules []Rule) (*Policy, error) { panic("contract") }

// RuleError is a mistake in one rule.
type RuleError struct {
	Rule int    // index in the list given to NewPolicy
	Key  string // "hosts", "paths", "require", …
	Msg  string // what is wrong
	Hint string // what would be right
}

func (e *RuleError) Error() string { return e.Msg }

// Match finds the rule for a request: (rule, nil), (nil, ErrNoRule) or
// (nil, *AmbiguousError).
func (p *Policy) Match(r *Request) (*Rule, error) { panic("contract") }
