package oidc

import (
	"context"
	"time"
)

// CacheLen is the number of identities in the cache.
func (v *Verifier) CacheLen() int {
	v.cache.mu.RLock()
	defer v.cache.mu.RUnlock()
	return len(v.cache.young) + len(v.cache.old)
}

// ParseKeys shows the strict reader of JWK Sets to its tests.
func ParseKeys(document []byte) (usable, skipped int, err error) {
	keys, skipped, err := parseKeys(document)
	return len(keys), skipped, err
}

// ParseMetadata shows the strict reader of discovery documents to its tests.
func ParseMetadata(document []byte, issuer string) ([]string, error) {
	m, err := parseMetadata(document, issuer, nil, &ClientConfig{})
	if err != nil {
		return nil, err
	}
	return []string{m.authorization, m.token, m.jwks, m.userinfo, m.endSession, m.revocation}, nil
}

// ParseTokens shows the strict reader of token responses to its tests.
func ParseTokens(body []byte) (access, id string, lifetime time.Duration, err error) {
	t, err := parseTokens(body)
	if err != nil {
		return "", "", 0, err
	}
	return t.access, t.id, t.lifetime, nil
}

// ParseRenewal shows the reader of refresh answers to its tests.
func ParseRenewal(body []byte) (access, refresh, id string, lifetime time.Duration, err error) {
	t, err := parseRenewal(body)
	if err != nil {
		return "", "", "", 0, err
	}
	return t.access, t.refresh, t.id, t.lifetime, nil
}

// LogoutEvent makes a logout token.
const LogoutEvent = logoutEvent

// Forget empties the cache.
func (v *Verifier) Forget() { v.cache = newIdentityCache(v.cfg.CacheSize) }

// Waiting is how many callers wait for a reading now.
func (r *RemoteKeys) Waiting() int {
	r.flight.mu.Lock()
	defer r.flight.mu.Unlock()
	return r.flight.waiting
}

// MaxWaiting bounds them.
const MaxWaiting = maxWaiting

// KeysOf are the keys of a JWK Set.
func KeysOf(document []byte) (*StaticKeys, error) {
	keys, _, err := parseKeys(document)
	if err != nil {
		return nil, err
	}
	return &StaticKeys{set: newKeySet(keys)}, nil
}

// VerifyCompact is the way of a bearer token up to its claims, for tokens of others
// whose payload is none.
func VerifyCompact(ctx context.Context, raw string, keys KeySource, algorithms []string) error {
	t, _, err := parseCompact(raw)
	if err != nil {
		return err
	}
	_, err = t.verify(ctx, keys, algorithms)
	return err
}

// VerifySignature is the last part of that way, for messages that are no token.
func VerifySignature(ctx context.Context, alg string, message, signature []byte, keys KeySource) error {
	t := &signedToken{alg: alg, signed: string(message), signature: signature}
	_, err := t.verify(ctx, keys, []string{alg})
	return err
}
