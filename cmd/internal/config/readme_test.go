package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// The first configuration that a reader copies is one that starts.
func TestReadmeConfiguration(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```yaml\n")
	text, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("README.md has no configuration")
	}
	if _, err := config.Parse("README.md", []byte(text)); err != nil {
		t.Error(err)
	}
}
