package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// maxIDTokenSubject: "It MUST NOT exceed 255 ASCII characters in length"
// (OpenID Connect Core 1.0 section 2).
const maxIDTokenSubject = 255

// verifyIDToken makes the checks of OpenID Connect Core 1.0 section 3.1.3.7, in
// its order as far as cheap ones can come first. go-oidc leaves azp, iat, typ
// and an empty sub to its caller. Errors wrap ErrUnavailable or ErrRejected.
func (p *Provider) verifyIDToken(ctx context.Context, raw, nonce, accessToken string) (authz.Claims, error) {
	t, err := parseToken(raw)
	if err == nil {
		err = p.checkIDToken(t, nonce, accessToken)
	}
	if err == nil {
		// (6) and (7): by a key of this provider, with a configured algorithm. A
		// MAC under the client secret (8) is never accepted.
		_, err = t.verify(ctx, p.keys, p.cfg.Client.Algorithms)
	}
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: ID token: %w", ErrRejected, err)
	}
	return t.claims, nil
}

// checkIDToken looks at claims whose signature verifyIDToken then checks: they
// are refused here or believed there, and used for nothing in between.
func (p *Provider) checkIDToken(t *signedToken, nonce, accessToken string) error {
	if err := p.checkStatement(t, accessToken); err != nil {
		return err
	}
	now := p.now()
	if _, _, err := lifetime(t.claims, now, p.cfg.Skew); err != nil { // (9), (10)
		return err
	}
	// (11): one is always sent.
	got, _ := t.claims["nonce"].(string)
	if nonce == "" || subtle.ConstantTimeCompare([]byte(got), []byte(nonce)) != 1 {
		return errors.New("nonce is not the one that was sent")
	}
	return p.checkAuthTime(t.claims, now) // (13)
}

// checkStatement makes the checks that ID tokens of a login and of a refresh share:
// this provider states, to us, who somebody is.
func (p *Provider) checkStatement(t *signedToken, accessToken string) error {
	// RFC 8725 section 3.11: an access token or logout token is no ID token.
	if !t.typed("jwt") {
		return fmt.Errorf("typ %.40q is not an ID token's", t.typ)
	}
	c := t.claims
	// A logout token without typ has no nonce, but neither need the ID token of a
	// refresh have one.
	if tellsLogout(c) {
		return errors.New("a logout token is no ID token")
	}
	if iss, _ := c["iss"].(string); iss != p.cfg.Issuer { // (2)
		return errors.New("iss is not the provider's")
	}
	if _, err := subject(c, maxIDTokenSubject); err != nil { // section 2
		return err
	}
	if err := p.checkParties(c); err != nil {
		return err
	}
	if iat, _, err := date(c, "iat"); err != nil {
		return err
	} else if iat.IsZero() { // section 2: required
		return errors.New("iat is missing")
	}
	return checkAccessTokenHash(t, accessToken)
}

// checkParties applies (3), (4) and (5): we are in aud, other audiences only
// when azp names us as the party it was issued to.
func (p *Provider) checkParties(c authz.Claims) error {
	aud, err := audience(c)
	if err != nil {
		return err
	}
	if !slices.Contains(aud, p.cfg.Client.ID) {
		return errors.New("aud does not name this client")
	}
	azp, there := c["azp"]
	if there && azp != p.cfg.Client.ID || !there && len(aud) > 1 {
		return errors.New("azp does not name this client")
	}
	return nil
}

func (p *Provider) checkAuthTime(c authz.Claims, now time.Time) error {
	at, there, err := date(c, "auth_time")
	switch {
	case err != nil:
		return err
	case p.cfg.Client.MaxAge == 0:
		return nil
	case !there:
		return errors.New("auth_time is missing, though max_age was sent")
	case now.Sub(at) > p.cfg.Client.MaxAge+p.cfg.Skew:
		return errors.New("the sign-in at the provider is older than max_age")
	}
	return nil
}

// checkAccessTokenHash applies section 3.1.3.8: at_hash, when there, is the left
// half of the access token's hash.
func checkAccessTokenHash(t *signedToken, accessToken string) error {
	v, there := t.claims["at_hash"]
	if !there {
		return nil
	}
	a, ok := algorithmNamed(t.alg)
	if !ok {
		return errors.New("at_hash can not be checked")
	}
	h := a.hash.New()
	h.Write([]byte(accessToken))
	sum := h.Sum(nil)
	if v != base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2]) {
		return errors.New("at_hash is not the access token's")
	}
	return nil
}
