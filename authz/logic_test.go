package authz_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// answers are conditions that say yes, no, and that they cannot tell.
func answers() map[byte]authz.Condition {
	answer := func(text string, err error) authz.Condition {
		return authz.Condition{Text: text, Check: func(*authz.Request, *authz.Identity) error { return err }}
	}
	return map[byte]authz.Condition{
		'y': answer("yes", nil), 'n': answer("no", authz.Unmet("no")), '?': answer("unknown", errors.New("claim is missing")),
	}
}

func answerOf(err error) byte {
	switch {
	case err == nil:
		return 'y'
	case errors.Is(err, authz.ErrUnmet):
		return 'n'
	}
	return '?'
}

// TestThreeAnswers: what cannot be evaluated is no, also under not, and the order
// of conditions changes nothing.
func TestThreeAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b     byte
		all, any byte
	}{
		{'y', 'y', 'y', 'y'},
		{'y', 'n', 'n', 'y'},
		{'y', '?', '?', 'y'},
		{'n', 'n', 'n', 'n'},
		{'n', '?', 'n', '?'},
		{'?', '?', '?', '?'},
	} {
		for _, pair := range [][2]byte{{tt.a, tt.b}, {tt.b, tt.a}} {
			a, b := answers()[pair[0]], answers()[pair[1]]
			if got := answerOf(authz.All(a, b).Check(nil, nil)); got != tt.all {
				t.Errorf("All(%c, %c) = %c, want %c", pair[0], pair[1], got, tt.all)
			}
			if got := answerOf(authz.Any(a, b).Check(nil, nil)); got != tt.any {
				t.Errorf("Any(%c, %c) = %c, want %c", pair[0], pair[1], got, tt.any)
			}
			for word, c := range map[string]authz.Condition{"All": authz.All(a, b), "Any": authz.Any(a, b)} {
				want := map[byte]byte{'y': 'n', 'n': 'y', '?': '?'}[answerOf(c.Check(nil, nil))]
				if got := answerOf(authz.Not(c).Check(nil, nil)); got != want {
					t.Errorf("Not(%s(%c, %c)) = %c, want %c", word, pair[0], pair[1], got, want)
				}
			}
		}
	}
	for answer, want := range map[byte]byte{'y': 'y', 'n': 'n', '?': '?'} {
		if got := answerOf(authz.Not(authz.Not(answers()[answer])).Check(nil, nil)); got != want {
			t.Errorf("Not(Not(%c)) = %c, want %c", answer, got, want)
		}
	}
}

// TestUnknownIsNoUnderNot: nobody passes for want of a claim that would keep them out.
func TestUnknownIsNoUnderNot(t *testing.T) {
	t.Parallel()
	claims := func(text string) authz.Claims {
		c, err := authz.ParseClaims([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	level := must(t)(authz.ClaimIn("level", 3))
	role := must(t)(authz.ClaimIn("role", "guest"))
	flag := must(t)(authz.ClaimIn("robot", true))
	scope := must(t)(authz.Scopes("write"))
	for _, tt := range []struct {
		name string
		c    authz.Condition
		id   authz.Identity
		want bool
	}{
		{"another group", authz.Groups("blocked"), authz.Identity{Groups: []string{"staff"}}, true},
		{"that group", authz.Groups("blocked"), authz.Identity{Groups: []string{"staff", "blocked"}}, false},
		{"no groups", authz.Groups("blocked"), authz.Identity{}, false},
		{"another address", authz.Emails("a@b.test"), authz.Identity{Email: "c@b.test", EmailVerified: true}, true},
		{"unverified", authz.Emails("a@b.test"), authz.Identity{Email: "c@b.test"}, false},
		{"no address", authz.EmailDomains("b.test"), authz.Identity{}, false},
		{"malformed address", authz.EmailDomains("b.test"), authz.Identity{Email: "a@b.test@c.test", EmailVerified: true}, false},
		{"another subject", must(t)(authz.Subjects("svc:*")), authz.Identity{Subject: "alice"}, true},
		{"another audience", authz.Audience("a"), authz.Identity{Audience: []string{"b"}}, true},
		{"no audience", authz.Audience("a"), authz.Identity{}, false},
		{"another provider", authz.FromProvider("a"), authz.Identity{Provider: "b"}, true},
		{"another number", level, authz.Identity{Claims: claims(`{"level":4}`)}, true},
		{"the number", level, authz.Identity{Claims: claims(`{"level":3}`)}, false},
		{"the number as text", level, authz.Identity{Claims: claims(`{"level":"3"}`)}, false},
		{"the number as a fraction", level, authz.Identity{Claims: claims(`{"level":3.0}`)}, false},
		{"the number with an exponent", level, authz.Identity{Claims: claims(`{"level":30e-1}`)}, false},
		{"no number", level, authz.Identity{Claims: claims(`{}`)}, false},
		{"null", level, authz.Identity{Claims: claims(`{"level":null}`)}, false},
		{"another text", role, authz.Identity{Claims: claims(`{"role":"admin"}`)}, true},
		{"other texts", role, authz.Identity{Claims: claims(`{"role":["admin","user"]}`)}, true},
		{"no text in a list", role, authz.Identity{Claims: claims(`{"role":[]}`)}, true},
		{"the text in a list", role, authz.Identity{Claims: claims(`{"role":["admin","guest"]}`)}, false},
		{"a list in a list", role, authz.Identity{Claims: claims(`{"role":["admin",["guest"]]}`)}, false},
		{"an object", role, authz.Identity{Claims: claims(`{"role":{"guest":true}}`)}, false},
		{"the other bool", flag, authz.Identity{Claims: claims(`{"robot":false}`)}, true},
		{"a bool as text", flag, authz.Identity{Claims: claims(`{"robot":"true"}`)}, false},
		{"another scope", scope, authz.Identity{Claims: claims(`{"scope":"read"}`)}, true},
		{"no scope", scope, authz.Identity{Claims: claims(`{}`)}, false},
		{"a malformed scope", scope, authz.Identity{Claims: claims(`{"scope":"read\twrite"}`)}, false},
		{"no principal", must(t)(authz.Peers("spiffe://td/a")), authz.Identity{}, false},
	} {
		if got := holds(authz.Not(tt.c), tt.id); got != tt.want {
			t.Errorf("%s: Not(%s) holds: %v, want %v", tt.name, tt.c.Text, got, tt.want)
		}
		if tt.want && holds(tt.c, tt.id) {
			t.Errorf("%s: %s holds, too", tt.name, tt.c.Text)
		}
	}
}

func TestNotRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]authz.Condition{
		"no condition": authz.Not(authz.Condition{}), "everybody": authz.Not(authz.AnyUser()), "a broken one": authz.Not(authz.Groups()),
	} {
		rule := knows(alice())
		rule.Require = c
		if _, err := authz.NewPolicy([]authz.Rule{rule}); err == nil {
			t.Errorf("not of %s is accepted", name)
		}
	}
}

// With several providers the provider has to be said; not of it does not say it.
func TestNotOfProvider(t *testing.T) {
	t.Parallel()
	groups, corp := authz.Groups("a"), authz.FromProvider("corp")
	for _, tt := range []struct {
		c    authz.Condition
		want bool
	}{
		{authz.Not(groups), true},
		{authz.All(corp, authz.Not(groups)), false},
		{authz.Not(authz.All(corp, groups)), false},
		{authz.All(authz.Not(corp), groups), true},
		{authz.Any(authz.All(corp, groups), authz.Not(groups)), true},
	} {
		if tt.c.OfProvider != tt.want {
			t.Errorf("%s: OfProvider = %v, want %v", tt.c.Text, tt.c.OfProvider, tt.want)
		}
	}
}
