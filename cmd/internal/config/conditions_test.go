package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

const oneRule = `
listen: {grpc: {address: ":9000"}}
providers:
- {name: api, issuer: https://idp.example.com, bearer: {audiences: [api]}}
rules:
- name: app
  hosts: [app.example.com]
  bearer: [api]
`

// somebody stands for a verifier that recognises always the same.
type somebody struct{ id *authz.Identity }

func (s somebody) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	return s.id, nil
}
func (somebody) Challenge(*authz.Request, error) authz.Challenge { return authz.Challenge{} }

// decide lets the rule above, completed by rest, judge a request.
func decide(t *testing.T, rest string, id *authz.Identity, raw authz.Raw) authz.Decision {
	t.Helper()
	policy, err := parse(t, oneRule+rest).Policy(config.Sources{Bearer: func(string) authz.Authenticator { return somebody{id} }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := authz.New(authz.Config{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	raw.Authority = "app.example.com"
	r, err := authz.NewRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return a.Authorize(t.Context(), r)
}

func TestConditionsInConditions(t *testing.T) {
	t.Parallel()
	claims, err := authz.ParseClaims([]byte(`{"scope":"read list","level":3,"org":{"id":7},"team":"web/1"}`))
	if err != nil {
		t.Fatal(err)
	}
	alice := &authz.Identity{Provider: "api", Subject: "alice", User: "alice", Groups: []string{"staff", "app-users"}, Claims: claims}
	get := authz.Raw{
		Method: "GET", Target: "/", Header: authz.Header{{Name: "authorization", Value: "Bearer t"}},
		Peer: authz.Peer{Principal: "spiffe://td/ns/web/sa/front"},
	}
	for require, want := range map[string]string{
		`{groups: [staff], scopes: [read]}`:                                    "",
		`{scopes: [write, list]}`:                                              "",
		`{groups: [staff], scopes: [write]}`:                                   "none of the scopes",
		`{all: [{groups: [staff]}, {scopes: [read]}, {scopes: [list]}]}`:       "",
		`{all: [{groups: [staff]}, {scopes: [write]}]}`:                        "none of the scopes",
		`{any: [{groups: [none]}, {scopes: [read]}]}`:                          "",
		`{any: [{groups: [none]}, {scopes: [write]}]}`:                         "none of the scopes",
		`{not: {groups: [blocked]}}`:                                           "",
		`{not: {groups: [staff]}}`:                                             "does not hold",
		`{not: {groups: [staff], scopes: [write]}}`:                            "",
		`{not: {claims: {missing: x}}}`:                                        "is missing",
		`{not: {cel: 'claims.missing == 1'}}`:                                  `there is no "missing"`,
		`{not: {any: [{cel: 'claims.missing == 1'}, {groups: [none]}]}}`:       `there is no "missing"`,
		`{not: {not: {groups: [staff]}}}`:                                      "",
		`{peer: {spiffe: ["spiffe://td/ns/*/sa/front"]}, groups: [staff]}`:     "",
		`{peer: {spiffe: ["spiffe://other/ns/*/sa/front"]}}`:                   "none of the peers",
		`{cel: 'request.method == "GET" && claims.level >= 3'}`:                "",
		`{cel: 'request.method == "POST"'}`:                                    "is false",
		`[{groups: [none]}, {cel: 'claims.level == 4'}, {scopes: ["read"]}]`:   "",
		`{any_user: true, not: {peer: {spiffe: ["spiffe://td/ns/web/sa/*"]}}}`: "does not hold",
	} {
		d := decide(t, "  require: "+require, alice, get)
		switch {
		case want == "" && d.Outcome != authz.Allow:
			t.Errorf("%s: %v %s (%s), want allow", require, d.Outcome, d.Reason, d.Detail)
		case want != "" && (d.Reason != authz.ReasonCondition || d.Response.Status != 403 || !strings.Contains(d.Detail, want)):
			t.Errorf("%s: %v %s (%s), want a 403 that says %q in the log", require, d.Outcome, d.Reason, d.Detail, want)
		}
	}
	d := decide(t, `  require: any_user
  forward: {groups: [app-*], headers: {X-Tenant: "{/org/id}/{team}", X-None: "{none}"}}`, alice, get)
	header := authz.Header(d.Set)
	if v, _ := header.Get("x-tenant"); v != "7/web/1" {
		t.Errorf("x-tenant = %q", v)
	}
	if v, _ := header.Get("x-auth-request-groups"); v != "app-users" {
		t.Errorf("groups = %q", v)
	}
	if !slices.Contains(d.Remove, "x-none") {
		t.Errorf("removed %v, want x-none among them", d.Remove)
	}
}

// TestExpressionPlace: a mistake in an expression is shown where it stands in the file.
func TestExpressionPlace(t *testing.T) {
	t.Parallel()
	for name, require := range map[string]string{
		"plain":             `{cel: user == 1}`,
		"quoted":            `{cel: 'claims.a == 1 && user == 1'}`,
		"quotes in quotes":  `{cel: 'claims.a == ''x'' && user == 1'}`,
		"double quotes":     `{cel: "claims.a == \"x\" && user == 1"}`,
		"behind é":          `{cel: 'claims.a == "é" && user == 1'}`,
		"nested":            `{not: {any: [{groups: [a]}, {cel: 'user == 1'}]}}`,
		"block":             "\n    cel: |\n      claims.a == 1 &&\n          user == 1",
		"block, first line": "\n    cel: |-\n      user == 1 &&\n          claims.a == 1",
		"block, empty line": "\n    cel: |\n\n      claims.a == 1 &&\n\n      user == 1\n",
		"indented block":    "\n    cel: |2\n        claims.a == 1 &&\n      user == 1\n",
	} {
		text := oneRule + "  require: " + require
		_, err := config.Parse("f", []byte(text))
		ms, ok := errors.AsType[config.Mistakes](err)
		if !ok || len(ms) != 1 {
			t.Errorf("%s: %v, want one mistake", name, err)
			continue
		}
		before, _, _ := strings.Cut(text, "user == 1")
		line := strings.Count(before, "\n") + 1
		column := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
		want := fmt.Sprintf("f:%d:%d: ", line, column)
		if !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "of the expression") {
			t.Errorf("%s: %v, want it at %s", name, err, want)
		}
	}
}
