package authz_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func must(t *testing.T) func(authz.Condition, error) authz.Condition {
	return func(c authz.Condition, err error) authz.Condition {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func holds(c authz.Condition, id authz.Identity) bool { return c.Check(&authz.Request{}, &id) == nil }

// TestEmail covers E1, E2 and E9.
func TestEmail(t *testing.T) {
	t.Parallel()
	domain, listed, below := authz.EmailDomains("good.test"), authz.Emails("m@GOOD.test", "x@other.test"), authz.EmailDomains("*.good.test")
	for _, tt := range []struct {
		email                 string
		domain, listed, below bool
	}{
		{"m@good.test", true, true, false},
		{"A@GOOD.TEST", true, false, false},
		{"m@Good.Test", true, true, false},
		{"M@good.test", true, false, false},
		{"a.b+c=d/e@good.test", true, false, false},
		{"m@sub.good.test", false, false, true},
		{"m@a.SUB.good.test", false, false, true},
		{"m@evilgood.test", false, false, false},
		{"m@.good.test", false, false, false},
		{"m@evil.test@good.test", false, false, false},
		{`"m@evil.test"@good.test`, false, false, false},
		{`"m"@good.test`, false, false, false},
		{"m@evil.test(@good.test)", false, false, false},
		{"m(x)@good.test", false, false, false},
		{"<m@good.test>", false, false, false},
		{"M <m@good.test>", false, false, false},
		{"m@good.test.", false, false, false},
		{"m@good.test\n", false, false, false},
		{"m@good.test\x00", false, false, false},
		{" m@good.test", false, false, false},
		{"m @good.test", false, false, false},
		{"m@good.test,x@evil.test", false, false, false},
		{"m@g\u043eod.test", false, false, false},
		{"m\u00e9@good.test", false, false, false},
		{"m@good.te\u017ft", false, false, false},
		{"m@good.test.evil", false, false, false},
		{"@good.test", false, false, false},
		{"good.test", false, false, false},
		{"m@", false, false, false},
		{"", false, false, false},
		{".m@good.test", false, false, false},
		{"m.@good.test", false, false, false},
		{"m..n@good.test", false, false, false},
		{strings.Repeat("m", 65) + "@good.test", false, false, false},
	} {
		id := authz.Identity{Email: tt.email, EmailVerified: true}
		if d, l, b := holds(domain, id), holds(listed, id), holds(below, id); d != tt.domain || l != tt.listed || b != tt.below {
			t.Errorf("%q: domain %v, listed %v, below %v, want %v, %v, %v", tt.email, d, l, b, tt.domain, tt.listed, tt.below)
		}
		id.EmailVerified = false
		if holds(domain, id) || holds(listed, id) || holds(below, id) {
			t.Errorf("%q passes unverified (E2)", tt.email)
		}
	}
}

// TestGroups covers E3, E7 and N5.
func TestGroups(t *testing.T) {
	t.Parallel()
	c := authz.Groups("admins", "ops")
	for _, tt := range []struct {
		groups []string
		want   bool
	}{
		{[]string{"admins"}, true},
		{[]string{"x", "ops"}, true},
		{nil, false},
		{[]string{""}, false},
		{[]string{"Admins"}, false},
		{[]string{"admins "}, false},
		{[]string{"x,admins"}, false},
		{[]string{"adm"}, false},
		{[]string{"admin\u017f"}, false},
	} {
		if got := holds(c, authz.Identity{Groups: tt.groups}); got != tt.want {
			t.Errorf("groups %q pass: %v, want %v", tt.groups, got, tt.want)
		}
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		glob, subject string
		want          bool
	}{
		{"root", "root", true},
		{"root", "Root", false},
		{"root", "root ", false},
		{"root", "xroot", false},
		{"root", "", false},
		{"system:serviceaccount:monitoring:*", "system:serviceaccount:monitoring:karma", true},
		{"system:serviceaccount:monitoring:*", "system:serviceaccount:monitoring2:karma", false},
		{"*:karma", "a:karma", true},
		{"*:karma", "a:karma:x", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "ac", false},
		{"a*a", "a", false},
		{"a**a", "aa", true},
		{"a.c", "abc", false},
		{"a?c", "abc", false},
		{"[a]", "a", false},
		{"a*", "a", true},
		{"*x*", "aaxbb", true},
		{"*x*", "aabb", false},
	} {
		if got := holds(must(t)(authz.Subjects("none", tt.glob)), authz.Identity{Subject: tt.subject}); got != tt.want {
			t.Errorf("subject %q for glob %q passes: %v, want %v", tt.subject, tt.glob, got, tt.want)
		}
	}
}

func TestClaimIn(t *testing.T) {
	t.Parallel()
	claims, err := authz.ParseClaims([]byte(`{"s":"a","n":7,"f":1.5,"b":true,"l":["x",{"y":1},["a"],3],"o":{"p":"q"},"e":"","nil":null,"str7":"7"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		pointer string
		value   any
		want    bool
	}{
		{"s", "a", true},
		{"s", "A", false},
		{"/o/p", "q", true},
		{"n", 7, true},
		{"n", uint64(7), true},
		{"n", int64(8), false},
		{"n", "7", false},
		{"str7", 7, false},
		{"f", 1.5, true},
		{"b", true, true},
		{"b", false, false},
		{"b", "true", false},
		{"l", "x", true},
		{"l", 3, true},
		{"l", "a", false},
		{"l", "y", false},
		{"o", "q", false},
		{"nil", "null", false},
		{"missing", false, false},
		{"missing", "a", false},
		{"e", "a", false},
	} {
		if got := holds(must(t)(authz.ClaimIn(tt.pointer, "never", tt.value)), authz.Identity{Claims: claims}); got != tt.want {
			t.Errorf("claim %s in %v passes: %v, want %v", tt.pointer, tt.value, got, tt.want)
		}
	}
}

func TestAudienceAndProvider(t *testing.T) {
	t.Parallel()
	id := authz.Identity{Provider: "corp", Audience: []string{"api"}}
	if !holds(authz.Audience("x", "api"), id) || holds(authz.Audience("x"), id) {
		t.Error("Audience does not go by the audience")
	}
	if !holds(authz.FromProvider("corp"), id) || holds(authz.FromProvider("cor"), id) {
		t.Error("FromProvider does not go by the provider")
	}
}

func TestAllAny(t *testing.T) {
	t.Parallel()
	yes := authz.AnyUser()
	no := authz.Condition{Check: func(*authz.Request, *authz.Identity) error { return errors.New("no") }}
	for _, tt := range []struct {
		name string
		c    authz.Condition
		want bool
	}{
		{"all yes", authz.All(yes, yes), true},
		{"all mixed", authz.All(yes, no), false},
		{"all one", authz.All(no), false},
		{"any no", authz.Any(no, no), false},
		{"any mixed", authz.Any(no, yes), true},
		{"nested", authz.All(authz.Any(no, yes), yes), true},
	} {
		if got := holds(tt.c, authz.Identity{}); got != tt.want {
			t.Errorf("%s holds: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestUnusableConditions covers N2, N4 and N5: what is missing never means "all".
func TestUnusableConditions(t *testing.T) {
	t.Parallel()
	src := &source{}
	for name, c := range map[string]authz.Condition{
		"zero": {}, "no groups": authz.Groups(), "empty group": authz.Groups("a", ""), "no e-mails": authz.Emails(), "bad e-mail": authz.Emails("a"),
		"no domain": authz.EmailDomains(), "top-level domain": authz.EmailDomains("*.test"), "star": authz.EmailDomains("*"), "address": authz.EmailDomains("a@good.test"),
		"at": authz.EmailDomains("@good.test"), "no audience": authz.Audience(), "no provider": authz.FromProvider(""), "all of none": authz.All(), "any of none": authz.Any(),
		"all with empty": authz.All(authz.AnyUser(), authz.Groups()), "any with zero": authz.Any(authz.AnyUser(), authz.Condition{}), "one empty": authz.Any(authz.Groups()),
	} {
		_, err := authz.NewPolicy([]authz.Rule{{Name: "r", Hosts: []string{"app.test"}, Sources: login(src), Require: c}})
		if e, ok := errors.AsType[*authz.RuleError](err); !ok || e.Key != "require" || e.Msg == "" {
			t.Errorf("%s: NewPolicy = %v, want a mistake in require", name, err)
		}
	}
	for name, f := range map[string]func() (authz.Condition, error){
		"no subjects":   func() (authz.Condition, error) { return authz.Subjects() },
		"empty subject": func() (authz.Condition, error) { return authz.Subjects("a", "") },
		"any subject":   func() (authz.Condition, error) { return authz.Subjects("a", "**") },
		"no claim":      func() (authz.Condition, error) { return authz.ClaimIn("", "a") },
		"no value":      func() (authz.Condition, error) { return authz.ClaimIn("a") },
		"empty value":   func() (authz.Condition, error) { return authz.ClaimIn("a", "x", "") },
		"nil value":     func() (authz.Condition, error) { return authz.ClaimIn("a", nil) },
		"list as value": func() (authz.Condition, error) { return authz.ClaimIn("a", []any{"x"}) },
		"bad pointer":   func() (authz.Condition, error) { return authz.ClaimIn("/a~2", "x") },
	} {
		if c, err := f(); err == nil || c.Check != nil {
			t.Errorf("%s is taken, want an error", name)
		}
	}
}
