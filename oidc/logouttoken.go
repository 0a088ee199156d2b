package oidc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// logoutEvent is the member of events that makes a logout token (OpenID Connect
// Back-Channel Logout 1.0 section 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// maxLogoutAge bounds how old a logout token may be, whatever its exp says: it is
// sent when a session ends, not kept. It also bounds how long a jti is of interest.
const maxLogoutAge = 10 * time.Minute

// LogoutToken is a provider's verified word that somebody was signed out there. At
// least one of Subject and SessionID is not empty: with a SessionID it is about that
// session at the provider, else about every session of the subject (section 2.4).
type LogoutToken struct {
	Issuer, Subject, SessionID string
	ID                         string // jti; unique for this issuer
	IssuedAt                   time.Time
	Expires                    time.Time // from then on VerifyLogoutToken refuses it: the life of its jti
}

// LogoutIssuer reads the iss of a logout token that nobody has verified: it serves
// to choose among configured providers, and nothing else. An error wraps ErrRejected.
func LogoutIssuer(raw string) (string, error) {
	t, err := parseToken(raw)
	if err != nil {
		return "", fmt.Errorf("%w: logout token: %w", ErrRejected, err)
	}
	iss, _ := t.claims["iss"].(string)
	if iss == "" {
		return "", fmt.Errorf("%w: logout token: iss is missing or not a string", ErrRejected)
	}
	return iss, nil
}

// VerifyLogoutToken makes the checks of OpenID Connect Back-Channel Logout 1.0
// section 2.6, except for jti: whether one came before is for the caller to know. An
// error wraps ErrRejected, or ErrUnavailable when the keys cannot be read, or not
// for a token with an unknown key now: the provider may send it once more.
func (p *Provider) VerifyLogoutToken(ctx context.Context, raw string) (*LogoutToken, error) {
	if p.cfg.Client == nil {
		return nil, errNoClient
	}
	var l *LogoutToken
	t, err := parseToken(raw)
	if err == nil {
		l, err = p.readLogoutToken(t)
	}
	if err == nil {
		// By a key of this provider, with an algorithm configured for ID tokens.
		_, err = t.verify(ctx, p.keys, p.cfg.Client.Algorithms)
	}
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: logout token: %w", ErrRejected, err)
	}
	return l, nil
}

// readLogoutToken checks claims whose signature VerifyLogoutToken then checks.
func (p *Provider) readLogoutToken(t *signedToken) (*LogoutToken, error) {
	// Section 2.4: the type is recommended; older providers send "JWT" or none.
	if !t.typed("logout+jwt", "jwt") {
		return nil, fmt.Errorf("typ %.40q is not a logout token's", t.typ)
	}
	c := t.claims
	l := &LogoutToken{Issuer: p.cfg.Issuer}
	if iss, _ := c["iss"].(string); iss != l.Issuer {
		return nil, errors.New("iss is not the provider's")
	}
	if err := p.checkLogoutAudience(c); err != nil {
		return nil, err
	}
	if err := l.readDates(c, p.now(), p.cfg.Skew); err != nil {
		return nil, err
	}
	if err := l.readNames(c); err != nil {
		return nil, err
	}
	events, _ := c["events"].(map[string]any)
	if _, ok := events[logoutEvent].(map[string]any); !ok {
		return nil, errors.New("events is not an object with an object for back-channel logout")
	}
	// "Verify that the Logout Token does not contain a nonce Claim": an ID token is none.
	if _, there := c["nonce"]; there {
		return nil, errors.New("a nonce is there, which is forbidden")
	}
	return l, nil
}

// checkLogoutAudience: we are in aud. Unlike an ID token's, a logout token for
// several audiences needs no azp: it hands out nothing.
func (p *Provider) checkLogoutAudience(c authz.Claims) error {
	aud, err := audience(c)
	if err != nil {
		return err
	}
	if !slices.Contains(aud, p.cfg.Client.ID) {
		return errors.New("aud does not name this client")
	}
	if azp, there := c["azp"]; there && azp != p.cfg.Client.ID {
		return errors.New("azp does not name this client")
	}
	return nil
}

func (l *LogoutToken) readDates(c authz.Claims, now time.Time, skew time.Duration) error {
	exp, iat, err := lifetime(c, now, skew)
	switch {
	case err != nil:
		return err
	case iat.IsZero():
		return errors.New("iat is missing")
	}
	l.IssuedAt, l.Expires = iat, exp.Add(skew)
	if oldest := iat.Add(maxLogoutAge + skew); oldest.Before(l.Expires) {
		l.Expires = oldest
	}
	if !now.Before(l.Expires) {
		return fmt.Errorf("iat lies more than %v back", maxLogoutAge)
	}
	return nil
}

// readNames reads who was signed out, and the name of the token.
func (l *LogoutToken) readNames(c authz.Claims) (err error) {
	if _, there := c["sub"]; there {
		if l.Subject, err = subject(c, maxIDTokenSubject); err != nil {
			return err
		}
	}
	if _, there := c["sid"]; there {
		l.SessionID, _ = c["sid"].(string)
		if l.SessionID == "" || len(l.SessionID) > maxName {
			return errors.New("sid is malformed")
		}
	}
	if l.Subject == "" && l.SessionID == "" {
		return errors.New("neither sub nor sid is there")
	}
	l.ID, _ = c["jti"].(string)
	if l.ID == "" || len(l.ID) > maxName {
		return errors.New("jti is missing or malformed")
	}
	return nil
}

// tellsLogout reports whether verified or unverified claims are a logout token's,
// well-formed or not. Such a token is nothing else (section 2.4, RFC 8725 section 3.12).
func tellsLogout(c authz.Claims) bool {
	events, _ := c["events"].(map[string]any)
	_, there := events[logoutEvent]
	return there
}
