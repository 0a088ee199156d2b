package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/probe"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/whatif"
)

func probeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "probe --config FILE",
		Short: "Ask every protected host through its front door, and report which lets a stranger in",
		Long: "Ask every protected host through its real front door: as nobody, with garbage, as somebody who pretends to be known\n" +
			"and, with probe.token_file, with a token for another audience.\n" +
			"Exit codes: 0 all refused, 1 something did not refuse or could not be asked, 2 wrong flags or configuration.",
		Args: cobra.NoArgs,
	}
	file := configFlag(c)
	var asJSON bool
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, m, err := loadModel(*file)
		if err != nil {
			return err
		}
		prober, doors, err := buildProber(cfg, m)
		if err != nil {
			return err
		}
		if len(doors) == 0 {
			return fmt.Errorf("%s: no rule protects an exact host, so there is nothing to ask", *file)
		}
		findings := prober.Run(c.Context())
		if asJSON {
			err = printJSON(c.OutOrStdout(), findings)
		} else {
			printFindings(c.OutOrStdout(), findings)
		}
		if err != nil {
			return err
		}
		return failedProbes(findings)
	}
	return c
}

func failedProbes(findings []probe.Finding) error {
	failed := 0
	for _, f := range findings {
		if f.Failed() {
			failed++
		}
	}
	if failed > 0 {
		return failure{fmt.Errorf("%d of %d requests were not refused", failed, len(findings))}
	}
	return nil
}

func printFindings(w io.Writer, findings []probe.Finding) {
	for _, f := range findings {
		word, why := "refused", strconv.Itoa(f.Status)
		switch {
		case f.Open:
			word, why = "OPEN", f.Problem
		case f.Failed():
			word, why = "unknown", f.Problem
		}
		fmt.Fprintf(w, "%-8s %s as %s (rule %s): %s\n", word, f.URL, f.As, f.Rule, why)
	}
}

// buildProber reads what a round needs, and asks nobody.
func buildProber(cfg *config.Config, m *whatif.Model) (*probe.Prober, []probe.Door, error) {
	settings := cfg.Probe
	if settings == nil {
		settings = &config.Probe{}
	}
	pc := probe.Config{Doors: doorsOf(cfg, m), Timeout: settings.Timeout, Connect: settings.Connect}
	if settings.CAFile != "" {
		pool, err := readCAs(cfg.Path(settings.CAFile))
		if err != nil {
			return nil, nil, cfg.Mistake("probe.ca_file", err.Error(), "", "")
		}
		pc.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	if settings.TokenFile != "" {
		token, err := config.ReadSecret(cfg.Path(settings.TokenFile))
		if err != nil {
			return nil, nil, cfg.Mistake("probe.token_file", err.Error(), "", "")
		}
		pc.Token = token
	}
	return probe.New(pc), pc.Doors, nil
}

// doorsOf are the places that every rule protects on its exact hosts, each asked for in
// a way that the rules themselves refuse to a stranger.
func doorsOf(cfg *config.Config, m *whatif.Model) []probe.Door {
	var doors []probe.Door
	for i := range cfg.Rules {
		r := &cfg.Rules[i]
		if r.Allow != "" {
			continue
		}
		for _, origin := range r.Origins() {
			for _, path := range doorPaths(r) {
				d := probe.Door{Rule: r.Name, Origin: origin, Path: path, Method: doorMethod(r), Start: startsOf(cfg, origin)}
				decision := m.Decide(whatif.Request{Method: d.Method, URL: origin + path}, nil)
				if decision.Rule == r.Name && whatif.Outcome(&decision) != "allow" {
					doors = append(doors, d)
				}
			}
		}
	}
	return doors
}

// doorPaths are places that a rule is about.
func doorPaths(r *config.Rule) []string {
	if len(r.Paths) == 0 {
		return []string{"/"}
	}
	var paths []string
	for _, p := range r.Paths {
		if below, ok := strings.CutSuffix(p, "/**"); ok {
			p = below + "/gatehouse-probe"
		}
		paths = append(paths, p)
	}
	return paths
}

// doorMethod is one that changes nothing, if the rule is about such a one.
func doorMethod(r *config.Rule) string {
	for _, m := range r.Methods {
		if m == "GET" || m == "HEAD" {
			return m
		}
	}
	if len(r.Methods) > 0 {
		return r.Methods[0]
	}
	return "GET"
}

// startsOf are the addresses that an origin may send a stranger to.
func startsOf(cfg *config.Config, origin string) []string {
	starts := []string{cfg.Prefix + "/start", origin + cfg.Prefix + "/start"}
	if h := cfg.LoginHost(); h != nil {
		starts = append(starts, h.Origin+cfg.Prefix+"/start")
	}
	return starts
}

// probed is what the last round of the running program found.
type probed struct {
	last atomic.Pointer[map[telemetry.ProbeDoor]bool] // whether it failed
}

func (p *probed) read() map[telemetry.ProbeDoor]bool {
	if last := p.last.Load(); last != nil {
		return *last
	}
	return nil
}

// probeDoors asks until ctx ends: every interval, and after every reload.
func (p *program) probeDoors(ctx context.Context) {
	tick := time.NewTicker(time.Second) // the least interval
	defer tick.Stop()
	var asked *config.Config
	var last time.Time
	for {
		switch cfg := p.current.Load().config; {
		case cfg.Probe == nil:
			p.probed.last.Store(nil)
		case cfg != asked || time.Since(last) >= cfg.Probe.Interval:
			asked, last = cfg, time.Now()
			p.probeOnce(ctx, cfg)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *program) probeOnce(ctx context.Context, cfg *config.Config) {
	identify, err := identifier(cfg)
	var m *whatif.Model
	if err == nil {
		m, err = whatif.New(cfg, identify)
	}
	var prober *probe.Prober
	if err == nil {
		prober, _, err = buildProber(cfg, m)
	}
	if err != nil {
		p.logger().Error("probe_failed", "error", err.Error())
		return
	}
	state := map[telemetry.ProbeDoor]bool{}
	for _, f := range prober.Run(ctx) {
		if ctx.Err() != nil {
			return // cut short by us
		}
		door := telemetry.ProbeDoor{Rule: f.Rule, Origin: f.Origin}
		state[door] = state[door] || f.Failed()
		if f.Failed() {
			p.logger().LogAttrs(ctx, slog.LevelError, "probe_failed", slog.String("rule", f.Rule), slog.String("url", f.URL),
				slog.String("as", f.As), slog.Int("status", f.Status), slog.Bool("open", f.Open), slog.String("problem", f.Problem))
		}
	}
	p.probed.last.Store(&state)
}
