package whatif

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// Result is what came of a policy test.
type Result struct {
	Name     string   `json:"name"`
	Rule     string   `json:"rule,omitempty"`     // that decided
	Failures []string `json:"failures,omitempty"` // empty: passed
}

// Run decides every case. unused are the rules that none of them came to.
func (m *Model) Run(tests []config.Case) (results []Result, unused []string) {
	used := map[string]bool{}
	for i := range tests {
		c := &tests[i]
		r := Request{Method: c.Request.Method, URL: c.Request.URL, Peer: c.Request.Peer}
		for name, value := range c.Request.Headers {
			r.Header = append(r.Header, authz.Field{Name: name, Value: value})
		}
		result := Result{Name: c.Name}
		if err := r.Check(); err != nil {
			result.Failures = []string{err.Error()}
		} else {
			d := m.Decide(r, credential(c.As))
			used[d.Rule] = true
			result.Rule, result.Failures = d.Rule, compare(&c.Expect, &d)
		}
		results = append(results, result)
	}
	for _, name := range m.Rules() {
		if !used[name] {
			unused = append(unused, name)
		}
	}
	return results, unused
}

func credential(c *config.CaseCredential) *Credential {
	if c == nil {
		return nil
	}
	return &Credential{Provider: c.Provider, Bearer: c.Bearer, Claims: c.Claims.Claims}
}

// compare says everything in which d is not what was expected.
func compare(want *config.Expect, d *authz.Decision) []string {
	var failures []string
	differ := func(what, got, want string) {
		if want != "" && got != want {
			failures = append(failures, fmt.Sprintf("%s is %q, want %q", what, got, want))
		}
	}
	differ("decision", Outcome(d), want.Decision)
	differ("rule", d.Rule, want.Rule)
	differ("reason", d.Reason, want.Reason)
	if want.Status != 0 && d.Response.Status != want.Status {
		failures = append(failures, fmt.Sprintf("status is %d, want %d", d.Response.Status, want.Status))
	}
	set := authz.Header(d.Set)
	for name, value := range want.Headers {
		if got, n := set.Get(name); n == 0 {
			failures = append(failures, fmt.Sprintf("header %s is not set, want %q", name, value))
		} else {
			differ("header "+name, got, value)
		}
	}
	for _, name := range want.Without {
		if got, n := set.Get(name); n > 0 {
			failures = append(failures, fmt.Sprintf("header %s is %q, want none", name, got))
		}
	}
	if len(failures) > 0 && d.Detail != "" {
		failures = append(failures, "why: "+d.Detail)
	}
	slices.SortFunc(failures, strings.Compare)
	return failures
}
