package admin_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
)

// Who connects and then says nothing does not hold up the end of the process.
func TestShutdownDespiteASilentConnection(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := admin.New(admin.Config{Current: func() admin.Current { return admin.Current{} }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // its settings: the connection was accepted
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = s.Shutdown(ctx)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Shutdown took %v, its context 100 ms (%v)", took, err)
	}
	if err == nil {
		t.Error("nothing was cut short, so this test shows nothing")
	}
	conn.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
