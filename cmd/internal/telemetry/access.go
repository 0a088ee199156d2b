package telemetry

import (
	"context"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Access writes one line per decision. Its fields are bounded, whatever a
// request carries, and none can hold a credential: the path comes without its
// query, and no header is written but the request id.
type Access struct {
	handler slog.Handler // flushes errors
	allowed bool
}

// Access returns the access log: "all" decisions, those "denied" (all but an
// allow), or "none" (then it is nil, which writes nothing).
func (l *Log) Access(which string) *Access {
	if which == "none" {
		return nil
	}
	return &Access{handler: &flusher{slog.NewJSONHandler(l.out, nil), l.out, slog.LevelError}, allowed: which != "denied"}
}

// Longest values, in bytes, of what a stranger chooses.
const (
	maxPath   = 1024
	maxDetail = 512
	maxValue  = 256
)

// Observe writes the line of one decision. Safe for concurrent use.
func (a *Access) Observe(r *authz.Request, d *authz.Decision, took time.Duration) {
	if a == nil || d.Outcome == authz.Allow && !a.allowed {
		return
	}
	level := slog.LevelInfo
	if d.Reason == authz.ReasonPanic {
		level = slog.LevelError // a bug of ours: not to be lost, nor overlooked
	}
	record := slog.NewRecord(time.Now(), level, "check", 0)
	var fields [20]slog.Attr
	attrs := append(fields[:0],
		slog.String("decision", d.Outcome.String()),
		slog.String("rule", d.Rule),
		slog.String("reason", d.Reason),
	)
	if d.Detail != "" {
		attrs = append(attrs, slog.String("detail", bound(d.Detail, maxDetail)))
	}
	if d.Outcome != authz.Allow {
		attrs = append(attrs, slog.Int("status", d.Response.Status))
	}
	if id := d.Identity; id != nil {
		attrs = append(attrs,
			slog.String("provider", id.Provider),
			slog.String("issuer", bound(id.Issuer, maxValue)),
			slog.String("subject", bound(id.Subject, maxValue)))
		if id.Session != "" {
			attrs = append(attrs, slog.String("session", bound(id.Session, maxValue)))
		}
	}
	if r != nil {
		attrs = append(attrs,
			slog.String("method", bound(r.Method, maxValue)),
			slog.String("host", bound(r.Host, maxValue)),
			slog.String("path", bound(r.Path, maxPath)),
			slog.String("caller", r.Caller.String()),
			slog.String("client", bound(r.Peer.Client, maxValue)),
			slog.String("request_id", bound(r.ID, maxValue)))
		if r.Peer.Principal != "" {
			attrs = append(attrs, slog.String("principal", bound(r.Peer.Principal, maxValue)))
		}
	}
	attrs = append(attrs, slog.Int64("duration_us", took.Microseconds()))
	record.AddAttrs(attrs...)
	_ = a.handler.Handle(context.Background(), record) // there is nowhere to report it
}

// bound cuts s to at most n bytes, between characters, and says so by "…".
func bound(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
