// Package e2e tests Gatehouse from outside: the built binary, real Envoy, real
// Redis, real OpenID providers and a real browser.
//
//	go test ./...                                everything
//	go test -run TestHeaders/1.40.0 ./...        one matrix entry
//	go test -tags traefik -run TestETraefik .    a real Traefik, which tools.sh builds only when told to
//	GATEHOUSE_E2E_KEEP=DIR go test ./...         keep logs and pictures in DIR
//	GATEHOUSE_E2E_BINARY=FILE go test ./...      test this binary instead of building one
//	GATEHOUSE_E2E_FULL=1 go test ./...           heavy tests at full size, several minutes more
//
// Tools come from ../.tools (tools.sh puts them there) and from PATH. A test
// whose tool is missing is skipped with a loud line; with CI=true it fails.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// run is what the tests of one run share.
var run struct {
	dir     string // logs, keys, pictures
	root    string // of the repository
	skipped []string
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	code := m.Run()
	browserStop()
	if leaks := leakGate(); len(leaks) > 0 {
		fmt.Fprintf(os.Stderr, "--- FAIL: leak gate\n    %s\n", strings.Join(leaks, "\n    "))
		code = 1
	}
	for _, s := range run.skipped {
		fmt.Fprintln(os.Stderr, "e2e: SKIPPED:", s)
	}
	switch {
	case os.Getenv("GATEHOUSE_E2E_KEEP") != "":
	case code != 0:
		fmt.Fprintln(os.Stderr, "e2e: logs are kept in", run.dir)
	default:
		os.RemoveAll(run.dir)
	}
	return code
}

func prepare() error {
	var err error
	if run.root, err = filepath.Abs(".."); err != nil {
		return err
	}
	ports.given = map[int]bool{}
	if keep := os.Getenv("GATEHOUSE_E2E_KEEP"); keep != "" {
		run.dir, err = filepath.Abs(keep)
		if err == nil {
			err = os.MkdirAll(run.dir, 0o700)
		}
	} else {
		run.dir, err = os.MkdirTemp("", "gatehouse-e2e-")
	}
	if err != nil {
		return err
	}
	return nil
}

// binary builds Gatehouse, once.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("GATEHOUSE_E2E_BINARY"); path != "" {
		return path, nil
	}
	return build("gatehouse")
})

// raceBinary is Gatehouse with the race detector in it.
var raceBinary = sync.OnceValues(func() (string, error) { return build("gatehouse-race", "-race") })

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(run.root, "bin", name)
	build := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, "./cmd/gatehouse")...)
	build.Dir = run.root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// missing skips the test loudly, or fails it where nothing may be skipped.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (with CI=true nothing is skipped)", what)
	}
	run.skipped = append(run.skipped, t.Name()+": "+what)
	t.Skip(what)
}

// tool returns the path of a program below .tools.
func tool(t testing.TB, path ...string) string {
	t.Helper()
	file := filepath.Join(append([]string{run.root, ".tools"}, path...)...)
	if _, err := os.Stat(file); err != nil {
		missing(t, fmt.Sprintf("%s is missing: run e2e/tools.sh", filepath.Join(path...)))
	}
	return file
}

// program returns the path of a program in PATH.
func program(t testing.TB, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		missing(t, fmt.Sprintf("%s is not in PATH: run e2e/tools.sh", name))
	}
	return file
}

// write puts a file into the run's directory and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	dir, err := os.MkdirTemp(run.dir, "files-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
