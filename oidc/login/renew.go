package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// Renew returns what session.Config.Renew wants: it asks the session's provider for
// new tokens. find returns the provider of that name, or nil. Only the provider's
// word that the grant is over becomes session.ErrRevoked; that it is not configured
// (any more), or is another one by now, says nothing about the session. log is told
// when new tokens came without a new identity that could be believed; nil: not.
func Renew(find func(provider string) *oidc.Provider, log *slog.Logger) func(context.Context, *session.Session) (*session.Session, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return func(ctx context.Context, s *session.Session) (*session.Session, error) {
		if s.Identity == nil || s.Tokens == nil || s.Tokens.Refresh == "" {
			return nil, errors.New("renew: the session has no refresh token")
		}
		p := find(s.Identity.Provider)
		if p == nil {
			return nil, fmt.Errorf("renew: provider %q is not configured", s.Identity.Provider)
		}
		if p.Issuer() != s.Identity.Issuer { // a refresh token goes to who issued it, and to nobody else
			return nil, fmt.Errorf("renew: provider %q has another issuer than the session", s.Identity.Provider)
		}
		g, err := p.Refresh(ctx, grantOf(s))
		if errors.Is(err, oidc.ErrRejected) {
			return nil, fmt.Errorf("%w: %w", session.ErrRevoked, err)
		}
		if err != nil {
			return nil, fmt.Errorf("renew: %w", err)
		}
		if g.Kept != nil {
			log.LogAttrs(ctx, slog.LevelWarn, "claims_kept", slog.String("provider", p.Name()), slog.String("session", s.Handle.Name()), slog.String("error", g.Kept.Error()))
		}
		renewed := *s
		renewed.Identity, renewed.Tokens = g.Identity, tokensOf(g)
		return &renewed, nil
	}
}

func grantOf(s *session.Session) *oidc.Grant {
	t := s.Tokens
	return &oidc.Grant{
		Identity: s.Identity, Access: t.Access, Refresh: t.Refresh, IDToken: t.ID,
		AccessExpires: t.AccessExpires, ProviderSession: t.ProviderSession,
	}
}
