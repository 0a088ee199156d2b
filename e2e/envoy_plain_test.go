package e2e

import (
	"net/http"
	"testing"
)

// Without a server to ask, every Envoy is closed: what the other tests let
// through was let through by Gatehouse.
func TestEnvoyIsClosedAlone(t *testing.T) {
	t.Parallel()
	for _, version := range envoyVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			app := startApp(t)
			l := listener{port: freePort(t), normalise: true}
			startEnvoy(t, envoyConfig{version: version, listeners: []listener{l}, grpc: []endpoint{{port: freePort(t)}}, app: app.port})
			if a := get(t, l.port, "app.localhost", "/"); a.Status != http.StatusGatewayTimeout {
				t.Errorf("answer without a Check server: %v, want status_on_error 504", a)
			}
			if n := len(app.requests()); n != 0 {
				t.Errorf("%d requests reached the application", n)
			}
		})
	}
}
