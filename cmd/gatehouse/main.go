// Command gatehouse decides, for every request that Envoy asks about, whether
// it may pass and as whom.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// Exit codes.
const (
	exitFailure = 1 // it could not start, or did not end as it should
	exitUsage   = 2 // wrong flags, or a configuration with mistakes
)

// version is set by the linker for releases (-X main.version=v1.2.3).
var version = ""

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings, so that tests can be them.
func run(args []string, stdout, stderr io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(failure)):
		fmt.Fprintln(stderr, err)
		return exitFailure
	default:
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
}

// failure is an error that is not the user's.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "gatehouse",
		Short:         "External authorization for Envoy and Istio: sign-in with OpenID Connect, bearer tokens, rules",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serveCommand(), validateCommand(), explainCommand(), testCommand(), diffCommand(), probeCommand(), sessionsCommand(), keysCommand(), versionCommand(), schemaCommand())
	return root
}

func configFlag(c *cobra.Command) *string {
	file := c.Flags().StringP("config", "c", "", "configuration file (YAML)")
	_ = c.MarkFlagRequired("config") // fails only without such a flag
	return file
}

func validateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate --config FILE",
		Short: "Check a configuration; needs no secret, no network and no other file",
		Args:  cobra.NoArgs,
	}
	file := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(*file)
		if err != nil {
			return err
		}
		if err := checkProviders(cfg); err != nil {
			return err
		}
		for _, w := range cfg.Warnings() {
			fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.Error())
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: good: %d rules, %d providers\n", *file, len(cfg.Rules), len(cfg.Providers))
		return nil
	}
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what this program was built from",
		Args:  cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			fmt.Fprintf(c.OutOrStdout(), "gatehouse %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// buildVersion is the release, or else the commit.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if revision == "" {
		return info.Main.Version
	}
	return revision + modified
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration, for editors",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
