package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"
	"unicode"
)

// printable keeps what a browser said of itself from moving the cursor, changing colours
// or turning the direction of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// local is how people read times.
func local(t time.Time) string { return t.Local().Format(time.RFC3339) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return failure{err}
	}
	return nil
}
