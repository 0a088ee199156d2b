package session

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultCache = 64 << 20
	shards       = 64
	maxProof     = 5 * time.Second // how long one round trip to the store counts
	deadLife     = 5 * time.Minute
	deadPerShard = 1024
)

// cache keeps opened sessions in this process, so that most requests cost no round
// trip, and sessions that are known to be over, so that old cookies cost none either.
//
// It is bounded by bytes: what is used moves to the young half of its shard, and when
// that is full the old half is forgotten.
type cache struct {
	half    int64        // bytes of half a shard; zero: no session is kept
	alive   atomic.Bool  // endings are told promptly; without, every session is proven anew
	epoch   atomic.Int64 // moves on when endings may have been lost: what was proven before counts no more
	changed moment       // when endings may have been lost last
	shard   [shards]shard
}

type shard struct {
	mu         sync.RWMutex // guards all below
	young, old map[Handle]*cached
	bytes      int64 // of young
	oldBytes   int64 // of old
	endings    int64 // how often a session of this shard ended: a fill does not cross it
	dead       map[Handle]time.Time
	graves     []Handle // of dead, in the order of arrival, overwritten in turn
	next       int
}

// cached is a session with the proof that it lived.
type cached struct {
	session *Session
	proven  time.Time // before the round trip began
	fresh   time.Time // the proof counts until then
	epoch   int64
	cost    int64
}

// ticket is taken before a round trip and shown with its result.
type ticket struct{ epoch, endings int64 }

func newCache(bytes int64) *cache {
	if bytes == 0 {
		bytes = defaultCache
	}
	c := &cache{half: max(bytes, 0) / shards / 2}
	for i := range c.shard {
		c.shard[i].young, c.shard[i].dead = map[Handle]*cached{}, map[Handle]time.Time{}
	}
	return c
}

func (c *cache) of(h Handle) *shard { return &c.shard[h[0]%shards] }

// find returns what is known: a session with its last proof, or that it is over.
func (c *cache) find(h Handle, now time.Time) (e *cached, over bool) {
	s := c.of(h)
	s.mu.RLock()
	e, inOld := s.young[h], false
	if e == nil {
		e = s.old[h]
		inOld = e != nil
	}
	until, dead := s.dead[h]
	s.mu.RUnlock()
	if dead && now.Before(until) {
		return nil, true
	}
	if inOld {
		s.mu.Lock()
		if s.old[h] == e {
			s.keep(h, e, c.half)
		}
		s.mu.Unlock()
	}
	return e, false
}

// over reports whether a session is known to be over.
func (c *cache) over(h Handle, now time.Time) bool {
	s := c.of(h)
	s.mu.RLock()
	defer s.mu.RUnlock()
	until, dead := s.dead[h]
	return dead && now.Before(until)
}

// counts reports whether the proof of e is enough for a request at now.
func (c *cache) counts(e *cached, now time.Time) bool {
	return c.alive.Load() && e.epoch == c.epoch.Load() && now.Before(e.fresh)
}

func (c *cache) ticket(h Handle) ticket {
	s := c.of(h)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return ticket{c.epoch.Load(), s.endings}
}

// put keeps a session that a round trip begun at proven has found alive, unless one of
// its shard has ended since t was taken. The time that a proof counts is jittered, and
// a little shorter than maxProof, which leaves room for the round trip that ends it.
func (c *cache) put(s *Session, proven time.Time, t ticket) {
	e := &cached{session: s, proven: proven, epoch: t.epoch, cost: s.cost()}
	e.fresh = proven.Add(maxProof*3/4 + maxProof/5*time.Duration(s.Handle[1])/256)
	if e.cost > c.half {
		return
	}
	at := c.of(s.Handle)
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.endings == t.endings {
		at.keep(s.Handle, e, c.half)
	}
}

// keep puts e into the young half. s.mu is held.
func (s *shard) keep(h Handle, e *cached, half int64) {
	s.forget(h)
	if s.bytes+e.cost > half {
		s.old, s.oldBytes, s.young, s.bytes = s.young, s.bytes, map[Handle]*cached{}, 0
	}
	s.young[h] = e
	s.bytes += e.cost
}

func (s *shard) forget(h Handle) {
	if e := s.young[h]; e != nil {
		s.bytes -= e.cost
		delete(s.young, h)
	}
	if e := s.old[h]; e != nil {
		s.oldBytes -= e.cost
		delete(s.old, h)
	}
}

// bury remembers that a session is over, for a while and boundedly.
func (c *cache) bury(h Handle, now time.Time) {
	s := c.of(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(h)
	s.endings++
	if _, known := s.dead[h]; !known {
		if len(s.graves) < deadPerShard {
			s.graves = append(s.graves, h)
		} else {
			delete(s.dead, s.graves[s.next])
			s.graves[s.next] = h
			s.next = (s.next + 1) % deadPerShard
		}
	}
	s.dead[h] = now.Add(deadLife)
}

// feed is told whether endings arrive. What was proven before a change counts no more.
func (c *cache) feed(alive bool, now time.Time) {
	c.alive.Store(alive)
	if c.epoch.Add(1) > 1 {
		c.changed.set(now)
	}
}

// unsettled reports whether the feed is down, or came back less than d before now.
func (c *cache) unsettled(now time.Time, d time.Duration) bool {
	return c.epoch.Load() > 0 && !c.alive.Load() || c.changed.within(now, d)
}

// Cached says how many sessions the local cache holds, what they are accounted for,
// and whether it is in use: whether endings are told.
func (m *Manager) Cached() (held int, bytes int64, alive bool) {
	for i := range m.cache.shard {
		s := &m.cache.shard[i]
		s.mu.RLock()
		held += len(s.young) + len(s.old)
		bytes += s.bytes + s.oldBytes
		s.mu.RUnlock()
	}
	return held, bytes, m.cache.alive.Load()
}

// cost is about what a session takes in memory: parsed claims are several times their
// text (see BenchmarkCachedSession).
func (s *Session) cost() int64 {
	n := int64(700) + 4*int64(s.size)
	if t := s.Tokens; t != nil {
		n += int64(len(t.Access) + len(t.Refresh) + len(t.ID) + 256)
	}
	return n
}
