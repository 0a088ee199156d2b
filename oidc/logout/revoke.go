package logout

import (
	"context"
	"log/slog"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
)

const (
	revokeTimeout = 10 * time.Second
	maxRevoking   = 64 // at a time; the next one is left to run out by itself
)

// revoke tells the provider that the tokens of an ended session are of no more use
// (RFC 7009). It returns at once and is best effort: the session is over without.
//
// One token is enough: with the refresh token the others of its grant go, too
// (section 2.1).
func (l *Logout) revoke(ctx context.Context, r *authz.Request, p *oidc.Provider, name string, t *session.Tokens) {
	if t == nil {
		return
	}
	token, hint := t.Refresh, "refresh_token"
	if token == "" {
		token, hint = t.Access, "access_token"
	}
	if token == "" {
		return
	}
	attrs := []slog.Attr{slog.String("provider", p.Name()), slog.String("session", name), slog.String("request_id", r.ID)}
	select {
	case l.revoking <- struct{}{}:
	default:
		l.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "token_not_revoked", append(attrs, slog.String("error", "too many at a time"))...)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	go func() {
		defer func() { cancel(); <-l.revoking }()
		if err := p.Revoke(ctx, token, hint); err != nil {
			l.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "token_not_revoked", append(attrs, slog.String("error", err.Error()))...)
			return
		}
		l.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "token_revoked", attrs...)
	}()
}
