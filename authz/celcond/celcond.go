// Package celcond compiles conditions written in CEL, the Common Expression Language.
//
// An expression is checked when it is compiled: its types, that its result is a
// bool, that it asks something, and what it can cost. A condition that cannot be
// evaluated, because a claim is missing or of another type or because it got too
// expensive, does not hold, and its error does not wrap authz.ErrUnmet.
package celcond

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Limits on an expression.
const (
	maxText    = 4 << 10
	maxNodes   = 1000
	maxNesting = 40 // calls, brackets, macros in one another
	maxLabel   = 80
)

// Compiler compiles expressions. It is immutable and safe for concurrent use.
type Compiler struct{ env *cel.Env }

// New returns a Compiler. The error is about the language itself and never depends
// on an expression.
func New() (*Compiler, error) {
	options := []cel.EnvOption{
		// Without matches: a regular expression that is not anchored opens more than
		// its author thinks, as in paths.
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction("matches")))),
		// Macros that build lists (map, filter) are left out: they take memory.
		cel.ClearMacros(), cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro),
		cel.ParserExpressionSizeLimit(maxText), cel.ParserRecursionLimit(maxNesting), cel.ParserErrorRecoveryLimit(4),
		cel.ExpressionNodeLimit(maxNodes),
		cel.CustomTypeAdapter(adapter{}),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.typ))
	}
	e, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("celcond: %w", err)
	}
	return &Compiler{env: e}, nil
}

// Compile makes a condition of an expression. Its error is a Mistakes.
//
// Names of an expression are those of package variables: request.method, .host,
// .path and .headers; identity.provider, .issuer, .subject, .user, .email,
// .email_verified, .preferred_username, .groups and .audience; claims;
// peer.principal. What is not known (an e-mail address that is not verified, no
// groups, a path that upstreams may read differently, no certificate) has no value.
func (c *Compiler) Compile(text string) (_ authz.Condition, err error) {
	defer func() { // The library is not ours: what breaks it is a mistake in the expression, not a crash.
		if recover() != nil {
			err = mistake("the expression cannot be read")
		}
	}()
	checked, err := c.check(text)
	if err != nil {
		return authz.Condition{}, err
	}
	reads := names(checked.NativeRep())
	if len(reads) == 0 {
		return authz.Condition{}, mistake("it asks nothing about the request, the identity or its claims; any_user stands for everybody")
	}
	if err := c.affordable(checked); err != nil {
		return authz.Condition{}, err
	}
	program, err := c.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(runLimit))
	if err != nil {
		return authz.Condition{}, mistake(oneLine(err.Error()))
	}
	return authz.Condition{
		Text:       fmt.Sprintf("cel %q", text),
		OfProvider: slices.ContainsFunc(reads, ofProvider),
		Check:      newExpression(text, program, checked.NativeRep().SourceInfo()).holds,
	}, nil
}

func (c *Compiler) check(text string) (*cel.Ast, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, mistake("the expression is empty")
	case !utf8.ValidString(text):
		return nil, mistake("the expression is not UTF-8")
	case len(text) > maxText:
		return nil, mistake(fmt.Sprintf("the expression is longer than %d bytes", maxText))
	}
	checked, issues := c.env.Compile(text)
	if issues.Err() != nil {
		return nil, mistakes(issues)
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, mistake(fmt.Sprintf("the result is %s, not a bool: compare it with something", typeName(checked.OutputType())))
	}
	return checked, nil
}

func typeName(t *cel.Type) string {
	if t.IsExactType(cel.DynType) {
		return "a value of any type"
	}
	return t.String()
}

// names are the variables that a checked expression reads.
func names(a *ast.AST) []string {
	var found []string
	for _, ref := range a.ReferenceMap() {
		if ref.Value == nil && len(ref.OverloadIDs) == 0 && known(ref.Name) && !slices.Contains(found, ref.Name) {
			found = append(found, ref.Name)
		}
	}
	return found
}

// Mistake is what is wrong at one place of an expression.
type Mistake struct {
	Line, Column int // from 1; 0: the whole expression
	Problem      string
}

// Error says the place and the problem.
func (m Mistake) Error() string {
	if m.Line == 0 {
		return m.Problem
	}
	return fmt.Sprintf("%d:%d: %s", m.Line, m.Column, m.Problem)
}

// Mistakes is everything that is wrong with an expression.
type Mistakes []Mistake

func (ms Mistakes) Error() string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.Error()
	}
	return strings.Join(texts, "; ")
}

func mistake(problem string) error { return Mistakes{{Problem: problem}} }

func mistakes(issues *cel.Issues) error {
	var ms Mistakes
	for _, e := range issues.Errors() {
		m := Mistake{Problem: oneLine(e.Message)}
		if e.Location != nil && e.Location.Line() > 0 {
			m.Line, m.Column = e.Location.Line(), e.Location.Column()+1
		}
		if !slices.Contains(ms, m) {
			ms = append(ms, m)
		}
	}
	if len(ms) == 0 {
		return mistake(oneLine(issues.Err().Error()))
	}
	return ms
}

// oneLine bounds what the library says: it repeats the expression.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if problem, _, syntax := strings.Cut(s, " expecting {"); syntax { // nearly every kind of token
		s = problem
	}
	s = strings.ReplaceAll(s, " (in container '')", "")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
