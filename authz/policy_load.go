package authz

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const maxRuleName = 64

// RuleError is a mistake in one rule.
type RuleError struct {
	Rule int    // index in the list given to NewPolicy; -1: the list itself
	Key  string // "hosts", "paths", "require", …
	Msg  string // what is wrong
	Hint string // what would be right
}

func (e *RuleError) Error() string {
	text := e.Key + ": " + e.Msg
	if e.Rule >= 0 {
		text = fmt.Sprintf("rules[%d].%s", e.Rule, text)
	}
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// NewPolicy indexes rules. The error joins one *RuleError per mistake.
func NewPolicy(rules []Rule) (*Policy, error) {
	l := loader{
		policy: &Policy{exact: map[string]*hostRules{}, wild: map[string]*hostRules{}},
		index:  map[string]int{},
		taken:  map[place][]*Rule{},
	}
	if len(rules) == 0 {
		l.fail(-1, "rules", "there are no rules, so nobody could pass", "name at least one rule")
	}
	for i := range rules {
		l.add(i, cloneRule(rules[i]))
	}
	if len(l.errs) == 0 {
		l.checkOverrides() // needs a sound index
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	return l.policy, nil
}

func cloneRule(r Rule) *Rule {
	r.Hosts, r.Paths, r.Methods = slices.Clone(r.Hosts), slices.Clone(r.Paths), slices.Clone(r.Methods)
	r.Sources, r.Overrides = slices.Clone(r.Sources), slices.Clone(r.Overrides)
	r.Forward.Headers, r.Forward.Groups = slices.Clone(r.Forward.Headers), slices.Clone(r.Forward.Groups)
	slices.SortStableFunc(r.Sources, func(a, b Source) int { return rank(a) - rank(b) })
	return &r
}

func rank(s Source) int {
	if s.Login {
		return 1
	}
	return 0
}

// loader builds a Policy and collects what is wrong.
type loader struct {
	policy *Policy
	index  map[string]int // rule name → place in the list
	taken  map[place][]*Rule
	errs   []error
}

// place is where rules stand in the index.
type place struct {
	host *hostRules
	path string
}

func (l *loader) fail(rule int, key, msg, hint string) {
	l.errs = append(l.errs, &RuleError{Rule: rule, Key: key, Msg: msg, Hint: hint})
}

func (l *loader) add(i int, r *Rule) {
	before := len(l.errs)
	l.checkName(i, r)
	l.checkLists(i, r)
	if r.Anonymous {
		l.checkAnonymous(i, r)
	} else {
		l.checkAuthenticated(i, r)
	}
	l.checkForward(i, r)
	l.policy.rules = append(l.policy.rules, r)
	if len(l.errs) > before {
		return
	}
	for _, host := range r.Hosts {
		l.insert(i, r, l.host(host))
	}
}

func (l *loader) checkName(i int, r *Rule) {
	if r.Name == "" || len(r.Name) > maxRuleName || strings.ContainsFunc(r.Name, func(c rune) bool { return c < ' ' || c > '~' }) {
		l.fail(i, "name", fmt.Sprintf("%q is no name", r.Name), "1 to 64 printable ASCII characters: it stands in logs and metrics")
	}
	if first, ok := l.index[r.Name]; ok {
		l.fail(i, "name", fmt.Sprintf("rules[%d] is called %q, too", first, r.Name), "give each rule a name of its own")
		return
	}
	l.index[r.Name] = i
}

func (l *loader) checkLists(i int, r *Rule) {
	if len(r.Hosts) == 0 {
		l.fail(i, "hosts", "the list is empty", "name at least one host")
	}
	if r.Paths != nil && len(r.Paths) == 0 {
		l.fail(i, "paths", "the list is empty", "leave the key out for every path")
	}
	if r.Methods != nil && len(r.Methods) == 0 {
		l.fail(i, "methods", "the list is empty", "leave the key out for every method")
	}
	for _, h := range r.Hosts {
		if msg, hint := hostMistake(h); msg != "" {
			l.fail(i, "hosts", msg, hint)
		}
	}
	for _, p := range r.Paths {
		if msg, hint := pathMistake(p); msg != "" {
			l.fail(i, "paths", msg, hint)
		}
	}
	for _, m := range r.Methods {
		if checkMethod(m) != nil {
			l.fail(i, "methods", fmt.Sprintf("%q can never match", m), "methods are upper case, such as GET")
		}
	}
	l.checkRepeated(i, "hosts", r.Hosts)
	l.checkRepeated(i, "paths", r.Paths)
	l.checkRepeated(i, "methods", r.Methods)
}

func (l *loader) checkRepeated(i int, key string, list []string) {
	for j, s := range list {
		if slices.Contains(list[:j], s) {
			l.fail(i, key, fmt.Sprintf("%q is listed twice", s), "list it once")
		}
	}
}

func (l *loader) checkAnonymous(i int, r *Rule) {
	if len(r.Sources) > 0 {
		l.fail(i, "allow", "an anonymous rule recognises nobody", "leave out either allow or login and bearer")
	}
	if r.Require.Check != nil || r.Require.err != nil {
		l.fail(i, "require", "an anonymous rule has nobody to put conditions to", "leave it out, or ask for a login")
	}
	if !r.Forward.empty() {
		l.fail(i, "forward", "an anonymous rule has no token and no identity to forward", "leave it out")
	}
}

func (l *loader) checkAuthenticated(i int, r *Rule) {
	if len(r.Sources) == 0 {
		l.fail(i, "allow", "the rule does not say who may pass", "add login or bearer with require, or allow: anonymous")
		return
	}
	providers := map[string]bool{}
	for _, s := range r.Sources {
		if s.Provider == "" || s.Authenticator == nil {
			l.fail(i, sourceKey(s), "the provider is missing", "name one of the configured providers")
		}
		providers[s.Provider] = true
	}
	switch err := r.Require.problem(); {
	case r.Require.Check == nil && r.Require.err == nil:
		l.fail(i, "require", "it does not say which of the provider's users may pass", "require: any_user stands for all of them")
	case err != nil:
		l.fail(i, "require", err.Error(), "")
	case r.Require.OfProvider && len(providers) > 1:
		l.fail(i, "require", "with several providers a subject, group, e-mail or claim does not say whose it is",
			"name the provider beside it, or make one rule for each provider")
	}
}

func (l *loader) checkForward(i int, r *Rule) {
	if r.Forward.Groups != nil && (len(r.Forward.Groups) == 0 || slices.Contains(r.Forward.Groups, "")) {
		l.fail(i, "forward", "the list of groups is empty or has an empty entry", "leave groups out to send all")
	}
	var names []string
	for _, h := range r.Forward.Headers {
		switch {
		case h.name == "":
			l.fail(i, "forward", "a header has no name", "make headers with NewClaimHeader")
		case slices.Contains(names, h.name):
			l.fail(i, "forward", fmt.Sprintf("header %q is there twice", h.name), "keep one of them")
		}
		names = append(names, h.name)
		if !slices.Contains(l.policy.extra, h.name) {
			l.policy.extra = append(l.policy.extra, h.name)
		}
	}
}

func sourceKey(s Source) string {
	if s.Login {
		return "login"
	}
	return "bearer"
}

func hostMistake(pattern string) (msg, hint string) {
	name, wild := strings.CutPrefix(pattern, "*.")
	canonical, err := canonicalHost(name)
	switch {
	case err != nil || wild && name[0] == '[':
		return fmt.Sprintf("%q is no host", pattern), "write app.example.com, or *.example.com for every host below it; no scheme, no port"
	case canonical != name:
		return fmt.Sprintf("%q can never match", pattern), "write " + strings.TrimSuffix(pattern, name) + canonical
	}
	return "", ""
}

// pathMistake refuses what no request can match, and what was meant as a regular
// expression: one that is not anchored opens more than its author thinks.
func pathMistake(pattern string) (msg, hint string) {
	base, below := strings.CutSuffix(pattern, "/**")
	if below && base == "" {
		return "", "" // "/**"
	}
	regex := strings.ContainsAny(base, `*^[]{}|\`) || strings.Contains(base, ".+") || strings.HasSuffix(base, "$") || strings.Contains(base, "(?")
	switch {
	case regex:
		return fmt.Sprintf("%q looks like a pattern", pattern), "a path is exact, or ends in /** for everything below it; there are no regular expressions"
	case base == "" || base[0] != '/':
		return fmt.Sprintf("%q does not begin with a slash", pattern), "write /" + pattern
	case len(base) > maxPath:
		return "a path is longer than any request may be", "at most 8192 bytes"
	case strings.ContainsFunc(base, func(c rune) bool { return c != '/' && (c > '~' || !plainByte[c]) }):
		return fmt.Sprintf("%q holds a character that proxies and applications read differently", pattern),
			"write letters, digits and -._~!$&'()+,:@= only, or name the path above it"
	case below && strings.HasSuffix(base, "/") || !ordinary(base):
		return fmt.Sprintf("%q has an empty or a dot segment", pattern), "write the path as the application sees it"
	}
	return "", ""
}

func (l *loader) host(pattern string) *hostRules {
	hosts := l.policy.exact
	name, wild := strings.CutPrefix(pattern, "*.")
	if wild {
		hosts = l.policy.wild
	}
	h := hosts[name]
	if h == nil {
		h = &hostRules{pattern: pattern}
		hosts[name] = h
	}
	return h
}

// paths returns the paths that a rule stands for.
func (r *Rule) paths() []string {
	if len(r.Paths) == 0 {
		return []string{"/**"}
	}
	return r.Paths
}

func (l *loader) insert(i int, r *Rule, h *hostRules) {
	h.rules = append(h.rules, r)
	for _, path := range r.paths() {
		at := place{h, path}
		for _, other := range l.taken[at] {
			if method, ok := bothMatch(r, other); ok {
				l.fail(i, "paths", fmt.Sprintf("rule %q already answers for %s%s%s, so this rule never would", other.Name, h.pattern, path, method),
					"narrow one of the two by path or methods, or join them")
			}
		}
		l.taken[at] = append(l.taken[at], r)
		h.root.insert(r, path)
	}
}

// bothMatch names a method for which two rules of one path would both stand. A
// rule with methods comes before one without, so those two do not collide.
func bothMatch(a, b *Rule) (method string, ok bool) {
	if len(a.Methods) == 0 && len(b.Methods) == 0 {
		return "", true
	}
	for _, m := range a.Methods {
		if slices.Contains(b.Methods, m) {
			return " (" + m + ")", true
		}
	}
	return "", false
}

func (n *node) insert(r *Rule, path string) {
	path, below := strings.CutSuffix(path, "/**")
	if path != "" {
		for segment := range strings.SplitSeq(path[1:], "/") {
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child := n.children[segment]
			if child == nil {
				child = &node{}
				n.children[segment] = child
			}
			n = child
		}
	}
	list := &n.here
	if below {
		list = &n.below
	}
	*list = append(*list, r)
	slices.SortStableFunc(*list, func(a, b *Rule) int { return cmp.Compare(len(b.Methods), len(a.Methods)) })
}
