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

// Forget empties the cache of m.
func Forget(m *Manager) {
	for i := range m.cache.shard {
		s := &m.cache.shard[i]
		s.mu.Lock()
		s.young, s.old, s.bytes, s.oldBytes = map[Handle]*cached{}, map[Handle]*cached{}, 0, 0
		s.mu.Unlock()
	}
}

// Dead is how many sessions m remembers to be over. It panics when the cache of m is
// accounted wrongly, or holds one of those.
func Dead(m *Manager) (n int) {
	for i := range m.cache.shard {
		s := &m.cache.shard[i]
		s.mu.Lock()
		for _, half := range []struct {
			held  map[Handle]*cached
			bytes int64
		}{{s.young, s.bytes}, {s.old, s.oldBytes}} {
			for h, e := range half.held {
				half.bytes -= e.cost
				if _, dead := s.dead[h]; dead {
					panic("a session that is over is cached")
				}
			}
			if half.bytes != 0 {
				panic("bytes and sessions differ")
			}
		}
		n += len(s.dead)
		s.mu.Unlock()
	}
	return n
}

// Endings is how many endings m would repeat.
func Endings(m *Manager) int {
	m.endings.mu.Lock()
	defer m.endings.mu.Unlock()
	if len(m.endings.list) != len(m.endings.known) {
		panic("list and known differ")
	}
	return len(m.endings.list)
}
