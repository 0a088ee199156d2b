package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	maxIssued   = 64 << 10                  // bytes of an access or refresh token
	maxLifetime = 10 * 365 * 24 * time.Hour // of an access token; more is nonsense

	// defaultLifetime is that of a renewed access token whose answer does not say.
	// Asking too early costs a call, asking too late costs a forwarded token.
	defaultLifetime = 5 * time.Minute
)

// tokens are a token response (RFC 6749 section 5.1, OpenID Connect Core 1.0
// section 3.1.3.3), checked.
type tokens struct {
	access, refresh, id string        // refresh may be empty; after a refresh, id too
	lifetime            time.Duration // of access; zero: unknown
}

// parseTokens reads the answer to a code, where nothing is excused: there is no
// session yet that could be lost.
func parseTokens(body []byte) (*tokens, error) {
	doc, access, err := parseAnswer(body)
	if err != nil {
		return nil, err
	}
	t := &tokens{access: access}
	if t.refresh, err = issued(doc, "refresh_token", maxIssued); err != nil {
		return nil, err
	}
	t.id, err = issued(doc, "id_token", maxToken)
	if err == nil && t.id == "" {
		err = errors.New("id_token is missing")
	}
	if err != nil {
		return nil, err
	}
	t.lifetime, err = expiresIn(doc)
	return t, err
}

// parseRenewal reads the answer to a refresh token (RFC 6749 section 6, OpenID
// Connect Core 1.0 section 12.2). The old refresh token may be void by now, so
// that whatever we can do without must not lose the new one: refresh_token and
// id_token may be left out, and an unreadable expires_in says nothing. Only an ID
// token that is no text is refused, as a forged one is. Errors wrap ErrUnavailable
// or ErrRejected.
func parseRenewal(body []byte) (*tokens, error) {
	doc, access, err := parseAnswer(body)
	if err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, err)
	}
	t := &tokens{access: access}
	// One that cannot be read is none: the old one is then the best we have.
	t.refresh, _ = issued(doc, "refresh_token", maxIssued)
	if v := doc["id_token"]; v != nil {
		var ok bool
		if t.id, ok = v.(string); !ok {
			return nil, fmt.Errorf("%w: token endpoint: id_token is not a string", ErrRejected)
		}
	}
	if t.lifetime, err = expiresIn(doc); err != nil || t.lifetime == 0 {
		t.lifetime = defaultLifetime
	}
	return t, nil
}

// parseAnswer reads what every token response must have.
func parseAnswer(body []byte) (doc authz.Claims, access string, err error) {
	doc, err = authz.ParseClaims(body)
	if err != nil {
		return nil, "", fmt.Errorf("answer: %w", err)
	}
	if typ, _ := doc["token_type"].(string); lower(typ) != "bearer" {
		return nil, "", errors.New("token_type is not Bearer")
	}
	access, err = issued(doc, "access_token", maxIssued)
	if err == nil && access == "" {
		err = errors.New("access_token is missing")
	}
	return doc, access, err
}

// issued is a token of the answer, or empty when there is none.
func issued(doc authz.Claims, name string, limit int) (string, error) {
	s, ok := optionalString(doc, name)
	if !ok {
		return "", fmt.Errorf("%s is not a string", name)
	}
	if len(s) > limit || !visible(s) {
		return "", fmt.Errorf("%s is larger than %d KiB or not visible ASCII", name, limit>>10)
	}
	return s, nil
}

// expiresIn takes a number of seconds. Zero says as little as nothing.
func expiresIn(doc authz.Claims) (time.Duration, error) {
	v, there := doc["expires_in"]
	if !there {
		return 0, nil
	}
	n, _ := v.(json.Number)
	seconds, err := n.Int64()
	if err != nil || seconds < 0 || seconds > int64(maxLifetime/time.Second) {
		return 0, errors.New("expires_in is not a sane number of seconds")
	}
	return time.Duration(seconds) * time.Second, nil
}

// visible accepts VSCHAR (RFC 6749 appendix A), which tokens are made of.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
