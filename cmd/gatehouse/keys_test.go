package main

import (
	"bytes"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// What keys new prints is a key file as it stands.
func TestKeysNew(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := keysCommand()
	c.SetArgs([]string{"new"})
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ParseKey(out.Bytes()); err != nil {
		t.Errorf("the key that was printed cannot be read: %v", err)
	}
}
