package e2e

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// newStub serves h on loopback until the test ends and returns its address.
func newStub(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}
