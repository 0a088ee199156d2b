package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnmet is wrapped by the error of a condition that was evaluated and does not
// hold. Without it the error means that nobody can tell, because a claim is
// missing or of another type: that is "no", and stays "no" under Not.
var ErrUnmet = errors.New("condition does not hold")

// Unmet returns an error that reads as text and wraps ErrUnmet.
func Unmet(text string) error { return &conditionError{text: text, unmet: true} }

func unmet(format string, args ...any) error { return Unmet(fmt.Sprintf(format, args...)) }

// conditionError reads as text, without the words of the errors that it wraps.
type conditionError struct {
	text  string
	unmet bool // wraps ErrUnmet
	scope bool // wraps ErrInsufficientScope
}

func (e *conditionError) Error() string { return e.text }

func (e *conditionError) Is(target error) bool {
	return e.unmet && target == ErrUnmet || e.scope && target == ErrInsufficientScope
}

// The connectives know three answers: yes, no, and nobody can tell. What decides
// whatever the unknown might be decides, in any order; everything else is unknown.

// All holds where each of cs does. It does not hold for certain where one of cs
// does not.
func All(cs ...Condition) Condition {
	c, ok := combine("all", cs)
	if !ok || len(cs) == 1 {
		return c
	}
	for _, each := range cs {
		c.fromProvider = c.fromProvider || each.fromProvider
		c.OfProvider = c.OfProvider || each.OfProvider
	}
	c.OfProvider = c.OfProvider && !c.fromProvider
	cs = slices.Clone(cs)
	c.Check = func(r *Request, id *Identity) error {
		var unknown error
		for i := range cs {
			switch err := cs[i].Check(r, id); {
			case err == nil:
			case errors.Is(err, ErrUnmet):
				return err
			case unknown == nil:
				unknown = err
			}
		}
		return unknown
	}
	return c
}

// Any holds where one of cs does. It does not hold for certain where none does.
func Any(cs ...Condition) Condition {
	c, ok := combine("any", cs)
	if !ok || len(cs) == 1 {
		return c
	}
	c.fromProvider = true
	for _, each := range cs {
		c.fromProvider = c.fromProvider && each.fromProvider
		c.OfProvider = c.OfProvider || each.OfProvider
	}
	cs = slices.Clone(cs)
	c.Check = func(r *Request, id *Identity) error {
		var reasons []string
		why := conditionError{unmet: true}
		for i := range cs {
			err := cs[i].Check(r, id)
			if err == nil {
				return nil
			}
			why.unmet = why.unmet && errors.Is(err, ErrUnmet)
			why.scope = why.scope || errors.Is(err, ErrInsufficientScope)
			reasons = append(reasons, err.Error())
		}
		why.text = strings.Join(reasons, "; ")
		return &why
	}
	return c
}

// Not holds where c was evaluated and does not. Where nobody can tell whether c
// holds, Not does not hold either: what is unknown opens nothing.
func Not(c Condition) Condition {
	if err := c.problem(); err != nil {
		return Condition{err: err}
	}
	if c.Text == anyUserText {
		return invalid("not any_user is nobody")
	}
	failed := unmet("a condition under not holds")
	out := Condition{OfProvider: c.OfProvider}
	if c.Text != "" {
		out.Text = "not(" + c.Text + ")"
		failed = unmet("%s does not hold", out.Text)
	}
	out.Check = func(r *Request, id *Identity) error {
		switch err := c.Check(r, id); {
		case err == nil:
			return failed
		case errors.Is(err, ErrUnmet):
			return nil
		default:
			return &conditionError{text: err.Error()} // more scopes would not help
		}
	}
	return out
}

// combine returns what All and Any share, or an unusable condition and false.
func combine(word string, cs []Condition) (Condition, bool) {
	if len(cs) == 0 {
		return invalid("%s of no conditions", word), false
	}
	if len(cs) == 1 {
		return cs[0], true
	}
	texts := make([]string, len(cs))
	for i, c := range cs {
		if err := c.problem(); err != nil {
			return Condition{err: err}, false
		}
		texts[i] = c.Text
	}
	if slices.Contains(texts, "") {
		return Condition{}, true
	}
	return Condition{Text: word + "(" + strings.Join(texts, ", ") + ")"}, true
}
