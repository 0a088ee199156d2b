package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

func (d *decoder) scalar(n ast.Node, v reflect.Value, key string, tag reflect.StructTag) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := d.text(n, key); ok {
			v.SetString(s)
			d.oneOf(n, s, key, tag)
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.wrong(n, key, "true or false")
			return
		}
		v.SetBool(b.Value)
	case reflect.Int:
		i, err := strconv.Atoi(tokenText(n))
		if _, ok := n.(*ast.IntegerNode); !ok || err != nil {
			d.wrong(n, key, "a whole number")
			return
		}
		if i < 0 || i == 0 && tag.Get("zero") == "" {
			d.report(place(n), key, "out of range", strconv.Itoa(i), "write a number above 0")
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(tokenText(n), 64)
		if err != nil || f < 0 || f > 1 {
			d.wrong(n, key, "a number from 0 to 1")
			return
		}
		v.SetFloat(f)
	default:
		panic("config: no reader for " + v.Type().String())
	}
}

func (d *decoder) oneOf(n ast.Node, s, key string, tag reflect.StructTag) {
	allowed := strings.Fields(tag.Get("oneof"))
	if len(allowed) == 0 {
		return
	}
	for _, a := range allowed {
		if s == a {
			return
		}
	}
	d.report(place(n), key, "not one of the known values", quote(s), "write one of: "+strings.Join(allowed, ", "))
}

// text reads a string that is not empty and holds nothing invisible.
func (d *decoder) text(n ast.Node, key string) (string, bool) {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = strings.TrimRight(n.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		d.wrong(n, key, fmt.Sprintf("text; if you mean the text, put it in quotes: %q", clip(tokenText(n))))
		return "", false
	default:
		joined, ok := colonText(n)
		if !ok {
			d.wrong(n, key, "text")
			return "", false
		}
		s = joined
	}
	if problem := badText(s); problem != "" {
		d.report(place(n), key, problem, quote(s), "")
		return "", false
	}
	return s, true
}

// colonText undoes a mistake of the parser: inside {[…]} it takes the plain
// scalar redis:6379 for a mapping. To YAML (1.2.2, section 7.3.3) a colon
// without white space behind it is a part of the scalar.
func colonText(n ast.Node) (string, bool) {
	pairs, ok := pairsOf(n)
	if !ok || len(pairs) != 1 || pairs[0].Start == nil || pairs[0].Value == nil {
		return "", false
	}
	if m, ok := n.(*ast.MappingNode); ok && m.IsFlowStyle {
		return "", false
	}
	value, ok := colonText(pairs[0].Value)
	if !ok {
		switch pairs[0].Value.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
			value = tokenText(pairs[0].Value)
		default:
			return "", false
		}
	}
	name, colon, rest := place(pairs[0].Key), pairs[0].Start.Position, place(pairs[0].Value)
	text := tokenText(pairs[0].Key)
	adjacent := name.Line == rest.Line && name.Column+utf8.RuneCountInString(text) == colon.Column && colon.Column+1 == rest.Column
	return text + ":" + value, adjacent
}

func badText(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case len(s) > 8192:
		return "is longer than 8192 bytes"
	case strings.TrimSpace(s) != s:
		return "begins or ends with white space"
	case strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) >= 0:
		return "holds a control character"
	}
	return ""
}

func (d *decoder) duration(n ast.Node, v reflect.Value, key string, tag reflect.StructTag) {
	const want = "a duration with its unit, for example 500ms, 30s, 5m or 12h"
	if _, ok := n.(*ast.StringNode); !ok {
		d.wrong(n, key, want)
		return
	}
	parsed, err := time.ParseDuration(tokenText(n))
	if err != nil {
		d.report(place(n), key, "not a duration", quote(tokenText(n)), "write "+want)
		return
	}
	if parsed < 0 || parsed == 0 && tag.Get("zero") == "" {
		d.report(place(n), key, "out of range", quote(tokenText(n)), "write a duration above 0")
		return
	}
	v.SetInt(int64(parsed))
}

func (d *decoder) moment(n ast.Node, v reflect.Value, key string) {
	const want = "a time with its zone, for example 2026-01-02T15:04:05Z"
	parsed, err := time.Parse(time.RFC3339, tokenText(n))
	if _, ok := n.(*ast.StringNode); !ok || err != nil {
		d.report(place(n), key, "not a time", quote(tokenText(n)), "write "+want)
		return
	}
	v.Set(reflect.ValueOf(parsed))
}
