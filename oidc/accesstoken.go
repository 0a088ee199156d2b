package oidc

import (
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// The dates of a token are those it says, but we do not take it that long.
var (
	errTooOld    = errors.New("the token was issued longer ago than allowed, or does not say when")
	errLongLived = errors.New("the token lives longer than allowed, or does not say since when")
)

// checkKind refuses what says that it is something else than an access token (a
// logout token, a DPoP proof): RFC 8725 section 3.11.
func (v *Verifier) checkKind(t *signedToken) error {
	if !t.typed("jwt", "at+jwt") {
		return fmt.Errorf("typ %.40q is not an access token's", t.typ)
	}
	if tellsLogout(t.claims) {
		return errors.New("a logout token is no access token")
	}
	if v.cfg.RFC9068 {
		return checkProfile(t)
	}
	return nil
}

// checkProfile applies RFC 9068: the type of section 4, which says what is not
// typed is no access token, and the claims that section 2.2 requires. iss, aud and
// sub are required anyway and looked at elsewhere.
func checkProfile(t *signedToken) error {
	if t.typ == "" || !t.typed("at+jwt") {
		return fmt.Errorf("typ %.40q is not at+jwt (RFC 9068)", t.typ)
	}
	for _, name := range []string{"client_id", "jti"} {
		if s, _ := t.claims[name].(string); s == "" {
			return fmt.Errorf("%s is missing or not text (RFC 9068)", name)
		}
	}
	if _, there := t.claims["iat"]; !there {
		return errors.New("iat is missing (RFC 9068)")
	}
	return nil
}

// checkDates returns exp, and until when the token may be taken.
func (v *Verifier) checkDates(c authz.Claims) (exp, until time.Time, err error) {
	now := v.cfg.Now()
	exp, iat, err := lifetime(c, now, v.cfg.Skew)
	if err != nil {
		return exp, until, err
	}
	if v.cfg.MaxLifetime > 0 && (iat.IsZero() || exp.Sub(iat) > v.cfg.MaxLifetime) {
		return exp, until, errLongLived
	}
	until = exp.Add(v.cfg.Skew)
	if v.cfg.MaxAge == 0 {
		return exp, until, nil
	}
	old := iat.Add(v.cfg.MaxAge + v.cfg.Skew)
	if iat.IsZero() || !now.Before(old) {
		return exp, until, errTooOld
	}
	if old.Before(until) {
		until = old
	}
	return exp, until, nil
}
