package oidc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	maxToken = 16 << 10
	maxKID   = 256
)

// signedToken is a JWS in compact serialisation (RFC 7515 section 7.1), taken
// apart strictly. Nothing in it has been verified.
type signedToken struct {
	alg, kid, typ string // kid and typ may be empty
	signed        string // what the signature covers
	claims        authz.Claims
	signature     []byte
}

// parseToken is the one front door for tokens, ID tokens and bearer tokens
// alike. It is stricter than any JOSE library: one spelling per token (a cache
// and a list of endings key on it), no JSON serialisation, no encryption, no
// critical extensions, no repeated members. jku, x5u, jwk and x5c are never
// looked at.
func parseToken(raw string) (*signedToken, error) {
	t, payload, err := parseCompact(raw)
	if err != nil {
		return nil, err
	}
	if t.claims, err = authz.ParseClaims(payload); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return t, nil
}

// parseCompact is parseToken for any payload.
func parseCompact(raw string) (t *signedToken, payload []byte, err error) {
	if len(raw) > maxToken {
		return nil, nil, errors.New("the token is larger than 16 KiB")
	}
	header, rest, _ := strings.Cut(raw, ".")
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(signature, '.') >= 0 {
		return nil, nil, errors.New("the token does not have three segments")
	}
	t = &signedToken{signed: raw[:len(header)+1+len(body)]}
	if t.signature, err = segment(signature); err != nil {
		return nil, nil, fmt.Errorf("signature: %w", err)
	}
	if err := t.readHeader(header); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if payload, err = segment(body); err != nil {
		return nil, nil, fmt.Errorf("payload: %w", err)
	}
	return t, payload, nil
}

// segment decodes base64url without padding in its only canonical form. The
// library skips line breaks, hence the look at every character.
func segment(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("the segment is empty")
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '_' {
			return nil, errors.New("the segment is not base64url without padding")
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("the segment is not canonical base64url")
	}
	return b, nil
}

// readHeader applies RFC 7515 section 4 and RFC 8725 section 3.
func (t *signedToken) readHeader(s string) error {
	b, err := segment(s)
	if err != nil {
		return err
	}
	h, err := authz.ParseClaims(b)
	if err != nil {
		return err
	}
	// Extensions that must be understood (section 4.1.11, RFC 7797), compression
	// and encryption: we understand none.
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := h[name]; ok {
			return fmt.Errorf("member %q is not supported", name)
		}
	}
	var ok bool
	if t.alg, ok = h["alg"].(string); !ok {
		return errors.New("alg is missing or not a string")
	}
	if t.kid, ok = optionalString(h, "kid"); !ok || len(t.kid) > maxKID {
		return errors.New("kid is not a string of at most 256 bytes")
	}
	if t.typ, ok = optionalString(h, "typ"); !ok {
		return errors.New("typ is not a string")
	}
	return nil
}

// typed reports whether typ is absent or one of types, which are lower case
// (RFC 7515 section 4.1.9, RFC 9068 section 4).
func (t *signedToken) typed(types ...string) bool {
	if t.typ == "" {
		return true
	}
	typ := lower(t.typ)
	typ = strings.TrimPrefix(typ, "application/")
	for _, want := range types {
		if typ == want {
			return true
		}
	}
	return false
}

func optionalString(c authz.Claims, name string) (s string, ok bool) {
	v, there := c[name]
	if !there {
		return "", true
	}
	s, ok = v.(string)
	return s, ok
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// lower folds ASCII only: Unicode folding would make a Kelvin sign a k.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
