package login

import (
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

const (
	maxGraves = 8192
	graveLife = 5 * time.Minute
)

// graveyard is a bounded set of sessions known to be over, so that a browser that
// keeps sending an old cookie does not reach the store each time.
type graveyard struct {
	mu    sync.Mutex // guards all below
	until map[session.Handle]time.Time
	ring  [maxGraves]session.Handle // in the order of arrival, overwritten in turn
	next  int
}

func newGraveyard() *graveyard {
	return &graveyard{until: make(map[session.Handle]time.Time)}
}

func (g *graveyard) add(h session.Handle, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.until[h]; !known {
		delete(g.until, g.ring[g.next])
		g.ring[g.next] = h
		g.next = (g.next + 1) % maxGraves
	}
	g.until[h] = now.Add(graveLife)
}

func (g *graveyard) has(h session.Handle, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, known := g.until[h]
	return known && now.Before(until)
}
