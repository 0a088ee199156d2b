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
