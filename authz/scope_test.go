package authz_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// TestJ26Scopes: a scope is one exact token.
func TestJ26Scopes(t *testing.T) {
	t.Parallel()
	c := must(t)(authz.Scopes("read", "admin:all"))
	for claim, want := range map[string]bool{
		`"read"`: true, `"write read"`: true, `"read write"`: true, `" read  write"`: true, `"admin:all"`: true,
		`["read"]`: true, `["write","read"]`: true,
		`"readadmin"`: false, `"read\tadmin"`: false, `"read\nadmin"`: false, `"read,admin"`: false, `"READ"`: false, `"read\u00a0x"`: false,
		`"read \u00e9"`: false, `"read \"x\""`: false, `""`: false, `" "`: false, `"admin"`: false,
		`["read admin:all"]`: false, `["read ",""]`: false, `["read",1]`: false, `["read",["x"]]`: false, `[]`: false,
		`{"read":true}`: false, `true`: false, `1`: false, `null`: false,
	} {
		claims, err := authz.ParseClaims([]byte(`{"scope":` + claim + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := holds(c, authz.Identity{Claims: claims}); got != want {
			t.Errorf("scope %s: %v, want %v", claim, got, want)
		}
	}
	for _, bad := range []string{"", "a b", "a\tb", `a"b`, `a\b`, "é"} {
		if _, err := authz.Scopes("ok", bad); err == nil {
			t.Errorf("Scopes(%q) is accepted", bad)
		}
	}
	if _, err := authz.Scopes(); err == nil {
		t.Error("Scopes() is accepted")
	}
}

// TestInsufficientScope: the error says that more scopes would help only where they would.
func TestInsufficientScope(t *testing.T) {
	t.Parallel()
	scope, group := must(t)(authz.Scopes("write")), authz.Groups("a")
	for _, tt := range []struct {
		name  string
		c     authz.Condition
		claim any
		want  bool
	}{
		{"another", scope, "read", true},
		{"none", scope, nil, true},
		{"malformed", scope, 1, false},
		{"all", authz.All(authz.AnyUser(), scope), "read", true},
		{"a group is missing first", authz.All(group, scope), "write", false},
		{"one of any", authz.Any(group, scope), "read", true},
		{"not", authz.Not(scope), "write", false},
		{"not, none", authz.Not(scope), nil, false},
		{"a group", group, "read", false},
	} {
		err := tt.c.Check(&authz.Request{}, &authz.Identity{Groups: []string{"b"}, Claims: authz.Claims{"scope": tt.claim}})
		if err == nil || errors.Is(err, authz.ErrInsufficientScope) != tt.want {
			t.Errorf("%s: %v, wraps ErrInsufficientScope: %v, want %v", tt.name, err, !tt.want, tt.want)
		}
	}
}
