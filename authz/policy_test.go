package authz_test

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// open and closed make rules of which only name, host and paths matter.
func open(name, host string, paths ...string) authz.Rule {
	return authz.Rule{Name: name, Hosts: []string{host}, Paths: paths, Anonymous: true}
}

func closed(name, host string, paths ...string) authz.Rule {
	return authz.Rule{Name: name, Hosts: []string{host}, Paths: paths, Sources: login(&source{}), Require: authz.AnyUser()}
}

func with(r authz.Rule, change func(*authz.Rule)) authz.Rule {
	change(&r)
	return r
}

// fixture has the routes that the path and host cases refer to.
func fixture(t testing.TB) *authz.Policy {
	t.Helper()
	p, err := authz.NewPolicy([]authz.Rule{
		open("R1", "app.test", "/public/**"),
		with(closed("R2", "app.test", "/admin/**"), func(r *authz.Rule) { r.Require = authz.Groups("admins") }),
		closed("R4", "app.test"),
		closed("R5", "api.test", "/v1/**"),
		closed("R6", "api.test", "/v1/admin/**"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// matched names the rule for a path, or says why there is none.
func matched(p *authz.Policy, method, host, path string) string {
	rule, err := p.Match(&authz.Request{Method: method, Host: host, Path: path})
	switch _, ambiguous := errors.AsType[*authz.AmbiguousError](err); {
	case ambiguous:
		return "ambiguous"
	case errors.Is(err, authz.ErrNoRule):
		return "none"
	case err != nil:
		return err.Error()
	}
	return rule.Name
}

// TestPathConfusion covers P3 to P10, P2 and P5: what an upstream could take for
// another path is judged by the one rule of all its readings, or refused.
func TestPathConfusion(t *testing.T) {
	t.Parallel()
	p := fixture(t)
	for _, tt := range []struct{ id, path, want string }{
		{"", "/public/a.css", "R1"},
		{"", "/", "R4"},
		{"P2", "/admin/s%23/public/", "R2"},
		{"P3", "/public/../admin/", "ambiguous"},
		{"P3", "/public/%2e%2e/admin/", "ambiguous"},
		{"P3", "/public/.%2E/admin/", "ambiguous"},
		{"P3", "/public/..;/admin/", "ambiguous"},
		{"P3", "/public/..", "ambiguous"},
		{"P3", "/public/./a", "R1"},
		{"P3", "/public/a/../b", "R1"},
		{"P3", "/admin/..", "ambiguous"},
		{"P4", "/public/..%2fadmin", "ambiguous"},
		{"P4", "/public/..%2Fadmin", "ambiguous"},
		{"P4", "/public/..%5cadmin", "ambiguous"},
		{"P4", "/public/..%5Cadmin", "ambiguous"},
		{"P4", `/public/..\admin`, "ambiguous"},
		{"P4", `/public\a`, "ambiguous"},
		{"P4", "/public%2Fa", "ambiguous"},
		{"P4", "/public/group%2Fproject", "R1"},
		{"P4", "/group%2Fproject", "R4"},
		{"P5", "//admin/", "ambiguous"},
		{"P5", "//app.test/admin/", "ambiguous"},
		{"P5", "/public//../admin", "ambiguous"},
		{"P5", "/public//a", "R1"},
		{"P6", "/admin;x=y/a", "ambiguous"},
		{"P6", "/;a/admin/", "ambiguous"},
		{"P6", "/public;/..;/admin/", "ambiguous"},
		{"P6", "/public/a;jsessionid=1/b", "R1"},
		{"P6", "/x;y=1", "R4"},
		{"P7", "/public/%252e%252e/admin/", "ambiguous"},
		{"P7", "/public/%252f..%252fadmin", "ambiguous"},
		{"P7", "/public/100%25", "R1"},
		{"P9", "/ADMIN/", "R4"},
		{"P9", "/PUBLIC/", "R4"},
		{"P9", "/%61dmin/", "ambiguous"},
		{"P9", "/%41DMIN/", "R4"},
		{"P9", "/pub%6cic/", "ambiguous"},
		{"P10", "/publicity", "R4"},
		{"P10", "/public..", "R4"},
		{"P10", "/public.bak/", "R4"},
		{"P10", "/public", "R1"},
		{"P10", "/public/", "R1"},
		{"P10", "/adminx", "R4"},
		{"only dots decoded", "/public/x%2fy/%2e%2e/%2e%2e/admin", "ambiguous"},
		{"only slashes decoded", "/public/..%2fadmin%2f%2e%2e%2fpublic", "ambiguous"},
		{"", "/public/caf%C3%A9%20x", "R1"},
		{"", "/public%3f/../admin", "ambiguous"},
		{"", "/admin%3Fx", "ambiguous"},
		{"", "/...", "R4"},
		{"", "/public/.well-known/x", "R1"},
		{"", "/public/..a/..b", "R1"},
	} {
		if got := matched(p, "GET", "app.test", tt.path); got != tt.want {
			t.Errorf("%s %s is judged by %s, want %s", tt.id, tt.path, got, tt.want)
		}
	}
	for _, path := range []string{"/v1/../x", "/v1/admin/..%2f..%2f", "/x%2f..%2fv1/a"} {
		if got := matched(p, "GET", "api.test", path); got != "ambiguous" {
			t.Errorf("%s is judged by %s, want it refused: a reading has no rule", path, got)
		}
	}
	if got := matched(p, "GET", "api.test", "/v2/../x"); got != "none" {
		t.Errorf("a path without a rule under every reading is judged by %s, want none", got)
	}
	exact := policy(t, open("exact", "app.test", "/a"), closed("rest", "app.test"))
	if got := matched(exact, "GET", "app.test", "/a/x/.."); got != "ambiguous" {
		t.Errorf("/a/x/.. is judged by %s, want it refused: some leave no slash behind", got)
	}
	single := policy(t, closed("all", "app.test"))
	if got := matched(single, "GET", "app.test", "/"+strings.Repeat("..%2f;a//\\", 800)); got != "all" {
		t.Errorf("where one rule covers the host, a strange path is judged by %s, want all", got)
	}
}

func TestAmbiguousError(t *testing.T) {
	t.Parallel()
	_, err := fixture(t).Match(&authz.Request{Method: "GET", Host: "app.test", Path: "/public/../admin/"})
	e, ok := errors.AsType[*authz.AmbiguousError](err)
	if !ok || e.First != "R1" || e.Second != "R2" && e.Second != "R4" {
		t.Errorf("Match = %v, want both rules named", err)
	}
}

// TestReadingsAreBounded takes paths made to have as many readings as possible.
func TestReadingsAreBounded(t *testing.T) {
	p := policy(t, open("x", "app.test", "/nowhere/x"), closed("all", "app.test"))
	for _, unit := range []string{"%252e%252e%255c;a%253f//", `a%2f;%5c\%2e/./..//;%25`, "/./../", "%2525", ";%3b%253b", "//;/"} {
		long := "/" + strings.Repeat(unit, 8000/len(unit))
		for _, path := range []string{long, "/" + unit} {
			start := time.Now()
			matched(p, "GET", "app.test", path)
			if cost := time.Since(start); cost > 250*time.Millisecond {
				t.Errorf("%.30s (%d bytes) takes %v", path, len(path), cost)
			}
		}
	}
}

// TestHostConfusion covers H1, H2 and H5 beyond the canonical form.
func TestHostConfusion(t *testing.T) {
	t.Parallel()
	p := policy(t, closed("exact", "a.good.test", "/x/**"), closed("wide", "*.good.test"), closed("narrow", "*.b.good.test"), open("v6", "[::1]"))
	for _, tt := range []struct{ host, path, want string }{
		{"a.good.test", "/x", "exact"},
		{"a.good.test", "/y", "none"},
		{"c.good.test", "/y", "wide"},
		{"c.d.good.test", "/", "wide"},
		{"b.good.test", "/", "wide"},
		{"x.b.good.test", "/", "narrow"},
		{"y.x.b.good.test", "/", "narrow"},
		{"good.test", "/", "none"},
		{"evilgood.test", "/", "none"},
		{"other.test", "/", "none"},
		{"", "/", "none"},
		{"[::1]", "/", "v6"},
		{"[::2]", "/", "none"},
		{"test", "/", "none"},
	} {
		if got := matched(p, "GET", tt.host, tt.path); got != tt.want {
			t.Errorf("%s%s is judged by %s, want %s", tt.host, tt.path, got, tt.want)
		}
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	methods := func(m ...string) func(*authz.Rule) { return func(r *authz.Rule) { r.Methods = m } }
	p := policy(t,
		closed("root", "app.test", "/**"),
		closed("a", "app.test", "/a/**"),
		with(closed("a-write", "app.test", "/a/**"), methods("POST", "PUT")),
		with(closed("a-delete", "app.test", "/a/**"), methods("DELETE")),
		with(closed("ab-get", "app.test", "/a/b/**", "/other"), methods("GET")),
		closed("a-exact", "app.test", "/a"),
		with(closed("a-exact-get", "app.test", "/a"), methods("GET")),
		closed("slash", "app.test", "/s/"),
	)
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/", "root"},
		{"GET", "/x/y", "root"},
		{"GET", "/a/x", "a"},
		{"POST", "/a/x", "a-write"},
		{"PUT", "/a/", "a-write"},
		{"DELETE", "/a/x/y", "a-delete"},
		{"GET", "/a/b", "ab-get"},
		{"GET", "/a/b/c", "ab-get"},
		{"POST", "/a/b/c", "a-write"},
		{"HEAD", "/a/b", "a"},
		{"GET", "/a/bc", "a"},
		{"GET", "/a", "a-exact-get"},
		{"POST", "/a", "a-exact"},
		{"GET", "/other", "ab-get"},
		{"GET", "/other/", "root"},
		{"POST", "/other", "root"},
		{"GET", "/s/", "slash"},
		{"GET", "/s", "root"},
		{"GET", "/s/x", "root"},
		{"PATCH", "/A", "root"},
	} {
		if got := matched(p, tt.method, "app.test", tt.path); got != tt.want {
			t.Errorf("%s %s is judged by %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
}

// TestPolicyRefusals covers N2, N4 and P13: these do not start.
func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	src := &source{}
	app := func(change func(*authz.Rule)) []authz.Rule {
		return []authz.Rule{with(closed("app", "app.test"), change)}
	}
	path := func(p string) []authz.Rule { return []authz.Rule{closed("app", "app.test", p)} }
	host := func(h string) []authz.Rule { return []authz.Rule{closed("app", h)} }
	two := []authz.Source{{Provider: "a", Login: true, Authenticator: src}, {Provider: "b", Authenticator: src}}
	for _, tt := range []struct {
		name  string
		rules []authz.Rule
		at    int
		key   string
		says  string
	}{
		{"no rules", nil, -1, "rules", "no rules"},
		{"no name", app(func(r *authz.Rule) { r.Name = "" }), 0, "name", "no name"},
		{"name with line break", app(func(r *authz.Rule) { r.Name = "a\nb" }), 0, "name", "printable"},
		{"long name", app(func(r *authz.Rule) { r.Name = strings.Repeat("a", 65) }), 0, "name", "64"},
		{"same name", []authz.Rule{closed("app", "a.test"), closed("app", "b.test")}, 1, "name", "rules[0]"},
		{"no hosts", app(func(r *authz.Rule) { r.Hosts = nil }), 0, "hosts", "empty"},
		{"empty paths", app(func(r *authz.Rule) { r.Paths = []string{} }), 0, "paths", "every path"},
		{"empty methods", app(func(r *authz.Rule) { r.Methods = []string{} }), 0, "methods", "every method"},
		{"lower-case method", app(func(r *authz.Rule) { r.Methods = []string{"get"} }), 0, "methods", "upper case"},
		{"host twice", app(func(r *authz.Rule) { r.Hosts = []string{"a.test", "a.test"} }), 0, "hosts", "twice"},
		{"method twice", app(func(r *authz.Rule) { r.Methods = []string{"GET", "GET"} }), 0, "methods", "twice"},
		{"no source", app(func(r *authz.Rule) { r.Sources = nil }), 0, "allow", "who may pass"},
		{"source without provider", app(func(r *authz.Rule) { r.Sources = []authz.Source{{Authenticator: src}} }), 0, "bearer", "provider"},
		{"source without authenticator", app(func(r *authz.Rule) { r.Sources = []authz.Source{{Provider: "corp", Login: true}} }), 0, "login", "provider"},
		{"no require", app(func(r *authz.Rule) { r.Require = authz.Condition{} }), 0, "require", "any_user"},
		{"anonymous with login", app(func(r *authz.Rule) { r.Anonymous = true; r.Require = authz.Condition{} }), 0, "allow", "nobody"},
		{"anonymous with require", app(func(r *authz.Rule) { r.Anonymous = true; r.Sources = nil }), 0, "require", "nobody"},
		{"anonymous with forward", []authz.Rule{with(open("app", "app.test"), func(r *authz.Rule) { r.Forward.IDToken = true })}, 0, "forward", "token"},
		{"whose group", app(func(r *authz.Rule) { r.Sources = two; r.Require = authz.Groups("g") }), 0, "require", "several providers"},
		{"whose group of one branch", app(func(r *authz.Rule) {
			r.Sources = two
			r.Require = authz.Any(authz.All(authz.FromProvider("a"), authz.Groups("g")), authz.Emails("a@good.test"))
		}), 0, "require", "several providers"},
		{"whose group of an alternative", app(func(r *authz.Rule) {
			r.Sources = two
			r.Require = authz.All(authz.Any(authz.FromProvider("a"), authz.AnyUser()), authz.Groups("g"))
		}), 0, "require", "several providers"},
		{"P13 regex", path(`^/static/.*\.css$`), 0, "paths", "regular expressions"},
		{"P13 group", path("/(a|b)"), 0, "paths", "regular expressions"},
		{"P13 class", path("/[ab]/**"), 0, "paths", "regular expressions"},
		{"P13 one or more", path("/a.+"), 0, "paths", "regular expressions"},
		{"P13 end", path("/a$"), 0, "paths", "regular expressions"},
		{"star in the middle", path("/a/*/b"), 0, "paths", "/**"},
		{"star at the end", path("/a*"), 0, "paths", "/**"},
		{"two stars without slash", path("/a**"), 0, "paths", "/**"},
		{"no slash", path("a"), 0, "paths", "write /a"},
		{"empty path", path(""), 0, "paths", "slash"},
		{"query", path("/a?b"), 0, "paths", "read differently"},
		{"escape", path("/a%20b"), 0, "paths", "read differently"},
		{"parameter", path("/a;b"), 0, "paths", "read differently"},
		{"not ASCII", path("/é"), 0, "paths", "read differently"},
		{"empty segment", path("/a//b"), 0, "paths", "segment"},
		{"empty last segment", path("/a//**"), 0, "paths", "segment"},
		{"dot segment", path("/a/../b"), 0, "paths", "segment"},
		{"last dot segment", path("/a/."), 0, "paths", "segment"},
		{"host with scheme", host("https://app.test"), 0, "hosts", "no scheme"},
		{"host with port", host("app.test:443"), 0, "hosts", "no port"},
		{"upper-case host", host("App.test"), 0, "hosts", "write app.test"},
		{"upper-case wildcard", host("*.App.test"), 0, "hosts", "write *.app.test"},
		{"host with dot", host("app.test."), 0, "hosts", "write app.test"},
		{"every host", host("*"), 0, "hosts", "*.example.com"},
		{"star inside", host("a.*.test"), 0, "hosts", "*.example.com"},
		{"star as part", host("a*.test"), 0, "hosts", "*.example.com"},
		{"wildcard address", host("*.[::1]"), 0, "hosts", "no host"},
		{"never matches", []authz.Rule{closed("a", "app.test"), closed("b", "app.test", "/**")}, 1, "paths", `rule "a" already answers`},
		{"one method never matches", []authz.Rule{
			with(closed("a", "app.test", "/x"), func(r *authz.Rule) { r.Methods = []string{"GET", "PUT"} }),
			with(closed("b", "app.test", "/x"), func(r *authz.Rule) { r.Methods = []string{"PUT"} }),
		}, 1, "paths", "(PUT)"},
		{"overrides nothing", app(func(r *authz.Rule) { r.Overrides = []string{"other"} }), 0, "overrides", `"other"`},
	} {
		p, err := authz.NewPolicy(tt.rules)
		e, ok := errors.AsType[*authz.RuleError](err)
		if !ok || p != nil {
			t.Errorf("%s: NewPolicy = %v, want it refused", tt.name, err)
			continue
		}
		if e.Rule != tt.at || e.Key != tt.key || !strings.Contains(e.Msg+" "+e.Hint, tt.says) || !strings.Contains(e.Error(), e.Msg) {
			t.Errorf("%s: rule %d, %s: %s; %s, want rule %d, %s: …%s…", tt.name, e.Rule, e.Key, e.Msg, e.Hint, tt.at, tt.key, tt.says)
		}
	}
}

func TestPolicyTakes(t *testing.T) {
	t.Parallel()
	src := &source{}
	two := []authz.Source{{Provider: "a", Login: true, Authenticator: src}, {Provider: "b", Authenticator: src}}
	for name, c := range map[string]authz.Condition{
		"any user":       authz.AnyUser(),
		"audience":       authz.Audience("x"),
		"provider named": authz.All(authz.FromProvider("a"), authz.Groups("g")),
		"each named":     authz.Any(authz.All(authz.FromProvider("a"), authz.Groups("g")), authz.All(authz.Emails("a@good.test"), authz.FromProvider("b"))),
	} {
		if _, err := authz.NewPolicy([]authz.Rule{{Name: "r", Hosts: []string{"app.test"}, Sources: two, Require: c}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	same := []authz.Source{{Provider: "a", Login: true, Authenticator: src}, {Provider: "a", Authenticator: src}}
	if _, err := authz.NewPolicy([]authz.Rule{{Name: "r", Hosts: []string{"app.test"}, Sources: same, Require: authz.Groups("g")}}); err != nil {
		t.Errorf("login and bearer of one provider: %v", err)
	}
	if _, err := authz.NewPolicy([]authz.Rule{closed("r", "app.test", "/", "/c++/x", "/$metadata", "/a(b)/**", "/.well-known/**", "/a/", "/x@y:z")}); err != nil {
		t.Errorf("paths with odd but plain characters: %v", err)
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	_, err := authz.NewPolicy([]authz.Rule{{Name: "a", Hosts: []string{"*"}, Paths: []string{"x", "/y*"}}, {Name: "a", Methods: []string{"get"}}})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 8 {
		t.Errorf("NewPolicy = %v, want eight mistakes", err)
	}
}

// TestOverrides: a rule of an exact host that hides a stricter one says so.
func TestOverrides(t *testing.T) {
	t.Parallel()
	admins := func(r *authz.Rule) { r.Require = authz.Groups("admins") }
	other := func(r *authz.Rule) {
		r.Sources = []authz.Source{{Provider: "other", Login: true, Authenticator: &source{}}}
	}
	says := func(names ...string) func(*authz.Rule) { return func(r *authz.Rule) { r.Overrides = names } }
	post := func(r *authz.Rule) { r.Methods = []string{"POST"} }
	for _, tt := range []struct {
		name   string
		rules  []authz.Rule
		hidden bool
	}{
		{"anonymous over login", []authz.Rule{open("n", "app.x.test"), closed("w", "*.x.test")}, true},
		{"said so", []authz.Rule{with(open("n", "app.x.test"), says("w")), closed("w", "*.x.test")}, false},
		{"login over anonymous", []authz.Rule{closed("n", "app.x.test"), open("w", "*.x.test")}, false},
		{"anybody over anybody", []authz.Rule{closed("n", "app.x.test"), closed("w", "*.x.test")}, false},
		{"group over anybody", []authz.Rule{with(closed("n", "app.x.test"), admins), closed("w", "*.x.test")}, false},
		{"anybody over group", []authz.Rule{closed("n", "app.x.test"), with(closed("w", "*.x.test"), admins)}, true},
		{"same group", []authz.Rule{with(closed("n", "app.x.test"), admins), with(closed("w", "*.x.test"), admins)}, false},
		{"other provider", []authz.Rule{with(closed("n", "app.x.test"), other), closed("w", "*.x.test")}, true},
		{"other paths", []authz.Rule{open("n", "app.x.test", "/a/**"), closed("w", "*.x.test", "/b/**")}, false},
		{"path inside", []authz.Rule{open("n", "app.x.test", "/a/b"), closed("w", "*.x.test", "/a/**")}, true},
		{"path around", []authz.Rule{open("n", "app.x.test"), closed("w", "*.x.test", "/admin/**")}, true},
		{"path around, but repeated", []authz.Rule{open("n", "app.x.test"), closed("n2", "app.x.test", "/admin/**"), closed("w", "*.x.test", "/admin/**")}, false},
		{"open below on both", []authz.Rule{open("n", "app.x.test", "/static/x/**"), closed("w", "*.x.test"), open("w2", "*.x.test", "/static/**")}, false},
		{"other methods", []authz.Rule{with(open("n", "app.x.test"), func(r *authz.Rule) { r.Methods = []string{"GET"} }), with(closed("w", "*.x.test"), post)}, false},
		{"one method repeated only", []authz.Rule{open("n", "app.x.test"), with(closed("n2", "app.x.test", "/admin/**"), post), closed("w", "*.x.test", "/admin/**")}, true},
		{"method before a rule of the same path", []authz.Rule{with(open("n", "app.x.test", "/a"), post), closed("n2", "app.x.test", "/a"), closed("w", "*.x.test")}, true},
		{"narrow wildcard over wide", []authz.Rule{open("n", "*.a.x.test"), closed("w", "*.x.test")}, true},
		{"nearest wildcard only", []authz.Rule{open("n", "b.a.x.test"), with(open("m", "*.a.x.test"), says("w")), closed("w", "*.x.test")}, false},
		{"rule of both hosts", []authz.Rule{{Name: "n", Hosts: []string{"app.x.test", "*.x.test"}, Sources: login(&source{}), Require: authz.Groups("g")}}, false},
	} {
		_, err := authz.NewPolicy(tt.rules)
		e, refused := errors.AsType[*authz.RuleError](err)
		if refused != tt.hidden {
			t.Errorf("%s: NewPolicy = %v, want refused: %v", tt.name, err, tt.hidden)
		}
		if refused && (e.Rule != 0 || e.Key != "hosts" || !strings.Contains(e.Hint, "overrides: [w]")) {
			t.Errorf("%s: rule %d, %s, hint %q, want a hint at overrides: [w]", tt.name, e.Rule, e.Key, e.Hint)
		}
	}
}

// TestPolicyIsACopy: what the caller does to his rules later changes nothing.
func TestPolicyIsACopy(t *testing.T) {
	t.Parallel()
	rules := []authz.Rule{with(closed("app", "app.test", "/a"), func(r *authz.Rule) { r.Methods = []string{"GET"} })}
	p := policy(t, rules...)
	rules[0].Methods[0], rules[0].Sources[0].Login, rules[0].Name = "PUT", false, "x"
	r, err := p.Match(&authz.Request{Method: "GET", Host: "app.test", Path: "/a"})
	if err != nil || r.Name != "app" || !r.Sources[0].Login {
		t.Errorf("Match = %v, %v, want the rule as it was", r, err)
	}
}

// upstreams are ways in which real servers read a path, written down apart from
// the code under test.
var upstreams = map[string]func(string) string{
	"go":     func(p string) string { return path.Clean(decode(p)) },
	"nginx":  func(p string) string { return resolve(merge(decode(p))) },
	"plain":  func(p string) string { return resolve(p) },
	"envoy":  func(p string) string { return merge(resolve(strings.ReplaceAll(slashes(p), `\`, "/"))) },
	"tomcat": func(p string) string { return resolve(merge(decode(params(p)))) },
	"spring": func(p string) string { return merge(params(decode(p))) },
	"iis":    func(p string) string { return resolve(strings.ReplaceAll(decode(p), `\`, "/")) },
	"twice":  func(p string) string { return resolve(decode(decode(p))) },
	"chain":  func(p string) string { return params(resolve(merge(decode(resolve(merge(decode(p))))))) },
}

func decode(p string) string {
	if s, err := url.PathUnescape(p); err == nil {
		return s
	}
	return p
}

func slashes(p string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`).Replace(p)
}

func merge(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	return p
}

func params(p string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// resolve is RFC 3986 section 5.2.4 word by word.
func resolve(in string) string {
	out := ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			in = "/" + strings.TrimPrefix(in[3:], "/")
			out = out[:max(0, strings.LastIndexByte(out, '/'))]
		default:
			end := len(in)
			if i := strings.IndexByte(in[1:], '/'); i >= 0 {
				end = i + 1
			}
			out, in = out+in[:end], in[end:]
		}
	}
	return out
}

// FuzzPath: whatever an upstream makes of a path that is judged by a rule, is
// judged by the same rule.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/", "/public/../admin/", "/public/%2e%2e/admin", "/public/..%5cadmin", "/a//b;c/.%2E/%252e%252e/", `/public\..\admin`, "/pub%6cic/x", "/admin;a/b",
		"/public/x/%2e%2e%2fy", "//admin", "/.;/admin", "/public/..;/admin", "/;/..;/%2fadmin", "/%2525252e", "/group%2Fproject", "/v1/admin",
	} {
		f.Add(s)
	}
	p := fixture(f)
	f.Fuzz(func(t *testing.T, target string) {
		r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: "app.test", Target: target})
		if err != nil {
			return
		}
		want := matched(p, "GET", "app.test", r.Path)
		if want == "ambiguous" {
			return
		}
		for name, read := range upstreams {
			got := read(r.Path)
			if strings.ContainsAny(got, `%;\`) || strings.Contains(got, "//") || got != resolve(got) || got == "" || got[0] != '/' {
				continue // not the end of the story
			}
			if as := matched(p, "GET", "app.test", got); as != want {
				t.Errorf("%q is judged by %s, but %s takes it for %q, which belongs to %s", r.Path, want, name, got, as)
			}
		}
	})
}

func benchmarkMatch(b *testing.B, rules int, path string) {
	list := make([]authz.Rule, 0, rules)
	for i := range rules / 10 {
		for j := range 10 {
			list = append(list, closed(fmt.Sprintf("r%d-%d", i, j), fmt.Sprintf("app%d.test", i), fmt.Sprintf("/part%d/**", j)))
		}
	}
	p, err := authz.NewPolicy(list)
	if err != nil {
		b.Fatal(err)
	}
	r := &authz.Request{Method: "GET", Host: "app0.test", Path: path}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Match(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch10(b *testing.B)    { benchmarkMatch(b, 10, "/part5/some/page.html") }
func BenchmarkMatch10000(b *testing.B) { benchmarkMatch(b, 10_000, "/part5/some/page.html") }
func BenchmarkMatchWorst(b *testing.B) {
	p := policy(b, open("x", "app.test", "/nowhere/x"), closed("all", "app.test"))
	r := &authz.Request{Method: "GET", Host: "app.test", Path: "/" + strings.Repeat("%252e%252e%255c;a%253f//", 340)}
	for b.Loop() {
		_, _ = p.Match(r)
	}
}
func BenchmarkMatchReadings(b *testing.B) { benchmarkMatch(b, 10_000, "/part5/group%2Fproject") }
