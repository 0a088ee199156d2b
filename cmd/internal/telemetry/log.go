// Package telemetry shows what Gatehouse does: log, metrics, traces, health.
//
// Nothing that a request carries becomes a label of a metric, and no
// credential, session id, state or code becomes part of anything here.
package telemetry

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	flushEvery = time.Second
	logBuffer  = 64 << 10
)

// Log writes JSON lines through a buffer that is flushed once a second, when
// it is full, after every line of level error or of Audit, and by Flush. A process that is
// killed (SIGKILL, out of memory, power) therefore loses at most the lines of
// its last second; one that ends by itself loses none.
type Log struct {
	out    *buffer
	level  slog.LevelVar
	logger *slog.Logger
}

// NewLog makes a log at level info. Run flushes it.
func NewLog(w io.Writer) *Log {
	l := &Log{out: &buffer{w: bufio.NewWriterSize(w, logBuffer)}}
	l.logger = slog.New(&flusher{slog.NewJSONHandler(l.out, &slog.HandlerOptions{Level: &l.level}), l.out, slog.LevelError})
	return l
}

// Logger is for events. Safe for concurrent use.
func (l *Log) Logger() *slog.Logger { return l.logger }

// Audit is for what operators do: it writes every line, whatever the level, and at
// once. Safe for concurrent use.
func (l *Log) Audit() *slog.Logger {
	return slog.New(&flusher{slog.NewJSONHandler(l.out, nil), l.out, slog.LevelInfo})
}

// SetLevel sets the least severity of events: debug, info, warn or error.
// Anything else is info. Access lines do not depend on it.
func (l *Log) SetLevel(name string) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		level = slog.LevelInfo
	}
	l.level.Set(level)
}

// Flush writes what is buffered.
func (l *Log) Flush() error { return l.out.flush() }

// Run flushes once a second until ctx ends, and then once more.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = l.Flush() // there is nowhere to report it
		case <-ctx.Done():
			return l.Flush()
		}
	}
}

// buffer is a bufio.Writer for several goroutines.
type buffer struct {
	mu sync.Mutex // guards w
	w  *bufio.Writer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w.Available() < len(p) {
		_ = b.w.Flush() // whole lines only: a reader never sees half of one; its error comes back below
	}
	return b.w.Write(p)
}

func (b *buffer) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.Flush()
}

// flusher flushes after a line of a level or above.
type flusher struct {
	slog.Handler
	out  *buffer
	from slog.Level
}

func (f *flusher) Handle(ctx context.Context, r slog.Record) error {
	err := f.Handler.Handle(ctx, r)
	if r.Level >= f.from {
		return f.out.flush()
	}
	return err
}

func (f *flusher) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &flusher{f.Handler.WithAttrs(attrs), f.out, f.from}
}

func (f *flusher) WithGroup(name string) slog.Handler {
	return &flusher{f.Handler.WithGroup(name), f.out, f.from}
}
