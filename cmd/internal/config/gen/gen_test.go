package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The schema and the reference follow the types: run go generate when this fails.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	files, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not current: run go generate ./cmd/internal/config\n%s", name, diff)
		}
	}
}
