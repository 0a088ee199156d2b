package celcond_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/celcond"
)

func compiler(t testing.TB) *celcond.Compiler {
	t.Helper()
	c, err := celcond.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compile(t testing.TB, text string) authz.Condition {
	t.Helper()
	c, err := compiler(t).Compile(text)
	if err != nil {
		t.Fatalf("Compile(%s) = %v", text, err)
	}
	return c
}

func parse(t testing.TB, claims string) authz.Claims {
	t.Helper()
	c, err := authz.ParseClaims([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const aliceClaims = `{"sub":"alice","team":"web","level":3,"big":9007199254740993,"huge":18446744073709551615,"beyond":18446744073709551616,
"ratio":0.5,"vip":true,"roles":["reader","writer"],"org":{"id":7,"unit":{"name":"ops"}},"kubernetes.io":{"namespace":"monitoring"},"nothing":null}`

func alice(t testing.TB) *authz.Identity {
	return &authz.Identity{
		Provider: "corp", Issuer: "https://idp.test", Subject: "alice", User: "alice", Email: "alice@good.test", EmailVerified: true,
		Groups: []string{"staff", "admins"}, Audience: []string{"api"}, Claims: parse(t, aliceClaims),
	}
}

func request(t testing.TB, target string, header ...authz.Field) *authz.Request {
	t.Helper()
	r, err := authz.NewRequest(authz.Raw{
		Method: "POST", Authority: "app.test", Target: target, Header: header,
		Peer: authz.Peer{Principal: "spiffe://td/ns/web/sa/front"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answer is y (holds), n (does not) or ? (cannot be evaluated).
func answer(err error) string {
	switch {
	case err == nil:
		return "y"
	case errors.Is(err, authz.ErrUnmet):
		return "n"
	}
	return "?"
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	r := request(t, "/api/items", authz.Field{Name: "x-tier", Value: "gold"}, authz.Field{Name: "x-list", Value: "a"}, authz.Field{Name: "x-list", Value: "b"},
		authz.Field{Name: "authorization", Value: "Bearer t"}, authz.Field{Name: "cookie", Value: "a=b"}, authz.Field{Name: "x-auth-request-user", Value: "root"})
	for text, want := range map[string]string{
		`request.method == "POST" && claims.sub == "alice"`:                "y",
		`request.method == "GET"`:                                          "n",
		`request.host == "app.test" && request.path.startsWith("/api/")`:   "y",
		`request.headers["x-tier"] == "gold"`:                              "y",
		`request.headers["x-list"] == "a,b"`:                               "y",
		`request.headers["x-none"] == "gold"`:                              "?",
		`"x-none" in request.headers`:                                      "n",
		`"x-tier" in request.headers`:                                      "y",
		`"authorization" in request.headers`:                               "n",
		`"cookie" in request.headers`:                                      "n",
		`"x-auth-request-user" in request.headers`:                         "n",
		`identity.provider == "corp" && identity.issuer.endsWith(".test")`: "y",
		`identity.subject == "alice" && identity.user == "alice"`:          "y",
		`identity.email.endsWith("@good.test")`:                            "y",
		`identity.email_verified`:                                          "y",
		`"admins" in identity.groups && "api" in identity.audience`:        "y",
		`identity.groups.exists(g, g.startsWith("adm"))`:                   "y",
		`identity.groups.all(g, g != "staff")`:                             "n",
		`identity.groups.exists_one(g, g == "staff")`:                      "y",
		`identity.preferred_username == "x"`:                               "?",
		`peer.principal == "spiffe://td/ns/web/sa/front"`:                  "y",
		`claims.vip == true`:                                               "y",
		`claims.level >= 3 && claims.level < 4`:                            "y",
		`claims.level == 3.0`:                                              "y",
		`claims.ratio == 0.5`:                                              "y",
		`claims.big == 9007199254740993`:                                   "y",
		`claims.big == 9007199254740992`:                                   "n",
		`claims.huge == 18446744073709551615u`:                             "y",
		`claims.beyond > 1`:                                                "?",
		`claims.org.unit.name == "ops" && claims.org.id == 7`:              "y",
		`claims["kubernetes.io"].namespace == "monitoring"`:                "y",
		`"writer" in claims.roles`:                                         "y",
		`claims.roles[1] == "writer"`:                                      "y",
		`claims.roles[2] == "writer"`:                                      "?",
		`claims.roles.exists(r, r == "writer")`:                            "y",
		`claims.nothing == null`:                                           "y",
		`claims.missing == "x"`:                                            "?",
		`claims.missing != "x"`:                                            "?",
		`!(claims.missing == "x")`:                                         "?",
		`claims.org.missing == "x"`:                                        "?",
		`has(claims.missing)`:                                              "n",
		`has(claims.org) && has(claims.org.unit)`:                          "y",
		`"missing" in claims`:                                              "n",
		`claims.missing == "x" || claims.sub == "alice"`:                   "y",
		`claims.missing == "x" && claims.sub == "bob"`:                     "n",
		`claims.team > 3`:                                                  "?",
		`claims.team == 3`:                                                 "n",
		`claims.team.startsWith("w")`:                                      "y",
		`claims.level.startsWith("w")`:                                     "?",
		`int(claims.team) == 3`:                                            "?",
		`3 / (claims.level - 3) == 1`:                                      "?",
		`size(claims.roles) == 2`:                                          "y",
		`claims.sub == "bob" ? claims.missing == 1 : claims.level == 3`:    "y",
	} {
		c := compile(t, text)
		err := c.Check(r, alice(t))
		if got := answer(err); got != want {
			t.Errorf("%s = %s (%v), want %s", text, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "cel") {
			t.Errorf("%s: %v does not say what failed", text, err)
		}
	}
}

// TestUnknownNames: what is not known has no value, so that its opposite is not known either.
func TestUnknownNames(t *testing.T) {
	t.Parallel()
	nobody := &authz.Identity{Email: "alice@good.test"}
	for _, text := range []string{
		`identity.email != "a@b.test"`, `!("blocked" in identity.groups)`, `!("x" in identity.audience)`, `identity.user != "x"`,
		`identity.subject != "x"`, `!("x" in claims)`, `peer.principal != "x"`, `identity.provider != "x"`, `identity.issuer != "x"`,
	} {
		err := compile(t, text).Check(&authz.Request{}, nobody)
		if answer(err) != "?" {
			t.Errorf("%s = %s (%v), want it unknown", text, answer(err), err)
		}
		if answer(authz.Not(compile(t, text)).Check(&authz.Request{}, nobody)) != "?" {
			t.Errorf("not %s is known", text)
		}
	}
	if got := answer(compile(t, `identity.email_verified`).Check(&authz.Request{}, nobody)); got != "n" {
		t.Errorf("identity.email_verified = %s, want n", got)
	}
}

// TestAmbiguousPath: an expression that shuts out a path cannot be passed by another spelling of it.
func TestAmbiguousPath(t *testing.T) {
	t.Parallel()
	c := compile(t, `!request.path.startsWith("/admin")`)
	for path, want := range map[string]string{
		"/": "y", "/a%20b": "y", "/admin/x": "n", "/%61dmin": "?", "/x/../admin": "?", "//admin": "?", "/x;/admin": "?", "/x%2f..%2fadmin": "?", `/x\..\admin`: "?",
	} {
		if got := answer(c.Check(request(t, path), alice(t))); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestOfProvider(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`request.method == "GET"`: false, `peer.principal == "x"`: false, `identity.provider == "corp"`: false,
		`claims.sub == "a"`: true, `identity.user == "a"`: true, `"x" in identity.groups || request.host == "a"`: true, `has(claims.sub)`: true,
	} {
		if got := compile(t, text).OfProvider; got != want {
			t.Errorf("%s: OfProvider = %v, want %v", text, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{``, "the expression is empty"},
		{" \n\t", "the expression is empty"},
		{`true`, "it asks nothing"},
		{`1 == 1`, "it asks nothing"},
		{`"a" in ["a"]`, "it asks nothing"},
		{`request.method == `, "1:"},
		{`request.metod == "GET"`, "1:8: undeclared reference to 'request.metod'"},
		{`claims.sub == "a" && user == "b"`, "1:22: undeclared reference to 'user'"},
		{"claims.sub == \"a\" &&\n  user == \"b\"", "2:3: undeclared reference to 'user'"},
		{`request.method == 1`, "1:16: found no matching overload for '_==_'"},
		{`request.method`, "the result is string, not a bool"},
		{`claims.admin`, "the result is a value of any type, not a bool"},
		{`identity.groups.map(g, g + "x").size() == 1`, "undeclared reference to 'map'"},
		{`identity.groups.filter(g, g == "x").size() == 1`, "undeclared reference to 'filter'"},
		{`request.path.matches("^/a")`, "undeclared reference to 'matches'"},
		{`claims.a.all(a, claims.b.all(b, claims.c.all(c, claims.d.all(d, a == b && c == d))))`, "can cost"},
		{strings.Repeat("(", 200) + `claims.a == 1` + strings.Repeat(")", 200), ""},
		{strings.Repeat(`!(`, 1000) + `claims.a == 1` + strings.Repeat(`)`, 1000), ""},
		{`claims.a == 1` + strings.Repeat(` || claims.a == 1`, 240), ""},
		{`claims.a == "` + strings.Repeat("x", 5000) + `"`, "longer than 4096 bytes"},
		{"claims.a == \"\xff\"", "not UTF-8"},
		{`request.authorization == "x"`, "undeclared reference"},
		{`peer.address == "10.0.0.1"`, "undeclared reference"},
	} {
		c, err := compiler(t).Compile(tt.text)
		if _, ok := errors.AsType[celcond.Mistakes](err); !ok || c.Check != nil {
			t.Errorf("Compile(%.60q) = %v, want Mistakes", tt.text, err)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 1500 {
			t.Errorf("Compile(%.60q) = %v, want %s", tt.text, err, tt.want)
		}
	}
}

// TestRunLimit: a token that makes an expression expensive opens nothing and is not waited for.
func TestRunLimit(t *testing.T) {
	t.Parallel()
	id := alice(t)
	id.Claims = parse(t, `{"a":[`+strings.Repeat(`"x",`, 20_000)+`"y"],"b":[`+strings.Repeat(`"x",`, 20_000)+`"y"]}`)
	err := compile(t, `!claims.a.all(a, claims.b.exists(b, a == b && a == "z"))`).Check(request(t, "/"), id)
	if answer(err) != "?" || !strings.Contains(err.Error(), "given up: it costs more than") {
		t.Errorf("Check = %v, want it given up", err)
	}
}

// TestReasonsHoldNoSecrets: the log never shows what a client sent.
func TestReasonsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	r := request(t, "/", authz.Field{Name: "x-api-key", Value: "hunter2"}, authz.Field{Name: "x-missing", Value: "no"})
	id := alice(t)
	id.Claims = parse(t, `{"secret":"hunter2","list":["hunter2"]}`)
	for text, want := range map[string]string{
		`{"key1": true}[request.headers["x-api-key"]]`:                        "there is no such value",
		`int(request.headers["x-api-key"]) == 1`:                              "",
		`int(claims.secret) == 1`:                                             "",
		`timestamp(claims.secret) == timestamp("2026-01-01T00:00:00Z")`:       "",
		`duration(request.headers["x-api-key"]) == duration("1s")`:            "",
		`bool(claims.secret)`:                                                 "",
		`claims[request.headers["x-api-key"]] == 1`:                           "there is no such value",
		`claims.list[request.headers["x-api-key"]] == 1`:                      "",
		`claims.missing == 1`:                                                 `there is no "missing"`,
		`request.headers["x-nothing"] == "1"`:                                 `there is no "x-nothing"`,
		`identity.preferred_username == "x"`:                                  `nothing is known of "identity.preferred_username"`,
		`claims.secret + 1 == 2`:                                              "another type",
		`request.path == "/" && (claims.missing == 1 || claims.secret == "")`: `there is no "missing"`,
	} {
		c, err := compiler(t).Compile(text)
		if err != nil {
			t.Errorf("Compile(%s) = %v", text, err)
			continue
		}
		err = c.Check(r, id)
		if answer(err) != "?" || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s, and no secret", text, err, want)
		}
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	c := compile(t, `claims.sub == request.headers["x-name"]`)
	var wg sync.WaitGroup
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		id := &authz.Identity{Claims: authz.Claims{"sub": name}}
		same, other := request(t, "/", authz.Field{Name: "x-name", Value: name}), request(t, "/", authz.Field{Name: "x-name", Value: "eve"})
		wg.Go(func() {
			for range 500 {
				if c.Check(same, id) != nil || c.Check(other, id) == nil {
					t.Error("one evaluation saw another's input (Q1)")
					return
				}
			}
		})
	}
	wg.Wait()
}
