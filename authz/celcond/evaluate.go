package celcond

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// expression is a compiled one. Programs keep no state between evaluations.
type expression struct {
	text    string
	label   string // the beginning of text, quoted, for the log
	program cel.Program
	info    *ast.SourceInfo
	failed  error
}

func newExpression(text string, program cel.Program, info *ast.SourceInfo) *expression {
	shown := text
	if r := []rune(text); len(r) > maxLabel {
		shown = string(r[:maxLabel]) + "…"
	}
	e := &expression{text: text, label: fmt.Sprintf("cel %q", shown), program: program, info: info}
	e.failed = authz.Unmet(e.label + " is false")
	return e
}

// inputs are reused: an evaluation does not keep its input.
var inputs = sync.Pool{New: func() any { return new(input) }}

var errNoBool = errors.New("cel: the result is no bool")

// holds is the Check of a condition.
func (e *expression) holds(r *authz.Request, id *authz.Identity) error {
	in := inputs.Get().(*input) //nolint:forcetypeassert // nothing else is put there
	in.request, in.identity = r, id
	out, _, err := e.program.Eval(in)
	*in = input{}
	inputs.Put(in)
	switch {
	case err != nil:
		return e.unknown(err)
	case out == types.True:
		return nil
	case out == types.False:
		return e.failed
	}
	return errNoBool
}

// unknown says why an expression could not be evaluated. The library's words may
// hold what a client sent, such as an API key that was looked up in a map: only
// fixed texts, and names that the expression itself spells out, go on.
func (e *expression) unknown(err error) error {
	if _, cancelled := errors.AsType[interpreter.EvalCancelledError](err); cancelled {
		return fmt.Errorf("%s was given up: it costs more than %d", e.label, runLimit)
	}
	why := e.reason(err.Error())
	if failed, ok := errors.AsType[*types.Err](err); ok && e.info != nil {
		if at := e.info.GetStartLocation(failed.NodeID()); at.Line() > 0 {
			return fmt.Errorf("%s cannot be evaluated at %d:%d: %s", e.label, at.Line(), at.Column()+1, why)
		}
	}
	return fmt.Errorf("%s cannot be evaluated: %s", e.label, why)
}

// messages are how the library's texts begin, and what we say instead.
var messages = []struct {
	prefix, text string
	named        bool // the name of something missing follows
}{
	{"no such key: ", "there is no", true},
	{"no such attribute(s): ", "nothing is known of", true},
	{"no such overload", "a value is of another type", false},
	{"unsupported conversion", "a value is of another type", false},
	{"unsupported type", "a value is of another type", false},
	{"type conversion error", "a value is of another type", false},
	{"index out of bounds", "a list is shorter", false},
	{"division by zero", "division by zero", false},
	{"modulus by zero", "division by zero", false},
	{tooLarge, "a number is too large", false},
}

func (e *expression) reason(message string) string {
	for _, m := range messages {
		rest, ok := strings.CutPrefix(message, m.prefix)
		switch {
		case ok && m.named:
			return m.text + " " + e.shown(rest)
		case ok:
			return m.text
		}
	}
	return "a value does not fit"
}

// shown is the name of what is missing, when it stands in the expression.
func (e *expression) shown(name string) string {
	if name != "" && len(name) <= 64 && strings.Contains(e.text, name) {
		return fmt.Sprintf("%q", name)
	}
	return "such value"
}
