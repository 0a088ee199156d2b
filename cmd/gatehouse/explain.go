package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/whatif"
)

func explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain --config FILE --url URL",
		Short: "Say what would be decided about a request, and why; needs no secret and no network",
		Args:  cobra.NoArgs,
	}
	file := configFlag(c)
	var r whatif.Request
	var who whoFlags
	var headers []string
	var asJSON bool
	c.Flags().StringVar(&r.URL, "url", "", "address, such as https://app.example.com/path?query")
	c.Flags().StringVar(&r.Method, "method", "GET", "HTTP method")
	c.Flags().StringArrayVar(&headers, "header", nil, `header line, "name: value"; without any, a GET is a browser's`)
	c.Flags().StringVar(&r.Peer, "peer", "", "SPIFFE id of the caller, as the proxy attests it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.MarkFlagRequired("url") // fails only without such a flag
	who.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if r.Header, err = headerLines(headers); err == nil {
			err = r.Check()
		}
		if err != nil {
			return err
		}
		cfg, m, err := loadModel(*file)
		if err != nil {
			return err
		}
		as, err := who.credential(cfg, c.InOrStdin())
		if err != nil {
			return err
		}
		e := m.Explain(r, as)
		if asJSON {
			return printJSON(c.OutOrStdout(), e)
		}
		return printExplanation(c.OutOrStdout(), e)
	}
	return c
}

func headerLines(lines []string) ([]authz.Field, error) {
	var fields []authz.Field
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not a header line: write \"name: value\"", line)
		}
		fields = append(fields, authz.Field{Name: strings.ToLower(name), Value: strings.Trim(value, " \t")})
	}
	return fields, nil
}

func printExplanation(w io.Writer, e whatif.Explanation) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "%s\t%s\n", name, value)
		}
	}
	line("decision", e.Decision)
	line("rule", e.Rule)
	line("reason", e.Reason)
	line("why", e.Detail)
	if e.Decision != "allow" && e.Status != 0 {
		line("status", strconv.Itoa(e.Status))
	}
	line("login", e.Login)
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		line("set", name+": "+e.Set[name])
	}
	line("remove", strings.Join(e.Remove, ", "))
	fmt.Fprintln(out)
	for _, v := range e.Rules {
		mark := "-"
		if v.Hit {
			mark = "+"
		}
		fmt.Fprintf(out, "%s %s\t%s\t%s\n", mark, v.Rule, v.Why, v.Require)
	}
	return out.Flush()
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
