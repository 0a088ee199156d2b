package telemetry

import (
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Access writes one line per decision, as slog's JSONHandler would, but for a fraction
// of its time. Its fields are bounded, whatever a request carries, and none can hold a
// credential: the path comes without its query, and no header is written but the
// request id.
type Access struct {
	out     *buffer
	allowed bool
	lines   sync.Pool // of *line
}

// Access returns the access log: "all" decisions, those "denied" (all but an
// allow), or "none" (then it is nil, which writes nothing).
func (l *Log) Access(which string) *Access {
	if which == "none" {
		return nil
	}
	return &Access{out: l.out, allowed: which != "denied", lines: sync.Pool{New: func() any { return new(line) }}}
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
	level := "INFO"
	if d.Reason == authz.ReasonPanic {
		level = "ERROR" // a bug of ours: not to be lost, nor overlooked
	}
	l := a.lines.Get().(*line)
	defer a.lines.Put(l)
	l.begin(time.Now(), level, "check")
	l.decision(d)
	if r != nil {
		l.request(r)
	}
	l.number("duration_us", took.Microseconds())
	_, _ = a.out.Write(l.end()) // there is nowhere to report it
	if level == "ERROR" {
		_ = a.out.flush()
	}
}

func (l *line) decision(d *authz.Decision) {
	l.text("decision", d.Outcome.String())
	l.text("rule", d.Rule)
	l.text("reason", d.Reason)
	if d.Detail != "" {
		l.text("detail", bound(d.Detail, maxDetail))
	}
	if d.Outcome != authz.Allow {
		l.number("status", int64(d.Response.Status))
	}
	if id := d.Identity; id != nil {
		l.text("provider", id.Provider)
		l.text("issuer", bound(id.Issuer, maxValue))
		l.text("subject", bound(id.Subject, maxValue))
		if id.Session != "" {
			l.text("session", bound(id.Session, maxValue))
		}
	}
}

func (l *line) request(r *authz.Request) {
	l.text("method", bound(r.Method, maxValue))
	l.text("host", bound(r.Host, maxValue))
	l.text("path", bound(r.Path, maxPath))
	l.text("caller", r.Caller.String())
	l.text("client", bound(r.Peer.Client, maxValue))
	l.text("request_id", bound(r.ID, maxValue))
	if r.Peer.Principal != "" {
		l.text("principal", bound(r.Peer.Principal, maxValue))
	}
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
