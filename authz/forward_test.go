package authz_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// forwards is a rule that recognises somebody with these claims and sends headers.
func forwards(t *testing.T, claims string, headers ...string) authz.Rule {
	t.Helper()
	c, err := authz.ParseClaims([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	id := alice()
	id.Claims = c
	rule := knows(id)
	for i := 0; i < len(headers); i += 2 {
		h, err := authz.NewClaimHeader(headers[i], headers[i+1])
		if err != nil {
			t.Fatal(err)
		}
		rule.Forward.Headers = append(rule.Forward.Headers, h)
	}
	return rule
}

func TestClaimHeaders(t *testing.T) {
	t.Parallel()
	const claims = `{"team":"web","org":{"id":7,"name":"a/b"},"vip":true,"roles":["x","a,b",3],"odd":[{}],"zero":null,"empty":"","evil":"a\r\nX-Root: 1","per":"5%"}`
	for template, want := range map[string]string{
		"{team}":                  "web",
		"{/team}":                 "web",
		"{/org/id}":               "7",
		"{vip}":                   "true",
		"{roles}":                 "x,a%2Cb,3",
		"{/roles/0}":              "x",
		"tenant-{team}":           "tenant-web",
		"{team}!":                 "web!",
		"{/org/name}/{team}":      "a%2Fb/web",
		"{team}/{/org/name}":      "web/a/b",
		"{evil}":                  "a%0D%0AX-Root: 1",
		"{per}":                   "5%25",
		"{missing}":               "",
		"{team}/{missing}":        "",
		"{zero}":                  "",
		"{empty}":                 "",
		"{org}":                   "",
		"{odd}":                   "",
		"team {roles}":            "",
		"user={team}; org={evil}": "user=web; org=a%0D%0AX-Root: 1",
	} {
		d := allowed(t, forwards(t, claims, "X-Team", template), field("x-team", "root"), field("x_team", "root"), field("x-teams", "mine"))
		if got := value(d.Set, "x-team"); got != want {
			t.Errorf("%s = %q, want %q", template, got, want)
		}
		if removed := slices.Contains(d.Remove, "x-team"); removed == (want != "") {
			t.Errorf("%s: removed: %v", template, removed)
		}
		if !slices.Contains(d.Remove, "x_team") || slices.Contains(d.Remove, "x-teams") {
			t.Errorf("%s: removed %v, want x_team among them and not x-teams", template, d.Remove)
		}
	}
}

// TestS1ClaimHeadersAreOursEverywhere: what one rule sends, nobody can send through another.
func TestS1ClaimHeadersAreOursEverywhere(t *testing.T) {
	t.Parallel()
	rule := forwards(t, `{"team":"web"}`, "X-Team", "{team}")
	rule.Paths = []string{"/team/**"}
	a, err := authz.New(authz.Config{Policy: policy(t, rule, open("rest", "app.test"), open("elsewhere", "other.test"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"app.test", "other.test"} {
		for _, name := range []string{"x-team", "x.team", "x_team"} {
			d := a.Authorize(t.Context(), request(t, "GET", host, "/", field(name, "root")))
			if d.Outcome != authz.Allow || !slices.Contains(d.Remove, name) || !slices.Contains(d.Remove, "x-team") {
				t.Errorf("%s on %s: %v, removed %v", name, host, d.Outcome, d.Remove)
			}
		}
	}
}

func TestClaimHeaderRefusals(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", "X Team", "X_Team", "X:Team", "é", "-x", ":path", "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "TE", "Upgrade",
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Auth-Request-User", "X-Auth-Request-Team", "X-Forwarded-User", "X-Forwarded-For",
		"X-Forwarded-Host", "Forwarded", "X-Real-IP", "X-Envoy-Retry-On", "X-Request-Id", "X-HTTP-Method-Override", "X-Original-URL", "Sec-Fetch-Mode", "Accept", "If-Match", "Origin",
	} {
		if _, err := authz.NewClaimHeader(name, "{team}"); err == nil {
			t.Errorf("header %q is accepted", name)
		}
	}
	for _, template := range []string{
		"", "team", "{", "}", "{}", "{team", "team}", "{a}}", "{{a}}", "{a}{b}", "{a}x{b}", "{a}2{b}", "{a} ", " {a}", "é{a}", "100%{a}", "a\r\nb{a}", "{/a~2}",
	} {
		if _, err := authz.NewClaimHeader("X-Team", template); err == nil {
			t.Errorf("template %q is accepted", template)
		}
	}
	twice := forwards(t, `{}`, "X-Team", "{a}", "x-team", "{b}")
	nameless := knows(alice())
	nameless.Forward.Headers = make([]authz.ClaimHeader, 1)
	none, hollow := knows(alice()), knows(alice())
	none.Forward.Groups, hollow.Forward.Groups = []string{}, []string{""}
	for what, rule := range map[string]authz.Rule{"a header twice": twice, "a header without name": nameless, "no groups": none, "an empty group": hollow} {
		if _, err := authz.NewPolicy([]authz.Rule{rule}); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// FuzzClaimHeader: split at the text between two claims and decode, and you have
// what the provider said.
func FuzzClaimHeader(f *testing.F) {
	f.Add("a", "b", "/")
	f.Add("a/b", "%2F/", "/")
	f.Add("é\r\n", " ", " - ")
	f.Add("5%", "\x00", "%")
	f.Fuzz(func(t *testing.T, a, b, between string) {
		h, err := authz.NewClaimHeader("x-pair", "<{a}"+between+"{b}>")
		if err != nil || strings.ContainsAny(between, "{}") || a == "" || b == "" || len(a)+len(b) > 4<<10 {
			return
		}
		id := alice()
		id.Claims = authz.Claims{"a": a, "b": b}
		rule := knows(id)
		rule.Forward.Headers = []authz.ClaimHeader{h}
		line := value(allowed(t, rule).Set, "x-pair")
		first, second, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "<"), ">"), between)
		gotA, errA := url.PathUnescape(first)
		gotB, errB := url.PathUnescape(second)
		if !ok || errA != nil || errB != nil || gotA != a || gotB != b {
			t.Errorf("%q and %q with %q between arrive as %q: %q, %q", a, b, between, line, gotA, gotB)
		}
	})
}

func TestForwardGroups(t *testing.T) {
	t.Parallel()
	id := alice()
	id.Groups = []string{"app-admins", "app-users", "hr", "app"}
	for _, tt := range []struct {
		globs []string
		want  string
	}{
		{nil, "app-admins,app-users,hr,app"},
		{[]string{"app-*"}, "app-admins,app-users"},
		{[]string{"hr", "*-users"}, "app-users,hr"},
		{[]string{"none"}, ""},
	} {
		rule := knows(id)
		rule.Forward.Groups = tt.globs
		rule.Require = authz.Groups("hr") // what is sent changes nothing in what is judged
		d := allowed(t, rule, field("x-auth-request-groups", "root"))
		if got := value(d.Set, "x-auth-request-groups"); got != tt.want {
			t.Errorf("groups %q send %q, want %q", tt.globs, got, tt.want)
		}
	}
}

// TestS10HeaderLimits: Envoy would answer an allow beyond its limits with 500; we
// say 403 before, with the reason, on anonymous rules, too.
func TestS10HeaderLimits(t *testing.T) {
	t.Parallel()
	lines := func(n int) []authz.Field {
		all := make([]authz.Field, n)
		for i := range all {
			all[i] = field("x-line-"+strings.Repeat("a", i%10)+strings.Repeat("b", i/10), "v")
		}
		return all
	}
	big := func(kib int) []authz.Field { return []authz.Field{field("x-big", strings.Repeat("v", kib<<10))} }
	groups := alice()
	groups.Groups = slices.Repeat([]string{"a-group-name"}, 2000) // 26,000 bytes
	token := alice()
	token.Tokens = &authz.Tokens{Access: strings.Repeat("t", 12<<10)}
	forwarding := with(knows(token), func(r *authz.Rule) { r.Forward.AccessToken = true })
	anonymous := open("app", "app.test")
	for _, tt := range []struct {
		name   string
		rule   authz.Rule
		header []authz.Field
		allow  bool
	}{
		{"anonymous, 96 lines", anonymous, lines(96), true},
		{"anonymous, 97 lines", anonymous, lines(97), false},
		{"user and e-mail, 93 lines", knows(&authz.Identity{Subject: "a", User: "a", Email: "a@b.test", EmailVerified: true}), lines(94), true},
		{"user and e-mail, 95 lines", knows(&authz.Identity{Subject: "a", User: "a", Email: "a@b.test", EmailVerified: true}), lines(95), false},
		{"many groups, 30 KiB from the client", knows(groups), big(30), true},
		{"many groups, 36 KiB from the client", knows(groups), big(36), false},
		{"anonymous, 59 KiB", anonymous, big(59), true},
		{"a token, 40 KiB from the client", forwarding, big(40), true},
		{"a token, 50 KiB from the client", forwarding, big(50), false},
		{"overwritten is not added", knows(groups), []authz.Field{field("x-auth-request-groups", strings.Repeat("v", 40<<10))}, true},
	} {
		d := decide(t, tt.rule, tt.header...)
		switch {
		case (d.Outcome == authz.Allow) != tt.allow:
			t.Errorf("%s: %v %s %s, want allow: %v", tt.name, d.Outcome, d.Reason, d.Detail, tt.allow)
		case !tt.allow && (d.Response.Status != 403 || d.Reason != authz.ReasonHeadersTooLarge || d.Detail == "" || d.Set != nil):
			t.Errorf("%s: %d %s %q %v, want a 403 with its reason and no headers", tt.name, d.Response.Status, d.Reason, d.Detail, d.Set)
		}
	}
}
