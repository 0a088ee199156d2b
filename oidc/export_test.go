package oidc

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
