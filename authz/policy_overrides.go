package authz

import (
	"fmt"
	"slices"
	"strings"
)

// A host with rules of its own never falls through to a wildcard host. So a rule
// on app.example.com can undo what *.example.com demands, by accident: then it
// has to say so.

func (l *loader) checkOverrides() {
	for i, r := range l.policy.rules {
		for _, name := range r.Overrides {
			if _, ok := l.index[name]; !ok || name == r.Name {
				l.fail(i, "overrides", fmt.Sprintf("there is no other rule %q", name), "name the rule that this one hides")
			}
		}
		for _, pattern := range r.Hosts {
			narrow := l.host(pattern)
			if wide := l.wider(pattern); wide != nil {
				l.checkHidden(i, r, narrow, wide)
			}
		}
	}
}

// wider returns the wildcard host that would answer if pattern had no rules.
func (l *loader) wider(pattern string) *hostRules {
	return l.policy.wildcard(strings.TrimPrefix(pattern, "*."))
}

func (l *loader) checkHidden(i int, r *Rule, narrow, wide *hostRules) {
	for _, hidden := range wide.rules {
		if hidden == r || slices.Contains(r.Overrides, hidden.Name) || asStrict(r, hidden) {
			continue
		}
		if path, ok := hides(r, hidden, narrow, wide); ok {
			l.fail(i, "hosts", fmt.Sprintf("on %s%s this rule hides rule %q of %s, which may be stricter", narrow.pattern, path, hidden.Name, wide.pattern),
				fmt.Sprintf("say overrides: [%s] if that is meant", hidden.Name))
		}
	}
}

// asStrict reports whether whoever passes r would also pass hidden, as far as
// that can be seen without running conditions.
func asStrict(r, hidden *Rule) bool {
	if hidden.Anonymous || r.Anonymous {
		return hidden.Anonymous
	}
	for _, s := range r.Sources {
		if !slices.ContainsFunc(hidden.Sources, func(t Source) bool { return s.Provider == t.Provider && s.Login == t.Login }) {
			return false
		}
	}
	return hidden.Require.Text == anyUserText || hidden.Require.Text != "" && hidden.Require.Text == r.Require.Text
}

// hides finds a path on which r answers for narrow and hidden would for wide.
func hides(r, hidden *Rule, narrow, wide *hostRules) (string, bool) {
	for _, p := range r.paths() {
		for _, q := range hidden.paths() {
			shared := p // the smaller of the two
			if covers(p, q) {
				shared = q
			} else if !covers(q, p) {
				continue
			}
			if shareMethod(r, hidden) && !narrow.takenFrom(r, p, shared) && !wide.takenFrom(hidden, q, shared) {
				return shared, true
			}
		}
	}
	return "", false
}

// takenFrom reports whether on all of shared a rule with a longer path answers
// before r, which has path p.
func (h *hostRules) takenFrom(r *Rule, p, shared string) bool {
	for _, other := range h.rules {
		if other == r || !coversMethods(other, r) {
			continue
		}
		for _, q := range other.paths() {
			if q != p && covers(p, q) && covers(q, shared) {
				return true
			}
		}
	}
	return false
}

// covers reports whether every path that fits q also fits p.
func covers(p, q string) bool {
	if p == q {
		return true
	}
	base, below := strings.CutSuffix(p, "/**")
	if !below {
		return false
	}
	q = strings.TrimSuffix(q, "/**")
	return q == base || strings.HasPrefix(q, base+"/") // base is empty for "/**"
}

func coversMethods(a, b *Rule) bool {
	if len(a.Methods) == 0 {
		return true
	}
	return len(b.Methods) > 0 && !slices.ContainsFunc(b.Methods, func(m string) bool { return !slices.Contains(a.Methods, m) })
}

func shareMethod(a, b *Rule) bool {
	if len(a.Methods) == 0 || len(b.Methods) == 0 {
		return true
	}
	return slices.ContainsFunc(a.Methods, func(m string) bool { return slices.Contains(b.Methods, m) })
}
