package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

type object = map[string]any

// schemaOf writes a JSON schema (draft 2020-12). It says what an editor can
// check; "gatehouse validate" says the rest.
func schemaOf(c comments) ([]byte, error) {
	s := schemer{comments: c, defs: object{}}
	root, err := s.mapping(reflect.TypeFor[config.Config]())
	if err != nil {
		return nil, err
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Gatehouse configuration"
	root["$defs"] = s.defs
	text, err := json.MarshalIndent(root, "", "  ")
	return append(text, '\n'), err
}

type schemer struct {
	comments comments
	defs     object // mappings by the name of their type
}

func (s *schemer) mapping(t reflect.Type) (object, error) {
	properties, required := object{}, []string{}
	keys, _ := keysOf(t)
	for _, k := range keys {
		p, err := s.value(k.Type, k.Tag)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		about, err := s.comments.about(t, k)
		if err != nil {
			return nil, err
		}
		p["description"] = strings.ReplaceAll(about, "`", "")
		properties[k.name] = p
		if k.Tag.Get("required") != "" {
			required = append(required, k.name)
		}
	}
	o := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	for k, v := range extra(t) {
		o[k] = v
	}
	return o, nil
}

// extra is what the tags of a type's fields cannot say.
func extra(t reflect.Type) object {
	need := func(names ...string) object { return object{"required": names} }
	switch t {
	case reflect.TypeFor[config.Store]():
		return object{"minProperties": 1, "maxProperties": 1}
	case reflect.TypeFor[config.Provider]():
		return object{"anyOf": []object{need("client"), need("bearer")}}
	case reflect.TypeFor[config.Rule]():
		return object{"anyOf": []object{need("allow"), need("login", "require"), need("bearer", "require")}}
	case reflect.TypeFor[config.Conditions]():
		return object{"minProperties": 1}
	}
	return nil
}

func (s *schemer) value(t reflect.Type, tag reflect.StructTag) (object, error) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return withDefault(object{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}, tag.Get("default")), nil
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}, nil
	case reflect.TypeFor[config.ClientAddress]():
		return object{"oneOf": []object{
			{"type": "string", "pattern": "^[a-z0-9-]+$"},
			{"type": "object", "additionalProperties": false, "required": []string{"xff_hops"}, "properties": object{"xff_hops": object{"type": "integer", "minimum": 1}}},
		}}, nil
	case reflect.TypeFor[config.Values]():
		one := object{"type": []string{"string", "integer", "boolean"}}
		return object{"anyOf": []object{one, {"type": "array", "minItems": 1, "items": one}}}, nil
	case reflect.TypeFor[config.Names]():
		one := object{"type": "string", "minLength": 1}
		return object{"anyOf": []object{one, {"type": "array", "minItems": 1, "items": one}}}, nil
	case reflect.TypeFor[config.Expression]():
		return object{"type": "string", "minLength": 1}, nil
	case reflect.TypeFor[config.Require]():
		ref, err := s.ref(reflect.TypeFor[config.Conditions]())
		return object{"anyOf": []object{{"const": "any_user"}, ref, {"type": "array", "minItems": 1, "items": ref}}}, err
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.value(t.Elem(), tag)
	case reflect.Struct:
		return s.ref(t)
	case reflect.Slice:
		items, err := s.value(t.Elem(), reflect.StructTag(strings.ReplaceAll(string(tag), "default:", "ignored:")))
		o := object{"type": "array", "minItems": 1, "items": items}
		if text := tag.Get("default"); text != "" {
			o["default"] = strings.Fields(text)
		}
		return o, err
	case reflect.Map:
		items, err := s.value(t.Elem(), "")
		return object{"type": "object", "minProperties": 1, "additionalProperties": items}, err
	}
	return scalar(t, tag)
}

func (s *schemer) ref(t reflect.Type) (object, error) {
	if _, known := s.defs[t.Name()]; !known {
		s.defs[t.Name()] = nil // a mapping may hold mappings of its own type
		o, err := s.mapping(t)
		if err != nil {
			return nil, err
		}
		s.defs[t.Name()] = o
	}
	return object{"$ref": "#/$defs/" + t.Name()}, nil
}

func scalar(t reflect.Type, tag reflect.StructTag) (object, error) {
	text := tag.Get("default")
	switch t.Kind() {
	case reflect.String:
		o := withDefault(object{"type": "string", "minLength": 1}, text)
		if allowed := strings.Fields(tag.Get("oneof")); len(allowed) > 0 {
			o["enum"] = allowed
		}
		return o, nil
	case reflect.Bool:
		return object{"type": "boolean", "default": false}, nil
	case reflect.Int:
		least := 1
		if tag.Get("zero") != "" {
			least = 0
		}
		return withNumber(object{"type": "integer", "minimum": least}, text), nil
	case reflect.Float64:
		return withNumber(object{"type": "number", "minimum": 0, "maximum": 1}, text), nil
	}
	return nil, fmt.Errorf("no schema for %s", t)
}

func withDefault(o object, text string) object {
	if text != "" {
		o["default"] = text
	}
	return o
}

func withNumber(o object, text string) object {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		o["default"] = f
	}
	return o
}

// kind names the form of a value for the reference.
func kind(t reflect.Type, tag reflect.StructTag) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[config.ClientAddress]():
		return "header name, `peer`, or `{xff_hops: N}`"
	case reflect.TypeFor[config.Expression]():
		return "CEL expression"
	case reflect.TypeFor[config.Require]():
		return "`any_user`, mapping, or list of mappings"
	case reflect.TypeFor[config.Values]():
		return "value or list of values"
	case reflect.TypeFor[config.Names]():
		return "text or list of texts"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kind(t.Elem(), tag)
	case reflect.Struct:
		return "mapping"
	case reflect.Slice:
		return "list of " + plural(kind(t.Elem(), tag))
	case reflect.Map:
		return "mapping of name to " + kind(t.Elem(), "")
	case reflect.Bool:
		return "`true` or `false`"
	case reflect.Int:
		return "whole number"
	case reflect.Float64:
		return "number"
	}
	if allowed := strings.Fields(tag.Get("oneof")); len(allowed) > 0 {
		return "`" + strings.Join(allowed, "`, `") + "`"
	}
	return "text"
}

func plural(kind string) string {
	switch kind {
	case "mapping":
		return "mappings"
	case "text":
		return "texts"
	}
	return kind
}
