package oidc

import "time"

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
