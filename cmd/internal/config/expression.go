package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/celcond"
)

// Expression is a condition in CEL, compiled when it is read.
type Expression struct {
	Text string

	condition authz.Condition // zero after a mistake
}

func (e *Expression) read(d *decoder, n ast.Node, key string) {
	e.Text = ""
	if block, ok := n.(*ast.LiteralNode); ok {
		e.Text = strings.TrimRight(block.Value.Value, "\n")
		if problem := badText(strings.NewReplacer("\n", " ", "\t", " ").Replace(strings.TrimSpace(e.Text))); problem != "" {
			d.report(place(n), key, problem, "", "")
			return
		}
	} else if e.Text, ok = d.text(n, key); !ok {
		return
	}
	var err error
	if e.condition, err = d.compile(e.Text); err != nil {
		d.expression(n, key, e.Text, err)
	}
}

// compile compiles an expression, equal ones once.
func (d *decoder) compile(text string) (authz.Condition, error) {
	if c, ok := d.compiled[text]; ok {
		return c, nil
	}
	if d.cel == nil {
		cel, err := celcond.New()
		if err != nil {
			return authz.Condition{}, err
		}
		d.cel, d.compiled = cel, map[string]authz.Condition{}
	}
	c, err := d.cel.Compile(text)
	if err == nil {
		d.compiled[text] = c
	}
	return c, err
}

// expression reports what is wrong with one, at the place in the file.
func (d *decoder) expression(n ast.Node, key, text string, err error) {
	ms, ok := errors.AsType[celcond.Mistakes](err)
	if !ok {
		ms = celcond.Mistakes{{Problem: err.Error()}}
	}
	for _, m := range ms {
		at, exact := place(n), m.Line == 0
		if !exact {
			at, exact = placeWithin(n, text, m.Line, m.Column)
		}
		problem := m.Problem
		if !exact {
			problem = fmt.Sprintf("%s (at %d:%d of the expression)", problem, m.Line, m.Column)
		}
		d.report(at, key, problem, "", "")
	}
}

// placeWithin finds the place of a character of a text in the file; false: of a
// text that YAML folded only the beginning is known.
func placeWithin(n ast.Node, text string, line, column int) (token.Position, bool) {
	at := place(n)
	switch n := n.(type) {
	case *ast.LiteralNode:
		if !strings.HasPrefix(n.Start.Value, "|") {
			return at, false
		}
		at.Line += line
		at.Column = indentation(n.Value.GetToken().Origin) - indentation(n.Value.Value) + column
		return at, true
	case *ast.StringNode:
		if line > 1 || strings.Contains(strings.TrimSpace(n.Token.Origin), "\n") {
			return at, false
		}
		before := string([]rune(text)[:min(column-1, len([]rune(text)))])
		at.Column += column - 1
		switch n.Token.Type {
		case token.SingleQuoteType:
			at.Column += 1 + strings.Count(before, "'") // each is written twice
		case token.DoubleQuoteType:
			at.Column += 1 + strings.Count(before, `"`) + strings.Count(before, `\`) // each is written with a backslash
		default: // plain: as it stands
		}
		return at, true
	}
	return at, false
}

// indentation counts the spaces before the first line that is not empty.
func indentation(text string) int {
	text = strings.TrimLeft(text, "\n")
	return len(text) - len(strings.TrimLeft(text, " "))
}
