package config

import (
	"fmt"
	"math"
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

// ClientAddress says how to find the address of the client: the name of a
// header that the proxy sets (such as x-envoy-external-address), "peer" for the
// other end of its connection (also when left out), or {xff_hops: 1} for the
// last entry of x-forwarded-for, 2 for the one before it.
type ClientAddress struct {
	Header string // name in lower case; empty: not by header
	Hops   int    // 0: not by x-forwarded-for
}

func (c *ClientAddress) read(d *decoder, n ast.Node, key string) {
	if pairs, ok := pairsOf(n); ok && len(pairs) > 0 {
		var hops struct {
			XFFHops int `yaml:"xff_hops" required:"true"`
		}
		d.mapping(n, reflect.ValueOf(&hops).Elem(), key)
		c.Hops = hops.XFFHops
		return
	}
	s, ok := d.text(n, key)
	switch {
	case !ok || s == "peer":
	case !isToken(s) || lower(s) != s:
		d.report(place(n), key, "not a header name in lower case", quote(s), "write x-envoy-external-address, peer, or {xff_hops: 1}")
	default:
		c.Header = s
	}
}

// Require says who may pass: "any_user", conditions that must all hold, or a
// list of such conditions of which one must hold.
type Require struct {
	Any []Conditions // empty: nothing was required

	list bool // written as a list
}

// key is where the conditions with index i stand.
func (r *Require) key(rule string, i int) string {
	if r.list {
		return index(rule+".require", i)
	}
	return rule + ".require"
}

func (r *Require) read(d *decoder, n ast.Node, key string) {
	if s, ok := n.(*ast.StringNode); ok {
		if s.Value != "any_user" {
			d.report(place(n), key, "not a condition", quote(s.Value), "write any_user, or a mapping such as {groups: [admins]}")
			return
		}
		r.Any = []Conditions{{AnyUser: true}}
		return
	}
	if _, r.list = n.(*ast.SequenceNode); r.list {
		d.sequence(n, reflect.ValueOf(&r.Any).Elem(), key, "")
		return
	}
	r.Any = make([]Conditions, 1)
	d.mapping(n, reflect.ValueOf(&r.Any[0]).Elem(), key)
}

// Values are what a claim may be: one value or a list of alternatives, each a
// text, a whole number, or true or false.
type Values []any

func (v *Values) read(d *decoder, n ast.Node, key string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		v.add(d, n, key)
		return
	}
	if len(seq.Values) == 0 {
		d.report(place(n), key, "must not be empty", "[]", "name at least one value")
	}
	for i, item := range seq.Values {
		child := fmt.Sprintf("%s[%d]", key, i)
		if d.plain(item, child) {
			v.add(d, item, child)
		}
	}
}

func (v *Values) add(d *decoder, n ast.Node, key string) {
	switch n := n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		if s, ok := d.text(n, key); ok {
			*v = append(*v, s)
		}
	case *ast.BoolNode:
		*v = append(*v, n.Value)
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			*v = append(*v, i)
		case uint64:
			if i > math.MaxInt64 {
				d.wrong(n, key, "a whole number of at most 63 bits")
				return
			}
			*v = append(*v, int64(i))
		}
	default:
		d.wrong(n, key, "a text, a whole number, or true or false")
	}
}

// Names are one name, or a list of names.
type Names []string

func (v *Names) read(d *decoder, n ast.Node, key string) {
	if _, list := n.(*ast.SequenceNode); list {
		var names []string
		d.sequence(n, reflect.ValueOf(&names).Elem(), key, "")
		*v = names
		return
	}
	if _, mapping := pairsOf(n); mapping {
		d.wrong(n, key, "a name, or a list of names")
		return
	}
	if s, ok := d.text(n, key); ok {
		*v = Names{s}
	}
}

// PEM is a public key or certificate in PEM: text of several lines.
type PEM string

func (v *PEM) read(d *decoder, n ast.Node, key string) {
	block, ok := n.(*ast.LiteralNode)
	switch {
	case !ok:
		d.wrong(n, key, "a block of text: | and the lines from BEGIN to END, indented")
	case len(block.Value.Value) > maxPEM:
		d.report(place(n), key, fmt.Sprintf("longer than %d KiB", maxPEM>>10), "", "write one public key")
	default:
		*v = PEM(block.Value.Value)
	}
}

// maxPEM bounds a key in the configuration: room for a certificate with RSA of 8192 bits.
const maxPEM = 16 << 10
