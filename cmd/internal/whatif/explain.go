package whatif

import (
	"errors"
	"fmt"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Explanation says what would be decided and why.
type Explanation struct {
	Decision string            `json:"decision"` // allow, deny, sign_in, answer
	Rule     string            `json:"rule,omitempty"`
	Reason   string            `json:"reason"`
	Detail   string            `json:"detail,omitempty"`
	Status   int               `json:"status,omitempty"` // of a denial or answer
	Login    string            `json:"login,omitempty"`  // what signing in would change
	Set      map[string]string `json:"set,omitempty"`    // headers that the application receives
	Remove   []string          `json:"remove,omitempty"` // and those that it does not
	Rules    []Verdict         `json:"rules"`
}

// Verdict says whether a rule is about a request.
type Verdict struct {
	Rule    string `json:"rule"`
	Hit     bool   `json:"hit"`
	Why     string `json:"why"`
	Require string `json:"require,omitempty"` // of a rule that asks who it is
}

// Explain decides, and holds every rule against the request.
func (m *Model) Explain(r Request, who *Credential) Explanation {
	d := m.Decide(r, who)
	e := Explanation{Decision: Outcome(&d), Rule: d.Rule, Reason: d.Reason, Detail: d.Detail, Status: d.Response.Status, Remove: d.Remove}
	for _, f := range d.Set {
		if e.Set == nil {
			e.Set = map[string]string{}
		}
		e.Set[f.Name] = f.Value
	}
	request, err := r.canonical(who)
	for _, rule := range m.policy.Rules() {
		v := Verdict{Rule: rule.Name, Require: rule.Require.Text}
		switch {
		case err != nil:
			v.Why = "the request is malformed"
		default:
			v.Hit, v.Why = m.verdict(request, rule)
		}
		e.Rules = append(e.Rules, v)
		if rule.Name == d.Rule && e.Decision != "allow" {
			e.Login = login(rule, &d)
		}
	}
	return e
}

// Outcome is a decision in one word: to sign in is another answer than no.
func Outcome(d *authz.Decision) string {
	if d.Outcome == authz.Deny && (d.Reason == authz.ReasonNoCredentials || d.Reason == authz.ReasonBadCredentials) {
		return "sign_in"
	}
	return d.Outcome.String()
}

// verdict asks the index of a policy with this rule alone, and with less and less of it.
func (m *Model) verdict(r *authz.Request, rule *authz.Rule) (hit bool, why string) {
	alone := *rule
	alone.Overrides = nil
	matches := func(change func(*authz.Rule)) bool {
		one := alone
		change(&one)
		p, err := authz.NewPolicy([]authz.Rule{one})
		if err != nil {
			return false
		}
		_, err = p.Match(r)
		return err == nil
	}
	chosen, err := m.policy.Match(r)
	switch {
	case matches(func(*authz.Rule) {}):
		switch ambiguous, ok := errors.AsType[*authz.AmbiguousError](err); {
		case ok:
			return true, "matches, but " + ambiguous.Error()
		case chosen == rule:
			return true, "decides"
		case chosen == nil:
			return false, "another rule names this very host, and rules of a wildcard host do not apply to it"
		default:
			return true, fmt.Sprintf("matches, but rule %q is closer", chosen.Name)
		}
	case !matches(func(r *authz.Rule) { r.Paths, r.Methods = nil, nil }):
		return false, "another host"
	case !matches(func(r *authz.Rule) { r.Methods = nil }):
		return false, "another path"
	default:
		return false, "another method"
	}
}

// login says what signing in would change about a denial.
func login(rule *authz.Rule, d *authz.Decision) string {
	for _, s := range rule.Sources {
		if !s.Login {
			continue
		}
		switch d.Reason {
		case authz.ReasonNoCredentials, authz.ReasonBadCredentials:
			return fmt.Sprintf("signed in at %q, whoever satisfies %s may pass", s.Provider, rule.Require.Text)
		case authz.ReasonCondition:
			return "signed in as somebody else who satisfies " + rule.Require.Text + ", this would pass"
		}
	}
	return ""
}
