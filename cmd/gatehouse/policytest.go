package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/whatif"
)

func testCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "test --config FILE TESTS...",
		Short: "Run policy tests: requests and identities, and what is to be decided; needs no secret and no network",
		Long: "Run policy tests. Each file holds a list under the key tests; see docs/policy-tests.md.\n" +
			"Exit codes: 0 all passed, 1 a test failed or a rule that --cover-all asks for is not covered, 2 wrong flags or files.",
		Args: cobra.MinimumNArgs(1),
	}
	file := configFlag(c)
	var asJSON, coverAll bool
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&coverAll, "cover-all", false, "fail when no test comes to a rule")
	c.RunE = func(c *cobra.Command, files []string) error {
		_, m, err := loadModel(*file)
		if err != nil {
			return err
		}
		var cases []config.Case
		for _, name := range files {
			tests, err := config.LoadTests(name)
			if err != nil {
				return err
			}
			cases = append(cases, tests.Tests...)
		}
		results, unused := m.Run(cases)
		report := testReport{Results: results, Rules: len(m.Rules()), Unused: unused}
		if asJSON {
			err = printJSON(c.OutOrStdout(), report)
		} else {
			report.print(c.OutOrStdout())
		}
		if err == nil {
			err = report.failure(coverAll)
		}
		return err
	}
	return c
}

// testReport is what policy tests showed.
type testReport struct {
	Results []whatif.Result `json:"tests"`
	Rules   int             `json:"rules"`
	Unused  []string        `json:"rules_without_test,omitempty"`
}

func (r *testReport) failed() int {
	n := 0
	for _, each := range r.Results {
		if len(each.Failures) > 0 {
			n++
		}
	}
	return n
}

func (r *testReport) print(w io.Writer) {
	for _, each := range r.Results {
		if len(each.Failures) == 0 {
			continue
		}
		fmt.Fprintf(w, "FAIL %s\n", each.Name)
		for _, f := range each.Failures {
			fmt.Fprintf(w, "     %s\n", f)
		}
	}
	failed := r.failed()
	fmt.Fprintf(w, "%d passed, %d failed; %d of %d rules are covered\n", len(r.Results)-failed, failed, r.Rules-len(r.Unused), r.Rules)
	for _, name := range r.Unused {
		fmt.Fprintf(w, "no test comes to rule %s\n", name)
	}
}

func (r *testReport) failure(coverAll bool) error {
	switch n := r.failed(); {
	case n > 0:
		return failure{fmt.Errorf("%d of %d policy tests failed", n, len(r.Results))}
	case coverAll && len(r.Unused) > 0:
		return failure{errors.New("not every rule is covered by a test")}
	}
	return nil
}
