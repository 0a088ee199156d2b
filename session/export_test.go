package session

// Held returns how many records and marks m holds, and their accounted size.
func Held(m *Memory) (int, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.byEnd) != len(m.records)+len(m.marks) {
		panic("heap and maps differ")
	}
	return len(m.byEnd), m.used
}
