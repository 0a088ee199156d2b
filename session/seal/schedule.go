package seal

import "time"

// Duty is what one key of a ring does, and when, as long as no key comes or goes.
type Duty struct {
	ID      string
	Created time.Time
	From    time.Time // it seals from here on; zero: it is the oldest, which seals until another key may
	Until   time.Time // a newer key seals from here on; zero: there is no newer key. Not after From: it never seals
	Keep    time.Time // what it sealed may be in use until here; zero: not decided, it is the newest
	Seals   bool      // it seals now
	Spare   bool      // Keep is over: its file may be removed
}

// Schedule returns the duties of the ring's keys, newest key first. A session lives for
// absolute at most, so that a key must stay that long after a newer one began to seal.
//
// arrived says when a key came to the replicas, at the latest: one that came later than its
// activation began to seal only then, and the key before it has to stay longer. Counting
// from creation alone would let it go while it is needed. nil: all came in time.
func (r *Ring) Schedule(absolute time.Duration, arrived func(id string) time.Time) []Duty {
	g, now := r.current.Load(), r.now()
	duties := make([]Duty, len(g.keys))
	var newer time.Time // when the first of the newer keys began to seal
	for i, k := range g.keys {
		begin := k.Created.Add(r.activation)
		d := Duty{ID: k.ID, Created: k.Created, Until: newer}
		if i < len(g.keys)-1 {
			d.From = begin
		}
		if i > 0 {
			d.Keep = newer.Add(absolute)
			d.Spare = !now.Before(d.Keep)
		}
		duties[i] = d
		if arrived != nil {
			if at := arrived(k.ID); at.After(begin) {
				begin = at
			}
		}
		if i == 0 || begin.Before(newer) {
			newer = begin
		}
	}
	duties[r.sealing(g)].Seals = true
	return duties
}
