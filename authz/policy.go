package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

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
	Overrides []string // names of rules that this one hides on purpose
}

// ErrNoRule means that no rule is responsible for a request, which is a denial.
var ErrNoRule = errors.New("no rule")

// AmbiguousError means that different upstreams could take one path for paths of
// different rules. An empty name stands for no rule.
type AmbiguousError struct {
	First, Second string
	TooMany       bool // there are more readings than we are willing to try; the names are empty
}

func (e *AmbiguousError) Error() string {
	if e.TooMany {
		return "path has too many readings"
	}
	return fmt.Sprintf("readings of the path lead to rule %q and to rule %q", e.First, e.Second)
}

// Policy is an immutable index of rules. Match does not slow down with their number.
type Policy struct {
	rules []*Rule
	exact map[string]*hostRules // by host
	wild  map[string]*hostRules // by what follows "*."
	extra []string              // names of the claim headers of all rules
}

// hostRules are the rules of one host pattern.
type hostRules struct {
	pattern string
	rules   []*Rule
	root    node
}

// node is a path in the index, of which the children are one segment longer.
type node struct {
	children map[string]*node
	here     []*Rule // for exactly this path; those with methods first
	below    []*Rule // for this path and everything below it; those with methods first
}

// Rules returns the rules in the order given, as the policy uses them. They must
// not be changed.
func (p *Policy) Rules() []*Rule { return slices.Clone(p.rules) }

// Match finds the rule for a request: (rule, nil), (nil, ErrNoRule) or
// (nil, *AmbiguousError).
func (p *Policy) Match(r *Request) (*Rule, error) {
	h := p.host(r.Host)
	if h == nil {
		return nil, ErrNoRule
	}
	rule := h.match(r.Path, r.Method)
	if !ordinary(r.Path) && h.root.children != nil {
		if err := h.checkReadings(r, rule); err != nil {
			return nil, err
		}
	}
	if rule == nil {
		return nil, ErrNoRule
	}
	return rule, nil
}

// host prefers the exact host and then the longest wildcard, as Envoy does.
func (p *Policy) host(name string) *hostRules {
	if h := p.exact[name]; h != nil {
		return h
	}
	if len(p.wild) == 0 {
		return nil
	}
	return p.wildcard(name)
}

func (p *Policy) wildcard(name string) *hostRules {
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		if h := p.wild[parent]; h != nil {
			return h
		}
		name = parent
	}
}

// checkReadings demands that every reading of the path is judged by rule.
func (h *hostRules) checkReadings(r *Request, rule *Rule) error {
	var other *Rule
	same := true
	complete := eachReading(r.Path, func(path string) bool {
		other = h.match(path, r.Method)
		same = other == rule
		return same
	})
	switch {
	case !same:
		return &AmbiguousError{First: rule.name(), Second: other.name()}
	case !complete:
		return &AmbiguousError{TooMany: true}
	}
	return nil
}

func (r *Rule) name() string {
	if r == nil {
		return ""
	}
	return r.Name
}

// match walks down the path. What fits further down replaces what fitted above:
// the longest path wins, and an exact one over "/**".
func (h *hostRules) match(path, method string) *Rule {
	n := &h.root
	best := pick(n.below, method)
	if path == "" || path[0] != '/' {
		return best // a reading that no upstream can route
	}
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if n = n.children[segment]; n == nil {
			return best
		}
		if rule := pick(n.below, method); rule != nil {
			best = rule
		}
	}
	if rule := pick(n.here, method); rule != nil {
		return rule
	}
	return best
}

func pick(rules []*Rule, method string) *Rule {
	for _, rule := range rules {
		if len(rule.Methods) == 0 || slices.Contains(rule.Methods, method) {
			return rule
		}
	}
	return nil
}
