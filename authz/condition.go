package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Condition reports whether an identity may pass. Those of this package are made
// by AnyUser, Groups and so on; another package makes one of a function. The zero
// value is no condition at all: NewPolicy refuses it on an authenticated rule.
type Condition struct {
	// Check returns nil where the condition holds; else the error says why not,
	// for operators: it never leaves in a response. One that wraps ErrUnmet says
	// that the condition does not hold; any other, that nobody can tell.
	Check func(*Request, *Identity) error
	// Text names the condition for operators, and two conditions of the same
	// text are the same condition. Empty: like no other.
	Text string
	// OfProvider says that Check looks at names that only mean something together
	// with the provider that gave them out, such as a subject or a group. A rule
	// with several providers has to say which one is meant: All(FromProvider(…), …).
	OfProvider bool

	fromProvider bool  // holds for one provider, or says so for each alternative
	err          error // why it cannot be used
}

func invalid(format string, args ...any) Condition {
	return Condition{err: fmt.Errorf(format, args...)}
}

const anyUserText = "any_user"

// AnyUser holds for everybody whom a source of the rule knows.
func AnyUser() Condition {
	return Condition{Text: anyUserText, Check: func(*Request, *Identity) error { return nil }}
}

var errNoGroups = errors.New("no groups are known")

// Groups holds for a member of one of the groups. Names are compared exactly.
func Groups(anyOf ...string) Condition {
	if err := checkNames("groups", anyOf); err != nil {
		return Condition{err: err}
	}
	failed := unmet("in none of the groups %q", anyOf)
	want := set(anyOf)
	return Condition{Text: text("groups", anyOf), OfProvider: true, Check: func(_ *Request, id *Identity) error {
		switch {
		case len(id.Groups) == 0:
			return errNoGroups // perhaps there are some, and the provider left them out
		case slices.ContainsFunc(id.Groups, func(g string) bool { return want[g] }):
			return nil
		}
		return failed
	}}
}

// Emails holds for one of the addresses, if it is verified. The local part is
// compared exactly, the domain without regard to case.
func Emails(anyOf ...string) Condition {
	if err := checkNames("emails", anyOf); err != nil {
		return Condition{err: err}
	}
	want := map[string]bool{}
	for _, e := range anyOf {
		local, domain, ok := parseEmail(e)
		if !ok {
			return invalid("%q is not an e-mail address", e)
		}
		want[local+"@"+domain] = true
	}
	return emailCondition(text("emails", anyOf), func(local, domain string) bool { return want[local+"@"+domain] })
}

// EmailDomains holds for a verified address in one of the domains;
// "*.example.com" covers everything below example.com, and not itself.
func EmailDomains(anyOf ...string) Condition {
	if err := checkNames("email_domains", anyOf); err != nil {
		return Condition{err: err}
	}
	exact, below := map[string]bool{}, map[string]bool{}
	for _, d := range anyOf {
		base, wild := strings.CutPrefix(d, "*.")
		if !cleanName(base) || strings.IndexByte(base, '.') < 0 {
			return invalid("%q is not a domain such as example.com or *.example.com", d)
		}
		if wild {
			below[lowerASCII(base)] = true
		} else {
			exact[lowerASCII(base)] = true
		}
	}
	return emailCondition(text("email_domains", anyOf), func(_, domain string) bool {
		return exact[domain] || len(below) > 0 && underAny(domain, below)
	})
}

// underAny reports whether a parent domain of domain is in parents.
func underAny(domain string, parents map[string]bool) bool {
	for {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		if parents[parent] {
			return true
		}
		domain = parent
	}
}

var errEmail = unmet("e-mail address is not listed")

func emailCondition(text string, holds func(local, domain string) bool) Condition {
	return Condition{Text: text, OfProvider: true, Check: func(_ *Request, id *Identity) error {
		if id.Email == "" {
			return errors.New("no e-mail address")
		}
		if !id.EmailVerified {
			return errors.New("e-mail address is not verified")
		}
		local, domain, ok := parseEmail(id.Email)
		if !ok {
			return errors.New("e-mail address is malformed")
		}
		if !holds(local, domain) {
			return errEmail
		}
		return nil
	}}
}

// parseEmail takes plain addresses only, local@domain as in RFC 5321 section
// 4.1.2 without quoting, comments or Unicode: whatever two programs could read
// differently is no address. The domain is returned in lower case.
func parseEmail(s string) (local, domain string, ok bool) {
	local, domain, ok = strings.Cut(s, "@")
	if !ok || local == "" || len(local) > 64 || !cleanName(domain) || strings.IndexByte(domain, '_') >= 0 {
		return "", "", false
	}
	for i := range len(local) {
		if !tokenByte[local[i]] && strings.IndexByte("/=?{}", local[i]) < 0 {
			return "", "", false
		}
	}
	if local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", "", false
	}
	return local, lowerASCII(domain), true
}

// Subjects holds for a subject that matches one of the globs, in which "*"
// stands for any run of characters and everything else for itself.
func Subjects(globs ...string) (Condition, error) {
	if err := checkNames("subjects", globs); err != nil {
		return Condition{}, err
	}
	for _, g := range globs {
		if strings.Trim(g, "*") == "" {
			return Condition{}, fmt.Errorf("subject %q is everybody: say any_user", g)
		}
	}
	globs = slices.Clone(globs)
	failed := unmet("subject matches none of %q", globs)
	return Condition{Text: text("subjects", globs), OfProvider: true, Check: func(_ *Request, id *Identity) error {
		if slices.ContainsFunc(globs, func(g string) bool { return matchGlob(g, id.Subject) }) {
			return nil
		}
		return failed
	}}, nil
}

// matchGlob takes each literal piece at its first place, which is enough when
// "*" is the only wildcard, and linear.
func matchGlob(glob, s string) bool {
	head, rest, wild := strings.Cut(glob, "*")
	if !wild {
		return s == glob
	}
	s, ok := strings.CutPrefix(s, head)
	for ok {
		var piece string
		piece, rest, wild = strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(s, piece)
		}
		_, s, ok = strings.Cut(s, piece)
	}
	return false
}

// ClaimIn holds where the claim at pointer (see Claims.Lookup) equals one of
// anyOf, or is an array with a member that does. Values are strings, bools and
// numbers, and equal only a claim of the same type.
func ClaimIn(pointer string, anyOf ...any) (Condition, error) {
	if err := checkPointer(pointer); err != nil {
		return Condition{}, err
	}
	if len(anyOf) == 0 {
		return Condition{}, fmt.Errorf("claim %q: the list of values is empty", pointer)
	}
	wants := make([]any, len(anyOf))
	for i, v := range anyOf {
		want, ok := scalar(v)
		if !ok {
			return Condition{}, fmt.Errorf("claim %q: %v is not a non-empty string, a number or a bool", pointer, v)
		}
		wants[i] = want
	}
	failed := unmet("claim %q is none of the wanted values", pointer)
	unknown := fmt.Errorf("claim %q is missing or of another type", pointer)
	text, err := json.Marshal(wants)
	if err != nil {
		return Condition{}, fmt.Errorf("claim %q: %w", pointer, err)
	}
	c := Condition{Text: fmt.Sprintf("claim %q in %s", pointer, text), OfProvider: true}
	c.Check = func(_ *Request, id *Identity) error {
		v, _ := id.Claims.Lookup(pointer)
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		switch {
		case slices.ContainsFunc(list, func(v any) bool { return isOneOf(v, wants) }):
			return nil
		case slices.ContainsFunc(list, func(v any) bool { return !differs(v, wants) }):
			return unknown
		}
		return failed
	}
	return c, nil
}

// scalar brings a wanted value into the form that ParseClaims gives claims.
func scalar(v any) (any, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case bool, json.Number:
		return v, true
	case int:
		return json.Number(strconv.Itoa(v)), true
	case int64:
		return json.Number(strconv.FormatInt(v, 10)), true
	case uint64:
		return json.Number(strconv.FormatUint(v, 10)), true
	case float64:
		return json.Number(strconv.FormatFloat(v, 'g', -1, 64)), true
	}
	return nil, false
}

// isOneOf compares scalars only: an array or object in v would not be comparable.
func isOneOf(v any, wants []any) bool {
	switch v.(type) {
	case string, bool, json.Number:
		return slices.Contains(wants, v)
	}
	return false
}

var errNoAudience = errors.New("the credential names no audience")

// Audience holds for a credential that was made out for one of the audiences.
func Audience(anyOf ...string) Condition {
	if err := checkNames("audience", anyOf); err != nil {
		return Condition{err: err}
	}
	failed := unmet("audience is none of %q", anyOf)
	want := set(anyOf)
	return Condition{Text: text("audience", anyOf), Check: func(_ *Request, id *Identity) error {
		switch {
		case len(id.Audience) == 0:
			return errNoAudience
		case slices.ContainsFunc(id.Audience, func(a string) bool { return want[a] }):
			return nil
		}
		return failed
	}}
}

// FromProvider holds for identities of one provider.
func FromProvider(name string) Condition {
	if name == "" {
		return invalid("the name of the provider is empty")
	}
	failed := unmet("identity is not from provider %q", name)
	return Condition{Text: text("provider", []string{name}), fromProvider: true, Check: func(_ *Request, id *Identity) error {
		if id.Provider == name {
			return nil
		}
		return failed
	}}
}

// problem says why the condition cannot be used, or nil.
func (c Condition) problem() error {
	if c.err == nil && c.Check == nil {
		return errors.New("no condition")
	}
	return c.err
}

// differs reports whether v is no wanted value for certain: "3" and 3, or 3.0
// and 3, are not equal to us, but may have been meant to be.
func differs(v any, wants []any) bool {
	return !slices.ContainsFunc(wants, func(want any) bool {
		switch want.(type) {
		case string:
			_, ok := v.(string)
			return !ok
		case bool:
			_, ok := v.(bool)
			return !ok
		}
		n, ok := v.(json.Number)
		return !ok || n == "-0" || strings.ContainsAny(n.String(), ".eE")
	})
}

func checkNames(what string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("the list of %s is empty", what)
	}
	if slices.Contains(names, "") {
		return fmt.Errorf("the list of %s has an empty entry", what)
	}
	return nil
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// text is the same for the same names in any order.
func text(what string, names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return fmt.Sprintf("%s %q", what, slices.Compact(names))
}
