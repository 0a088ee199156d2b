package celcond_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/celcond"
)

// patience is far more than any expression may take, on a busy machine too.
const patience = 10 * time.Second

// FuzzCompile: whatever is written as an expression is compiled or refused, soon.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		`request.method == "POST" && claims.sub == "homekit"`, `identity.groups.exists(g, g == "x")`, `has(claims.a.b)`, `claims["a"][0].b > 1u`,
		`((((`, `"\x00" in claims`, `{1: 2}[claims.a] == 2`, `claims.a ? true : false`, `'''a''' == claims.b`, `b"\377" == claims.c`, `!!!!claims.a == 1e309`,
	} {
		f.Add(text)
	}
	c := compiler(f)
	r, id := request(f, "/"), alice(f)
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		cond, err := c.Compile(text)
		if err != nil {
			if _, ok := errors.AsType[celcond.Mistakes](err); !ok || cond.Check != nil {
				t.Errorf("Compile = %v", err)
			}
		} else if answer(cond.Check(r, id)) == "y" && answer(authz.Not(cond).Check(r, id)) == "y" {
			t.Error("it holds and does not hold")
		}
		if d := time.Since(start); d > patience {
			t.Errorf("took %v", d)
		}
	})
}

// FuzzClaims: whatever claims a token holds, an evaluation ends, soon, and never panics.
func FuzzClaims(f *testing.F) {
	for _, claims := range []string{aliceClaims, `{}`, `{"sub":1e400,"roles":{"a":[]}}`, `{"roles":[[["a"]]],"level":-0,"org":{"id":18446744073709551616}}`} {
		f.Add(claims)
	}
	c := compiler(f)
	var conditions []authz.Condition
	for _, text := range []string{
		`claims.sub == "alice" || claims.level > 3`, `"writer" in claims.roles`, `claims.roles.exists(r, r == claims.sub)`, `claims.org.id < 7.5`,
		`claims == claims && claims.all(k, k in claims)`, `claims.roles == claims.org`, `string(claims.level) == claims.sub`, `claims.level + claims.level == claims.ratio`,
		`claims.roles[claims.level] == "x"`, `int(claims.level) == int(claims.ratio)`, `size(claims.sub) > size(claims.roles)`, `claims[claims.sub] == 1`,
	} {
		cond, err := c.Compile(text)
		if err != nil {
			f.Fatalf("%s: %v", text, err)
		}
		conditions = append(conditions, cond)
	}
	r := request(f, "/")
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := authz.ParseClaims([]byte(text))
		if err != nil {
			return
		}
		start := time.Now()
		id := &authz.Identity{Claims: claims}
		for _, cond := range conditions {
			first := answer(cond.Check(r, id))
			if again := answer(cond.Check(r, id)); again != first {
				t.Errorf("%s = %s, then %s", cond.Text, first, again)
			}
		}
		if d := time.Since(start); d > patience {
			t.Errorf("took %v", d)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	r, id := request(b, "/api/items"), alice(b)
	for name, text := range map[string]string{
		"claim":  `request.method == "POST" && claims.sub == "alice"`,
		"groups": `request.path.startsWith("/api/") && "admins" in identity.groups`,
		"macro":  `claims.roles.exists(r, r == "writer")`,
		"header": `request.headers["x-tier"] == "gold" || claims.level > 2`,
	} {
		c := compile(b, text)
		if err := c.Check(r, id); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Check(r, id)
			}
		})
	}
}
