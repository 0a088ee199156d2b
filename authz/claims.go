package authz

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of ParseClaims.
const (
	maxClaims      = 256 << 10
	maxClaimsDepth = 32
	maxNumber      = 64
)

// Claims are the members of a token's payload, decoded strictly: exact names,
// no duplicates at any depth, numbers as json.Number, valid UTF-8, bounded depth.
// A Claims value is shared and must not be changed.
type Claims map[string]any

// ParseClaims decodes a JSON object (RFC 8259) of at most 256 KiB strictly.
// Values are nil, bool, string, json.Number, []any and map[string]any.
//
// Package encoding/json will not do: it takes the last of two members of one
// name, and replaces broken text, so that two subjects become one.
func ParseClaims(data []byte) (Claims, error) {
	if len(data) > maxClaims {
		return nil, errors.New("claims are larger than 256 KiB")
	}
	if !utf8.Valid(data) {
		return nil, errors.New("claims are not UTF-8")
	}
	p := claimsParser{s: string(data)}
	p.space()
	if !p.next('{') {
		return nil, errors.New("claims are not a JSON object")
	}
	members, err := p.object(1)
	if err != nil {
		return nil, err
	}
	if p.space(); p.i != len(p.s) {
		return nil, errors.New("claims go on after their end")
	}
	return members, nil
}

var (
	errClaimsSyntax    = errors.New("claims are not JSON")
	errClaimsDuplicate = errors.New("claims name one member twice")
	errClaimsDepth     = errors.New("claims are nested too deeply")
	errClaimsString    = errors.New("claims hold a broken string")
	errClaimsNumber    = errors.New("claims hold a broken or too long number")
)

// claimsParser walks over s, which is valid UTF-8.
type claimsParser struct {
	s string
	i int
}

func (p *claimsParser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// next steps over c if it comes now.
func (p *claimsParser) next(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *claimsParser) word(w string) bool {
	if strings.HasPrefix(p.s[p.i:], w) {
		p.i += len(w)
		return true
	}
	return false
}

func (p *claimsParser) value(depth int) (any, error) {
	p.space()
	switch {
	case p.next('{'):
		return p.object(depth + 1)
	case p.next('['):
		return p.array(depth + 1)
	case p.next('"'):
		return p.text()
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("null"):
		return nil, nil //nolint:nilnil // JSON null
	}
	return p.number()
}

func (p *claimsParser) object(depth int) (map[string]any, error) {
	if depth > maxClaimsDepth {
		return nil, errClaimsDepth
	}
	members := map[string]any{}
	if p.space(); p.next('}') {
		return members, nil
	}
	for {
		if p.space(); !p.next('"') {
			return nil, errClaimsSyntax
		}
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if _, ok := members[name]; ok {
			return nil, errClaimsDuplicate
		}
		if p.space(); !p.next(':') {
			return nil, errClaimsSyntax
		}
		if members[name], err = p.value(depth); err != nil {
			return nil, err
		}
		if p.space(); p.next('}') {
			return members, nil
		}
		if !p.next(',') {
			return nil, errClaimsSyntax
		}
	}
}

func (p *claimsParser) array(depth int) ([]any, error) {
	if depth > maxClaimsDepth {
		return nil, errClaimsDepth
	}
	items := []any{}
	if p.space(); p.next(']') {
		return items, nil
	}
	for {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
		if p.space(); p.next(']') {
			return items, nil
		}
		if !p.next(',') {
			return nil, errClaimsSyntax
		}
	}
}

// text reads a string whose opening quote has been read.
func (p *claimsParser) text() (string, error) {
	start := p.i
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return p.s[start : p.i-1], nil
		case c == '\\':
			return p.escapedText(p.s[start:p.i])
		case c < ' ':
			return "", errClaimsString
		}
	}
	return "", errClaimsString
}

func (p *claimsParser) escapedText(begun string) (string, error) {
	b := []byte(begun)
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			return string(b), nil
		case c < ' ':
			return "", errClaimsString
		case c != '\\':
			b = append(b, c)
		default:
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
		}
	}
	return "", errClaimsString
}

// escape reads what follows a backslash. Half a surrogate pair is no character.
func (p *claimsParser) escape() (rune, error) {
	if p.i >= len(p.s) {
		return 0, errClaimsString
	}
	c := p.s[p.i]
	p.i++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, errClaimsString
	}
	r, ok := p.hex4()
	if ok && utf16.IsSurrogate(r) {
		var low rune
		if ok = p.word(`\u`); ok {
			low, ok = p.hex4()
		}
		r = utf16.DecodeRune(r, low)
		ok = ok && r != utf8.RuneError
	}
	if !ok {
		return 0, errClaimsString
	}
	return r, nil
}

func (p *claimsParser) hex4() (r rune, ok bool) {
	if p.i+4 > len(p.s) {
		return 0, false
	}
	for _, c := range []byte(p.s[p.i : p.i+4]) {
		v, ok := hexValue(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(v)
	}
	p.i += 4
	return r, true
}

// number reads -? int frac? exp? (RFC 8259 section 6).
func (p *claimsParser) number() (json.Number, error) {
	start := p.i
	p.next('-')
	ok := p.next('0') || p.digits()
	if ok && p.next('.') {
		ok = p.digits()
	}
	if ok && (p.next('e') || p.next('E')) {
		_ = p.next('+') || p.next('-')
		ok = p.digits()
	}
	if !ok || p.i-start > maxNumber {
		return "", errClaimsNumber
	}
	return json.Number(p.s[start:p.i]), nil
}

func (p *claimsParser) digits() bool {
	start := p.i
	for p.i < len(p.s) && isDigit(p.s[p.i]) {
		p.i++
	}
	return p.i > start
}

// Lookup finds the value at a JSON Pointer (RFC 6901). A pointer without a
// leading "/" names a top-level member literally: "a.b" and
// "https://example.com/roles" are members of that name.
func (c Claims) Lookup(pointer string) (any, bool) {
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		v, ok := c[pointer]
		return v, ok
	}
	var v any = map[string]any(c)
	for more := true; more; {
		var step string
		step, rest, more = strings.Cut(rest, "/")
		switch node := v.(type) {
		case map[string]any:
			if v, ok = node[pointerName(step)]; !ok {
				return nil, false
			}
		case []any:
			i, ok := arrayIndex(step, len(node))
			if !ok {
				return nil, false
			}
			v = node[i]
		default:
			return nil, false
		}
	}
	return v, true
}

func pointerName(step string) string {
	if strings.IndexByte(step, '~') < 0 {
		return step
	}
	return strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
}

// arrayIndex takes digits without leading zeros (RFC 6901 section 4).
func arrayIndex(step string, length int) (int, bool) {
	if step == "" || len(step) > 6 || step[0] == '0' && len(step) > 1 {
		return 0, false
	}
	n := 0
	for i := range len(step) {
		if !isDigit(step[i]) {
			return 0, false
		}
		n = n*10 + int(step[i]-'0')
	}
	return n, n < length
}

// checkPointer refuses what can never be found.
func checkPointer(pointer string) error {
	if pointer == "" {
		return errors.New("the name of the claim is empty")
	}
	if pointer[0] != '/' {
		return nil
	}
	for i := range len(pointer) {
		if pointer[i] == '~' && (i+1 == len(pointer) || pointer[i+1] != '0' && pointer[i+1] != '1') {
			return errors.New(`in a JSON Pointer "~" is written "~0"`)
		}
	}
	return nil
}
