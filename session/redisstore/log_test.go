package redisstore_test

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

// clientLog is what the Redis client said during the tests.
var clientLog lockedBuffer

type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // the checks of the suites wait, mostly
	redisstore.LogTo(slog.New(slog.NewJSONHandler(&clientLog, &slog.HandlerOptions{Level: slog.LevelDebug})))
	os.Exit(m.Run())
}

// The client's words arrive as structured lines, without the password.
func TestLogTo(t *testing.T) {
	store := newStore(t, redisstore.Config{
		Addresses: []string{t.TempDir() + "/nobody"}, Credentials: password("u", "the-password"),
	})
	if err := store.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "the-password") {
		t.Errorf("Ping: %v", err)
	}
	if log := clientLog.String(); !strings.Contains(log, `"level":"DEBUG","msg":"redis client"`) || strings.Contains(log, "the-password") {
		t.Errorf("log: %s", log)
	}
}
