package authz_test

import (
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func TestFieldValid(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value string
		want        bool
	}{
		{"location", "/a?b=c", true},
		{"set-cookie", "a=b; Path=/", true},
		{"x_y.z", "é\t ", true},
		{"a", "", true},
		{"location", "/a\r\nb: c", false},
		{"location", "/a\nb", false},
		{"location", "a\x00", false},
		{"location", "a\x7f", false},
		{"location", "a\xff", false},
		{"location", "a\x1b", false},
		{"", "a", false},
		{":path", "a", false},
		{"a b", "a", false},
		{"a:", "a", false},
		{"Location", "a", false},
		{"a\n", "a", false},
		{"é", "a", false},
		{"a\xff", "a", false},
		{"host", "a", false},
		{"content-length", "1", false},
		{"transfer-encoding", "chunked", false},
		{"connection", "close", false},
		{"upgrade", "h2c", false},
	}
	for _, test := range tests {
		if got := (authz.Field{Name: test.name, Value: test.value}).Valid(); got != test.want {
			t.Errorf("Field{%q, %q}.Valid() = %v, want %v", test.name, test.value, got, test.want)
		}
	}
}
