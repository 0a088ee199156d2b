package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/celcond"
)

// maxFile bounds a configuration file: room for more than 10,000 rules.
const maxFile = 8 << 20

// maxDepth bounds nesting: the deepest key that exists is 8 levels down.
const maxDepth = 32

// maxNesting is what nesting may return: far beyond any indentation and bracket in use.
const maxNesting = 200

// unions are types with more than one form in the file: they read their node themselves.
type union interface {
	read(d *decoder, n ast.Node, key string)
}

// decoder reads a YAML tree into structs, strictly, and remembers where every
// value stood. Field tags: yaml (name), required, default, oneof, zero
// ("ok": 0 is allowed), and on a blank field later (keys of a coming version).
type decoder struct {
	file     string
	at       map[string]token.Position // place of the value at a key
	mistakes Mistakes

	cel      *celcond.Compiler          // made for the first expression
	compiled map[string]authz.Condition // by their text
}

// parse returns the one document of a file, or nil after noting a mistake.
func (d *decoder) parse(data []byte) (root ast.Node) {
	if len(data) > maxFile {
		d.report(token.Position{}, "", fmt.Sprintf("the file is larger than %d MiB", maxFile>>20), "", "")
		return nil
	}
	if !utf8.Valid(data) {
		d.report(token.Position{}, "", "the file is not valid UTF-8", "", "save it as UTF-8")
		return nil
	}
	if nesting(data) > maxNesting {
		d.report(token.Position{}, "", "nested too deeply", "", "")
		return nil
	}
	defer func() { // The parser is not ours: what breaks it is a mistake in the file, not a crash.
		if r := recover(); r != nil {
			d.report(token.Position{}, "", "the file is not YAML that can be read", "", "")
			root = nil
		}
	}()
	tree, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		d.report(token.Position{}, "", "the file is empty", "", "a configuration has at least listen and rules")
		return nil
	case len(bodies) > 1:
		d.report(place(bodies[1]), "", "the file has more than one document", "---", "keep one document per file")
		return nil
	}
	return bodies[0]
}

// nesting bounds how deeply a file can be nested, without understanding it: the
// parser takes minutes and gigabytes for a few thousand brackets.
func nesting(data []byte) int {
	deepest, brackets, opened := 0, 0, 0
	for _, c := range data {
		switch c {
		case '[', '{':
			brackets++
		case ']', '}':
			brackets = max(brackets-1, 0)
		case '-', '?', ':', ' ', '\t':
			opened++ // "- - - x" nests, too
		default:
			opened = 0
		}
		deepest = max(deepest, brackets, opened)
	}
	return deepest
}

func (d *decoder) syntax(err error) {
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		d.report(*e.GetToken().Position, "", "not valid YAML: "+e.GetMessage(), "", "")
		return
	}
	d.report(token.Position{}, "", "not valid YAML", "", "")
}

func (d *decoder) report(p token.Position, key, problem, found, hint string) {
	d.mistakes = append(d.mistakes, Mistake{
		File: d.file, Line: p.Line, Column: p.Column, Key: key, Problem: problem, Found: found, Hint: hint,
	})
}

// wrong notes that n is not what belongs at key.
func (d *decoder) wrong(n ast.Node, key, want string) {
	d.report(place(n), key, "wrong type", describe(n), "write "+want)
}

// value reads n into v, which is settable.
func (d *decoder) value(n ast.Node, v reflect.Value, key string, tag reflect.StructTag) {
	if strings.Count(key, ".")+strings.Count(key, "[") > maxDepth {
		d.report(place(n), key, "nested too deeply", "", "")
		return
	}
	d.at[key] = place(n)
	if !d.plain(n, key) {
		return
	}
	if u, ok := v.Addr().Interface().(union); ok {
		u.read(d, n, key)
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d.duration(n, v, key, tag)
	case v.Type() == reflect.TypeFor[time.Time]():
		d.moment(n, v, key)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setDefaults(v.Elem())
		d.value(n, v.Elem(), key, tag)
	case v.Kind() == reflect.Struct:
		d.mapping(n, v, key)
	case v.Kind() == reflect.Map:
		d.dictionary(n, v, key)
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, key, tag)
	default:
		d.scalar(n, v, key, tag)
	}
}

// plain refuses the parts of YAML that a configuration does not need.
func (d *decoder) plain(n ast.Node, key string) bool {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		d.report(place(n), key, "anchors and aliases are not supported", "", "write the value out")
	case *ast.TagNode, *ast.DirectiveNode:
		d.report(place(n), key, "tags are not supported", "", "write the plain value")
	case *ast.NullNode, nil:
		d.report(place(n), key, "no value", "", "give it a value or leave the key out")
	default:
		return true
	}
	return false
}

// mapping reads a mapping into a struct: every key known, none twice.
func (d *decoder) mapping(n ast.Node, v reflect.Value, key string) {
	pairs, ok := pairsOf(n)
	if !ok {
		d.wrong(n, key, "a mapping (key: value)")
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for _, pair := range pairs {
		name, ok := d.name(pair, key, seen)
		if !ok {
			continue
		}
		f, known := fields.byName[name]
		if !known {
			d.unknown(pair, key, name, fields)
			continue
		}
		d.value(pair.Value, v.FieldByIndex(f.Index), join(key, name), f.Tag)
	}
	for _, name := range fields.names {
		if fields.byName[name].Tag.Get("required") != "" && !seen[name] {
			d.report(d.at[key], join(key, name), "missing", "", "this key is required")
		}
	}
}

// name returns the key of a pair, unless it is no plain text or was seen before.
func (d *decoder) name(pair *ast.MappingValueNode, key string, seen map[string]bool) (string, bool) {
	s, ok := pair.Key.(*ast.StringNode)
	if !ok {
		d.report(place(pair.Key), join(key, clip(tokenText(pair.Key))), "a key must be plain text", describe(pair.Key), "")
		return "", false
	}
	if seen[s.Value] {
		d.report(place(s), join(key, s.Value), "the key is given twice", "", "keep one of them")
		return "", false
	}
	seen[s.Value] = true
	return s.Value, true
}

func (d *decoder) unknown(pair *ast.MappingValueNode, key, name string, fields fields) {
	if fields.later[name] {
		d.report(place(pair.Key), join(key, name), "not supported yet: this key belongs to a coming version of Gatehouse", "", "leave it out")
		return
	}
	hint := "known here: " + strings.Join(fields.names, ", ")
	if near := nearest(name, fields.names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	d.report(place(pair.Key), join(key, clip(name)), "unknown key", "", hint)
}

// dictionary reads a mapping with free keys.
func (d *decoder) dictionary(n ast.Node, v reflect.Value, key string) {
	pairs, ok := pairsOf(n)
	if !ok {
		d.wrong(n, key, "a mapping (name: value)")
		return
	}
	if len(pairs) == 0 {
		d.report(place(n), key, "must not be empty", "{}", "name something or leave the key out")
		return
	}
	seen := map[string]bool{}
	v.Set(reflect.MakeMap(v.Type()))
	for _, pair := range pairs {
		name, ok := d.name(pair, key, seen)
		if !ok {
			continue
		}
		child := join(key, clip(name))
		if problem := badText(name); problem != "" {
			d.report(place(pair.Key), child, "the name "+problem, quote(name), "")
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(pair.Value, item, child, "")
		v.SetMapIndex(reflect.ValueOf(name), item)
	}
}

func (d *decoder) sequence(n ast.Node, v reflect.Value, key string, tag reflect.StructTag) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(n, key, "a list, for example [a, b]")
		return
	}
	if len(seq.Values) == 0 {
		d.report(place(n), key, "must not be empty", "[]", "name something or leave the key out")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	first := map[string]int{}
	for i, item := range seq.Values {
		child := fmt.Sprintf("%s[%d]", key, i)
		if v.Index(i).Kind() == reflect.Struct {
			setDefaults(v.Index(i))
		}
		d.value(item, v.Index(i), child, tag)
		if v.Index(i).Kind() != reflect.String || v.Index(i).String() == "" {
			continue
		}
		if j, twice := first[v.Index(i).String()]; twice {
			d.report(place(item), child, "the same as "+fmt.Sprintf("%s[%d]", key, j), quote(v.Index(i).String()), "keep one of them")
		}
		first[v.Index(i).String()] = i
	}
}

// setDefaults fills a zero struct with the values of its default tags.
func setDefaults(v reflect.Value) {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		if text, ok := f.Tag.Lookup("default"); ok {
			setDefault(field, text)
		} else if f.IsExported() && field.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]() {
			setDefaults(field)
		}
	}
}

// setDefault panics on a default that does not fit its field: a mistake of ours that any test meets.
func setDefault(v reflect.Value, text string) {
	var err error
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		var parsed time.Duration
		parsed, err = time.ParseDuration(text)
		v.SetInt(int64(parsed))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Int:
		var i int
		i, err = strconv.Atoi(text)
		v.SetInt(int64(i))
	case v.Kind() == reflect.Float64:
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		v.SetFloat(f)
	case v.Type() == reflect.TypeFor[[]string]():
		v.Set(reflect.ValueOf(strings.Fields(text)))
	default:
		err = errors.New("no reader for " + v.Type().String())
	}
	if err != nil {
		panic("config: default: " + err.Error())
	}
}

// fields are the keys of a struct, in the order of its declaration.
type fields struct {
	names  []string
	byName map[string]reflect.StructField
	later  map[string]bool
}

func fieldsOf(t reflect.Type) fields {
	fs := fields{byName: map[string]reflect.StructField{}, later: map[string]bool{}}
	for f := range t.Fields() {
		for _, name := range strings.Fields(f.Tag.Get("later")) {
			fs.later[name] = true
		}
		if name := f.Tag.Get("yaml"); name != "" {
			fs.names = append(fs.names, name)
			fs.byName[name] = f
		}
	}
	return fs
}

func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// place is where a reader looks for n: the first key of a mapping, not its colon.
func place(n ast.Node) token.Position {
	if n == nil {
		return token.Position{}
	}
	if pairs, ok := pairsOf(n); ok && len(pairs) > 0 {
		if m, flow := n.(*ast.MappingNode); !flow || !m.IsFlowStyle {
			return place(pairs[0].Key)
		}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return *t.Position
	}
	return token.Position{}
}

func tokenText(n ast.Node) string {
	if t := n.GetToken(); t != nil {
		return t.Value
	}
	return ""
}

func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return "the text " + quote(n.Value)
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.BoolNode:
		return tokenText(n)
	case *ast.NullNode:
		return "nothing"
	}
	return clip(tokenText(n))
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
