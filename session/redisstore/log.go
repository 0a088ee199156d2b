package redisstore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogTo sends what the Redis client has to say (one line for every connection that
// could not be made) to log, at level debug, in place of standard error. The client
// keeps one logger for the whole process: call it once, before New. What matters to
// an operator is in the errors that a Store returns.
func LogTo(log *slog.Logger) { redis.SetLogger(logger{log}) }

type logger struct{ *slog.Logger }

func (l logger) Printf(ctx context.Context, format string, v ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
	}
}
