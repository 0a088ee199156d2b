package session

// Held returns how many records and notes m holds, and their accounted size.
func Held(m *Memory) (int, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.byEnd) != len(m.records)+len(m.notes) {
		panic("heap and maps differ")
	}
	return len(m.byEnd), m.used
}

// Cached returns how many sessions the cache of m holds, and their accounted size.
func Cached(m *Manager) (n int, bytes int64) {
	for i := range m.cache.shard {
		s := &m.cache.shard[i]
		s.mu.Lock()
		for _, half := range []map[Handle]*cached{s.young, s.old} {
			for _, e := range half {
				n++
				bytes += e.cost
			}
		}
		s.mu.Unlock()
	}
	return n, bytes
}

// Forget empties the cache of m.
func Forget(m *Manager) {
	for i := range m.cache.shard {
		s := &m.cache.shard[i]
		s.mu.Lock()
		s.young, s.old, s.bytes = map[Handle]*cached{}, nil, 0
		s.mu.Unlock()
	}
}

// FeedAlive reports whether m serves from its cache.
func FeedAlive(m *Manager) bool { return m.cache.alive.Load() }
