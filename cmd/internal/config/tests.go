package config

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Tests is a file of policy tests: requests and identities, and what is to be decided.
// It is read as strictly as the configuration.
type Tests struct {
	// Tests are the cases, each with its own name.
	Tests []Case `yaml:"tests" required:"true"`
}

// Case is one policy test.
type Case struct {
	// Name says what the case shows.
	Name string `yaml:"name" required:"true"`
	// Request is what is asked for.
	Request CaseRequest `yaml:"request" required:"true"`
	// As is who asks. Nobody when left out.
	As *CaseCredential `yaml:"as"`
	// Expect is what has to be decided. Only what is written is compared.
	Expect Expect `yaml:"expect" required:"true"`
}

// CaseRequest is a request that nobody has sent.
type CaseRequest struct {
	// URL is the whole address, as a browser would ask for it.
	URL string `yaml:"url" required:"true"`
	// Method is the HTTP method.
	Method string `yaml:"method" default:"GET"`
	// Headers are header lines by their names in lower case. Without any, a GET is taken for a navigation of a browser.
	Headers map[string]string `yaml:"headers"`
	// Peer is the SPIFFE id that the proxy attests.
	Peer string `yaml:"peer"`
}

// CaseCredential is a session or token, whose claims are taken for verified.
type CaseCredential struct {
	// Provider is the name of the provider that issued it.
	Provider string `yaml:"provider" required:"true"`
	// Bearer makes it a bearer token; otherwise it is a session.
	Bearer bool `yaml:"bearer"`
	// Claims are those of the ID token or bearer token.
	Claims CaseClaims `yaml:"claims" required:"true"`
}

// Expect is what has to be decided.
type Expect struct {
	// Decision is allow, deny, sign_in (signing in, or a valid token, is asked for) or answer (by Gatehouse itself).
	Decision string `yaml:"decision" required:"true" oneof:"allow deny sign_in answer"`
	// Rule is the name of the rule that decides.
	Rule string `yaml:"rule"`
	// Reason is the reason in the access log.
	Reason string `yaml:"reason"`
	// Status is that of the answer that is not an allow.
	Status int `yaml:"status"`
	// Headers are headers that the application receives, with their values.
	Headers map[string]string `yaml:"headers"`
	// Without are headers that the application does not receive.
	Without []string `yaml:"without"`
}

// CaseClaims are claims as a token would have them.
type CaseClaims struct{ Claims authz.Claims }

func (c *CaseClaims) read(d *decoder, n ast.Node, key string) {
	if _, ok := pairsOf(n); !ok {
		d.wrong(n, key, "a mapping of claims, for example {sub: alice}")
		return
	}
	value := claimValue(d, n, key)
	text, err := json.Marshal(value)
	if err == nil {
		c.Claims, err = authz.ParseClaims(text)
	}
	if err != nil {
		d.report(place(n), key, "not claims: "+err.Error(), "", "")
	}
}

// claimValue turns YAML into what JSON can say.
func claimValue(d *decoder, n ast.Node, key string) any {
	if pairs, ok := pairsOf(n); ok {
		object, seen := map[string]any{}, map[string]bool{}
		for _, pair := range pairs {
			if name, ok := d.name(pair, key, seen); ok {
				object[name] = claimValue(d, pair.Value, join(key, clip(name)))
			}
		}
		return object
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		list := []any{}
		for i, item := range n.Values {
			list = append(list, claimValue(d, item, index(key, i)))
		}
		return list
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		return json.Number(tokenText(n))
	}
	s, _ := d.text(n, key)
	return s
}

// LoadTests reads a file of policy tests. The error is a Mistakes, or an error of the
// file system.
func LoadTests(file string) (*Tests, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	return ParseTests(file, data)
}

// ParseTests is LoadTests for text that was read already; file names it in errors.
func ParseTests(file string, data []byte) (*Tests, error) {
	d := &decoder{file: file, at: places{}}
	root := d.parse(data)
	if root == nil {
		return nil, d.mistakes
	}
	t := &Tests{}
	d.value(root, reflect.ValueOf(t).Elem(), "", "")
	names := map[string]string{}
	for i, c := range t.Tests {
		key := index("tests", i)
		if first := names[c.Name]; first != "" && c.Name != "" {
			d.report(d.at[key+".name"], key+".name", "the same name as "+first, quote(c.Name), "give each test its own name")
		}
		names[c.Name] = key
		for _, name := range slices.Sorted(maps.Keys(c.Request.Headers)) {
			if lower(name) != name || !isToken(name) {
				d.report(d.at[key+".request.headers"], key+".request.headers", "not a header name in lower case", quote(name), "")
			}
		}
	}
	if len(d.mistakes) > 0 {
		return nil, d.mistakes.sorted()
	}
	return t, nil
}
