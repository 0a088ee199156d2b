package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mistake is one thing that is wrong with a configuration file.
type Mistake struct {
	File         string
	Line, Column int    // from 1; 0 when the mistake has no place of its own
	Key          string // for example rules[2].require.groups; empty for the whole file
	Problem      string // what is wrong
	Found        string // what stands there; never the value of an unknown key, which may be a secret
	Hint         string // what would be right
}

// Error says all of it in one line: file:line:column: key: problem (found …): hint.
func (m Mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", m.Line, m.Column)
	}
	b.WriteString(": ")
	if m.Key != "" {
		b.WriteString(m.Key + ": ")
	}
	b.WriteString(m.Problem)
	if m.Found != "" {
		b.WriteString(" (found " + m.Found + ")")
	}
	if m.Hint != "" {
		b.WriteString(": " + m.Hint)
	}
	return oneLine(b.String())
}

// oneLine shows control characters, which a key may hold, as what they are not.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// Mistakes is everything that is wrong with a file, in the order of its lines.
type Mistakes []Mistake

// Error returns one line per mistake.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

func (ms Mistakes) sorted() Mistakes {
	slices.SortStableFunc(ms, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return ms
}

// quote shows at most 60 characters of what was found. What looks like a
// password in an address is not shown at all.
func quote(s string) string {
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		return "an address with user information"
	}
	const most = 60
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// nearest returns the candidate that a misspelt word most likely means, or "".
func nearest(word string, candidates []string) string {
	best, least := "", 1+len(word)/3
	for _, c := range candidates {
		if d := distance(word, c); d <= least && (best == "" || d < distance(word, best)) {
			best = c
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap between a and b.
func distance(a, b string) int {
	before, last, row := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
