package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A line is what slog would have written, whatever the text: one line, and JSON.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"plain", "", "a\"b\\c", "\n{\"level\"", "\x1b[31m", "é\u2028", "\xff\xfe", "<&>", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Now()
		var l line
		l.begin(now, "INFO", "check")
		l.text("path", s)
		l.number("n", -7)
		got := string(l.end())
		if strings.Count(got, "\n") != 1 {
			t.Fatalf("%q is not one line", got)
		}
		var want bytes.Buffer
		r := slog.NewRecord(now, slog.LevelInfo, "check", 0)
		r.AddAttrs(slog.String("path", s), slog.Int("n", -7))
		if err := slog.NewJSONHandler(&want, nil).Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decoded(t, want.String()), decoded(t, got)); diff != "" {
			t.Errorf("%q (-slog +line):\n%s", s, diff)
		}
	})
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return m
}
