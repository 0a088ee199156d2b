package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
)

func document(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var aCommand = regexp.MustCompile("(?m)(?:^    |`)/?gatehouse ([^`#>\n]+)")

// The commands in documents have the flags that they are shown with.
func TestCommandsInDocuments(t *testing.T) {
	found := 0
	for _, file := range []string{"README.md", "docs/operating.md", "docs/policy-tests.md", "manifests/kubernetes/gatehouse.yaml"} {
		text := strings.ReplaceAll(strings.ReplaceAll(document(t, file), "-- /gatehouse", "`gatehouse"), "#   gatehouse", "    gatehouse")
		for _, m := range aCommand.FindAllStringSubmatch(text, -1) {
			found++
			args := strings.Fields(strings.Replace(m[1], "…", "--provider p --subject s", 1))
			c, rest, err := command().Find(args)
			if err == nil {
				err = errors.Join(c.ParseFlags(rest), c.ValidateArgs(c.Flags().Args()), c.ValidateRequiredFlags(), c.ValidateFlagGroups())
			}
			if err == nil && c.RunE == nil && len(args) > 1 {
				err = errors.New("no such command")
			}
			if err != nil {
				t.Errorf("%s: gatehouse %s: %v", file, m[1], err)
			}
		}
	}
	if found < 13 {
		t.Errorf("%d commands found: this test sees too little", found)
	}
}

// The metrics that operators are told to watch are there, with their labels.
func TestMetricsInDocuments(t *testing.T) {
	m, err := telemetry.NewMetrics("test")
	if err != nil {
		t.Fatal(err)
	}
	m.Observe(nil, &authz.Decision{Reason: authz.ReasonPanic}, time.Millisecond)
	m.Observe(nil, &authz.Decision{Outcome: authz.Allow, Reason: authz.ReasonAnonymous}, time.Millisecond)
	m.Observe(nil, &authz.Decision{Reason: authz.ReasonUnavailable}, time.Millisecond)
	m.StoreCall("load", errors.New("down"), time.Millisecond)
	m.Reloaded(false)
	for kind := range eventLevels {
		m.SessionEvent(kind)
	}
	doors := map[telemetry.ProbeDoor]bool{{Rule: "app", Origin: "https://app.example.com"}: true}
	err = errors.Join(m.Rules(func() (int, int) { return 1, 1 }), m.Probe(func() map[telemetry.ProbeDoor]bool { return doors }), m.Sessions(func() (int, int64, bool) { return 1, 1, true }), m.Providers(func() map[string]bool { return map[string]bool{"corp": true} }))
	if err != nil {
		t.Fatal(err)
	}
	down := http.Client{Transport: m.Transport("corp", failing{})}
	if _, err := down.Get("http://idp.example.com"); err == nil {
		t.Fatal("the provider is not down")
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	shown, text := w.Body.String(), document(t, "docs/operating.md")
	names := regexp.MustCompile(`gatehouse_[a-z_]+(\{[^}]*\})?`).FindAllString(text, -1)
	for _, each := range names {
		name, labels, _ := strings.Cut(strings.TrimSuffix(each, "}"), "{")
		line := regexp.QuoteMeta(name) + `(_count)?[{ ]`
		for label := range strings.SplitSeq(labels, ",") {
			key, value, selects := strings.Cut(label, "=")
			line += `.*` + strings.TrimPrefix(key, "~")
			if selects {
				line += `="(` + strings.Trim(value, `~"`) + `)"`
			}
		}
		if !regexp.MustCompile(`(?m)^` + line).MatchString(shown) {
			t.Errorf("no metric looks like %s (%s)", each, line)
		}
	}
	if len(names) < 10 {
		t.Errorf("%d metrics found: this test sees too little", len(names))
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("down") }

// The table of log lines has every event of a session, and no line that does not exist.
func TestLogLinesInDocuments(t *testing.T) {
	_, text, _ := strings.Cut(document(t, "docs/operating.md"), "## What the log says of sessions\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var told []string
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([a-z]+(_[a-z]+)+)`").FindAllStringSubmatch(line, -1) {
				told = append(told, m[1])
			}
		}
	}
	for kind := range eventLevels {
		if !slices.Contains(told, "session_"+kind) {
			t.Errorf("session_%s is not explained", kind)
		}
	}
	known := logged(t)
	for _, name := range told {
		kind, _ := strings.CutPrefix(name, "session_")
		if _, event := eventLevels[kind]; !event && !strings.Contains(known, `"`+name+`"`) && !strings.Contains(known, "`yaml:\""+name+`"`) {
			t.Errorf("nothing logs %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`slog\.Level[A-Z][a-z]+, "([a-z_]+)"`).FindAllStringSubmatch(known, -1) {
		if !slices.Contains(told, m[1]) && m[1] != "login_panic" {
			t.Errorf("%s is not explained", m[1])
		}
	}
}

// logged is the source of the packages that log what becomes of sessions.
func logged(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"../../oidc/login", "../../oidc/logout", "../internal/config"} {
		err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(filepath.Join(dir, path))
			all.Write(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// The alert on a feed that is not alive does not fire where nobody signs in.
func TestNoFeedWithoutSessions(t *testing.T) {
	t.Parallel()
	g := start(t, "listen: {grpc: {address: '127.0.0.1:0'}, ops: {address: '127.0.0.1:0'}}\nshutdown: {pause: 0s}\nrules: [{name: open, hosts: [a.example.com], allow: anonymous}]\n")
	g.await(`"listener":"ops"`)
	if got := g.metric("gatehouse_session_feed_alive"); got != "" {
		t.Errorf("without sessions: %s", got)
	}
	g = start(t, fmt.Sprintf(base, "http://127.0.0.1:9"))
	g.await(`session_feed_alive`)
	if got := g.metric("gatehouse_session_feed_alive"); got != "gatehouse_session_feed_alive 1\n" {
		t.Errorf("with sessions: %q", got)
	}
}
