package authz_test

import (
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
