package oidc

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// tokenHash names a bearer token in the cache, so that the cache holds none.
type tokenHash [sha256.Size]byte

// recognised is what a verified token said. It is never a decision: audience
// and conditions are looked at for every request.
type recognised struct {
	identity *authz.Identity
	until    time.Time
	key      signer
	cost     int
}

// identityCache keeps the identities of tokens in two halves: what is used
// moves to the young one, and when that is full the old one is forgotten. Only
// tokens that were verified get in. An entry costs one, and one more for every
// 2 KiB of its token.
type identityCache struct {
	half int

	mu         sync.RWMutex // guards the fields below
	young, old map[tokenHash]recognised
	cost       int // of young
}

func newIdentityCache(size int) *identityCache {
	return &identityCache{half: max(size/2, 1), young: map[tokenHash]recognised{}}
}

func (c *identityCache) get(h tokenHash) (recognised, bool) {
	c.mu.RLock()
	e, ok := c.young[h]
	inOld := false
	if !ok {
		e, inOld = c.old[h]
	}
	c.mu.RUnlock()
	if inOld {
		c.put(h, e)
	}
	return e, ok || inOld
}

func (c *identityCache) put(h tokenHash, e recognised) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cost+e.cost > c.half && len(c.young) > 0 {
		c.old, c.young, c.cost = c.young, map[tokenHash]recognised{}, 0
	}
	c.young[h] = e
	c.cost += e.cost
}

func (c *identityCache) drop(h tokenHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, h)
	delete(c.old, h)
}
