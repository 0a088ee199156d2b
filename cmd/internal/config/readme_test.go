package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// What a reader copies starts. A piece of a configuration, or a rule, is added to the
// first whole one.
func TestConfigurationsInDocuments(t *testing.T) {
	first := ""
	for file, want := range map[string]int{"README.md": 3, "docs/operating.md": 5, "docs/configuration.md": 1} {
		found := blocks(t, file)
		if len(found) != want {
			t.Errorf("%s has %d configurations, want %d", file, len(found), want)
		}
		for i, text := range found {
			if first == "" {
				first = blocks(t, "README.md")[0]
			}
			switch {
			case strings.HasPrefix(text, "- name: "): // a rule
				text = first + text
			case !strings.Contains(text, "\nrules:\n"):
				text = add(first, text)
			}
			if _, err := config.Parse(file, []byte(text)); err != nil {
				t.Errorf("%s, configuration %d: %v", file, i+1, err)
			}
		}
	}
}

// blocks returns the configurations of a document.
func blocks(t *testing.T, file string) (all []string) {
	t.Helper()
	data, err := os.ReadFile("../../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range strings.Split(string(data), "```yaml\n")[1:] {
		text, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("%s has a configuration without an end", file)
		}
		all = append(all, text)
	}
	return all
}

// add puts the keys of a piece into whole, below the same top-level key if there is one.
func add(whole, piece string) string {
	key, keys, _ := strings.Cut(piece, "\n")
	before, after, ok := strings.Cut(whole, key+"\n")
	if !ok {
		return piece + whole
	}
	return before + key + "\n" + keys + after
}
