package oidc

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// verifyRenewedIDToken checks the ID token of a refresh by OpenID Connect Core 1.0
// section 12.2 against what was known: the identity, and before, the claims of the
// ID token until now. ErrRejected means that it says something else or is forged;
// ErrUnavailable that it cannot be judged now.
func (p *Provider) verifyRenewedIDToken(ctx context.Context, t *tokens, known *authz.Identity, before authz.Claims) (authz.Claims, error) {
	n, err := parseToken(t.id)
	if err == nil {
		err = p.checkStatement(n, t.access)
	}
	if err == nil {
		err = p.checkContinuity(n.claims, known, before)
	}
	if err == nil {
		_, err = n.verify(ctx, p.keys, p.cfg.Client.Algorithms)
	}
	if err == nil {
		_, _, err = lifetime(n.claims, p.now(), p.cfg.Skew)
	}
	switch {
	case err == nil:
		return n.claims, nil
	case errors.Is(err, ErrUnavailable):
		return nil, err
	case errors.Is(err, errNoKey):
		// The provider signs with a key before every cache on the way has it. Who
		// forged this would have had to answer at the token endpoint.
		return nil, fmt.Errorf("%w: ID token: %w", ErrUnavailable, err)
	case errors.Is(err, errExpired), errors.Is(err, errNotYet):
		// Signed by the provider just now, so one of the clocks is wrong. A clock
		// that jumps here must not sign everybody out.
		return nil, fmt.Errorf("%w: ID token: %w", ErrUnavailable, err)
	default:
		return nil, fmt.Errorf("%w: ID token: %w", ErrRejected, err)
	}
}

// checkContinuity: the new ID token is about the same sign-in. Audiences besides
// ours may come and go with the provider's configuration; section 12.2 wants them
// the same, but nothing here depends on them.
func (p *Provider) checkContinuity(c authz.Claims, known *authz.Identity, before authz.Claims) error {
	if sub, _ := c["sub"].(string); sub != known.Subject {
		return errors.New("sub is not the one that signed in")
	}
	iat, _, err := date(c, "iat")
	if err != nil {
		return err
	}
	if last, _, err := date(before, "iat"); err == nil && iat.Before(last.Add(-p.cfg.Skew)) {
		return errors.New("iat lies before that of the last ID token: an old one came back")
	}
	first := original("nonce", before, known.Claims)
	if v := c["nonce"]; v != nil && first != nil {
		if nonce, ok := v.(string); !ok || first != any(nonce) {
			return errors.New("nonce is not that of the sign-in")
		}
	}
	return checkSameAuthTime(c, before, known.Claims)
}

// checkSameAuthTime: "its value MUST represent the time of the original
// authentication". That the login asked for max_age is no limit for its session.
func checkSameAuthTime(c, before, known authz.Claims) error {
	first := original("auth_time", before, known)
	if c["auth_time"] == nil || first == nil {
		return nil
	}
	at, _, err := date(c, "auth_time")
	if err != nil {
		return err
	}
	if then, _, err := date(authz.Claims{"auth_time": first}, "auth_time"); err != nil || !then.Equal(at) {
		return errors.New("auth_time is not that of the sign-in")
	}
	return nil
}

// original is a claim of the first ID token that later ones may leave out but not
// change, nil when it had none: from the last ID token, else from the identity,
// where withOriginals keeps it.
func original(name string, before, known authz.Claims) any {
	if v := before[name]; v != nil {
		return v
	}
	return known[name]
}

// withOriginals keeps the originals in the claims of an identity, so that the
// refresh after next can still compare. It changes c.
func withOriginals(c, known authz.Claims) authz.Claims {
	for _, name := range []string{"nonce", "auth_time"} {
		if v := known[name]; v != nil && c[name] == nil {
			c[name] = v
		}
	}
	return c
}
