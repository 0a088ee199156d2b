package telemetry

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// line is one JSON object that is written field by field. Names are ours and plain.
type line struct{ b []byte }

func (l *line) begin(now time.Time, level, message string) {
	l.b = append(l.b[:0], `{"time":"`...)
	l.b = now.AppendFormat(l.b, time.RFC3339Nano)
	l.b = append(l.b, '"')
	l.text("level", level)
	l.text("msg", message)
}

func (l *line) text(name, value string) {
	l.name(name)
	if plain(value) {
		l.b = append(l.b, '"')
		l.b = append(l.b, value...)
		l.b = append(l.b, '"')
		return
	}
	l.b = append(l.b, quoted(value)...)
}

func (l *line) number(name string, n int64) {
	l.name(name)
	l.b = strconv.AppendInt(l.b, n, 10)
}

func (l *line) name(name string) {
	l.b = append(l.b, `,"`...)
	l.b = append(l.b, name...)
	l.b = append(l.b, `":`...)
}

// end returns the line, which is good until begin.
func (l *line) end() []byte {
	l.b = append(l.b, "}\n"...)
	return l.b
}

// plain reports whether s stands for itself between quotes (RFC 8259 section 7).
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// quoted writes everything else as the standard library does.
func quoted(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
