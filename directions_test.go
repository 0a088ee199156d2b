// Package gatehouse_test holds what is true of the whole repository.
package gatehouse_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-mesh/gatehouse/"

// may says which packages of ours a package may import, and which foreign modules. Reading the packages in this order is
// reading the product; an arrow that points backwards is a mistake in the design.
var may = map[string]struct{ ours, foreign []string }{
	"authz":                   {},
	"authz/celcond":           {ours: []string{"authz"}, foreign: []string{"cel.dev/cel-go/"}},
	"authz/extauthz":          {ours: []string{"authz"}, foreign: []string{"github.com/envoyproxy/go-control-plane/", "google.golang.org/"}},
	"authz/forwardauth":       {ours: []string{"authz"}},
	"session":                 {ours: []string{"authz", "session/seal", "proto/"}, foreign: []string{"google.golang.org/protobuf/"}},
	"session/seal":            {},
	"session/redisstore":      {ours: []string{"session"}, foreign: []string{"github.com/redis/go-redis/"}},
	"session/sessiontest":     {ours: []string{"session"}},
	"oidc":                    {ours: []string{"authz"}, foreign: []string{"github.com/coreos/go-oidc/v3/", "github.com/go-jose/go-jose/v4/", "golang.org/x/oauth2/", "golang.org/x/sync/"}},
	"oidc/login":              {ours: []string{"authz", "oidc", "session", "session/seal"}, foreign: []string{"golang.org/x/sync/"}},
	"oidc/logout":             {ours: []string{"authz", "oidc", "oidc/login", "session", "session/seal"}},
	"oidc/oidctest":           {foreign: []string{"github.com/go-jose/go-jose/v4/"}},
	"cmd/internal/config":     {ours: []string{"authz", "authz/celcond"}, foreign: []string{"github.com/goccy/go-yaml/"}},
	"cmd/internal/config/gen": {ours: []string{"cmd/internal/config"}},
	"cmd/internal/whatif":     {ours: []string{"authz", "cmd/internal/config", "oidc"}},
	"cmd/internal/probe":      {},
	"cmd/internal/admin":      {ours: []string{"session", "proto/"}, foreign: []string{"google.golang.org/"}},
	"cmd/internal/telemetry":  {ours: []string{"authz"}, foreign: []string{"go.opentelemetry.io/", "github.com/prometheus/", "google.golang.org/"}},
	"cmd/demo":                {ours: []string{"oidc/oidctest"}},
}

// free are the packages that may import what they like: the one that joins everything,
// and what is generated.
var free = []string{"cmd/gatehouse", "proto/"}

func TestImportsPointOneWay(t *testing.T) {
	seen := 0
	for name, paths := range imports(t) {
		rule, ok := may[name]
		if !ok {
			if !matches(name, free) {
				t.Errorf("nothing says what %s may import", name)
			}
			continue
		}
		seen++
		for _, path := range paths {
			if ours, ok := strings.CutPrefix(path, module); ok {
				if !matches(ours, rule.ours) {
					t.Errorf("%s imports %s", name, ours)
				}
			} else if strings.Contains(strings.SplitN(path, "/", 2)[0], ".") && !matches(path, rule.foreign) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	if seen != len(may) {
		t.Errorf("%d of the %d packages listed here exist", seen, len(may))
	}
}

// imports reads what every package of the module imports, for any system. It opens the
// files itself: "go test" would not see that what another command reads has changed, and
// would repeat an old result.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (d.Name()[0] == '.' || d.Name() == "testdata" || isModule(path)):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(filepath.Dir(path))
		for _, i := range f.Imports {
			all[name] = append(all[name], strings.Trim(i.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// matches reports whether path is one of names, or below one that ends in a slash.
func matches(path string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return path == n || strings.HasSuffix(n, "/") && strings.HasPrefix(path+"/", n)
	})
}
