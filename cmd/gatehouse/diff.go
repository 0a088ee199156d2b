package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/whatif"
)

func diffCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW --requests FILE",
		Short: "Show every decision that changes from one configuration to another, openings first; needs no secret and no network",
		Long: "Put requests to two configurations and show every decision that changes.\n" +
			"FILE holds JSON lines: {\"url\": …, \"method\": …, \"headers\": …, \"provider\": …, \"bearer\": …, \"claims\": …}, or is an access log of Gatehouse.\n" +
			"Exit codes: 0 nothing changes, 1 something does, 2 wrong flags or files.",
		Args: cobra.ExactArgs(2),
	}
	var requests string
	var asJSON bool
	c.Flags().StringVar(&requests, "requests", "", "file with requests (- for standard input)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.MarkFlagRequired("requests") // fails only without such a flag
	c.RunE = func(c *cobra.Command, files []string) error {
		_, before, err := loadModel(files[0])
		if err != nil {
			return err
		}
		_, after, err := loadModel(files[1])
		if err != nil {
			return err
		}
		asked, err := readRequests(requests, c.InOrStdin())
		if err != nil {
			return fmt.Errorf("%s: %w", requests, err)
		}
		changes := whatif.Diff(before, after, asked)
		if asJSON {
			err = printJSON(c.OutOrStdout(), changes)
		} else {
			printChanges(c.OutOrStdout(), changes, len(asked))
		}
		if err == nil && len(changes) > 0 {
			err = failure{fmt.Errorf("%d of %d decisions change", len(changes), len(asked))}
		}
		return err
	}
	return c
}

func readRequests(file string, stdin io.Reader) ([]whatif.Asked, error) {
	if file == "-" {
		return whatif.ReadRequests(stdin)
	}
	f, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return whatif.ReadRequests(f)
}

func printChanges(w io.Writer, changes []whatif.Change, asked int) {
	for _, change := range changes {
		word := "changes"
		switch {
		case change.Opens:
			word = "OPENS"
		case change.Before.Decision == "allow":
			word = "closes"
		}
		fmt.Fprintf(w, "%s  %s\n", word, change.Asked)
		printTold(w, "was", change.Before)
		printTold(w, "is", change.After)
	}
	fmt.Fprintf(w, "%d requests, %d decisions change\n", asked, len(changes))
}

func printTold(w io.Writer, when string, t whatif.Told) {
	fmt.Fprintf(w, "  %-3s  %s by %q (%s)", when, t.Decision, t.Rule, t.Reason)
	if t.Headers != "" {
		fmt.Fprintf(w, " with %s", t.Headers)
	}
	fmt.Fprintln(w)
}
