package telemetry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Health says whether the process lives and wants requests.
type Health struct {
	ready atomic.Bool

	// Degraded names what is not working as it should while requests are served all the
	// same, for example "provider corp". nil: nothing ever.
	Degraded func() []string
}

// SetReady says whether the process wants requests: from when it listens until it drains.
func (h *Health) SetReady(ready bool) { h.ready.Store(ready) }

// NewOps serves /healthz (200 while the process lives), /readyz (200 while it
// wants requests, also when something is degraded: 503 of every replica would
// leave Envoy without anybody to ask) and /metrics.
func NewOps(h *Health, m *Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /readyz", h.serveReady)
	mux.Handle("GET /metrics", m.Handler())
	return mux
}

func (h *Health) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !h.ready.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	var degraded []string
	if h.Degraded != nil {
		degraded = h.Degraded()
		slices.Sort(degraded)
	}
	if len(degraded) > 0 {
		fmt.Fprintln(w, "ready, degraded: "+strings.Join(degraded, ", "))
		return
	}
	fmt.Fprintln(w, "ready")
}
