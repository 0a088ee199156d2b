package session

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// defaultMemory is the limit of a Memory in bytes.
const defaultMemory = 64 << 20

// Rough cost of an entry beside its bytes: structs, map cell, place in the heap.
const (
	recordOverhead = 640
	markOverhead   = 320
)

// Memory is a Store in this process: for one replica, and for trying things out.
// Sessions end with the process. It is bounded by bytes; when full it refuses new
// sessions with ErrFull and never drops a live one.
type Memory struct {
	max int64

	mu      sync.Mutex // guards what follows
	records map[Handle]*entry
	marks   map[string]*entry
	byEnd   endings
	used    int64
}

// entry is a record or a mark. Its time has a monotonic reading, so setting the
// system's clock neither ends nor revives anything.
type entry struct {
	record Record // of a record
	mark   string // of a mark
	value  []byte
	size   int64
	until  time.Time // end unless touched
	end    time.Time // end in any case
	at     int       // place in Memory.byEnd
}

// NewMemory makes a store that holds up to maxBytes; zero means 64 MiB, room for
// some 20,000 sessions.
func NewMemory(maxBytes int64) *Memory {
	if maxBytes == 0 {
		maxBytes = defaultMemory
	}
	return &Memory{max: maxBytes, records: map[Handle]*entry{}, marks: map[string]*entry{}}
}

// Run drops what has ended, every second, until ctx ends; its result is nil.
// Without it entries end all the same, but some keep their memory until the next Create.
func (m *Memory) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.mu.Lock()
			m.purge(time.Now())
			m.mu.Unlock()
		}
	}
}

// Create implements Store. All parts are kept or none.
func (m *Memory) Create(_ context.Context, r NewRecord) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.purge(now)
	if taken, ok := m.marks[r.Mark]; ok {
		return taken.value, nil
	}
	if _, ok := m.records[r.Handle]; ok {
		return nil, errors.New("session record exists")
	}
	record := &entry{record: r.clone(), until: now.Add(min(r.Idle, r.Absolute)), end: now.Add(r.Absolute)}
	record.size = recordOverhead + int64(len(r.Version)+len(r.Identity)+len(r.Tokens)+len(r.Summary))
	mark := &entry{mark: r.Mark, value: bytes.Clone(r.MarkValue), until: now.Add(r.MarkLife)}
	mark.size = markOverhead + int64(len(r.Mark)+len(r.MarkValue))
	if m.used+record.size+mark.size > m.max {
		return nil, ErrFull
	}
	m.records[r.Handle], m.marks[r.Mark] = record, mark
	m.add(record)
	m.add(mark)
	return mark.value, nil
}

// Load implements Store.
func (m *Memory) Load(_ context.Context, h Handle, f Fields) (Record, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	e, ok := m.records[h]
	if !ok || !now.Before(e.until) {
		return Record{}, 0, ErrNotFound
	}
	r := Record{Handle: h, Version: e.record.Version}
	if f&FieldIdentity != 0 {
		r.Identity = e.record.Identity
	}
	if f&FieldTokens != 0 {
		r.Tokens = e.record.Tokens
	}
	if f&FieldSummary != 0 {
		r.Summary = e.record.Summary
	}
	return r, e.until.Sub(now), nil
}

// Touch implements Store.
func (m *Memory) Touch(_ context.Context, h Handle, idle time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	e, ok := m.records[h]
	if !ok || !now.Before(e.until) {
		return ErrNotFound
	}
	e.until = now.Add(idle)
	if e.end.Before(e.until) {
		e.until = e.end
	}
	heap.Fix(&m.byEnd, e.at)
	return nil
}

// End implements Store. There is no index to clean and nobody else to tell.
func (m *Memory) End(_ context.Context, h Handle, _ []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.records[h]; ok {
		m.remove(e)
	}
	return nil
}

// Marked implements Store.
func (m *Memory) Marked(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.marks[name]
	if !ok || !time.Now().Before(e.until) {
		return nil, ErrNotFound
	}
	return e.value, nil
}

func (m *Memory) add(e *entry) {
	heap.Push(&m.byEnd, e)
	m.used += e.size
}

func (m *Memory) remove(e *entry) {
	heap.Remove(&m.byEnd, e.at)
	m.used -= e.size
	if e.mark != "" {
		delete(m.marks, e.mark)
	} else {
		delete(m.records, e.record.Handle)
	}
}

// purge drops everything that has ended.
func (m *Memory) purge(now time.Time) {
	for len(m.byEnd) > 0 && !now.Before(m.byEnd[0].until) {
		m.remove(m.byEnd[0])
	}
}

func (r Record) clone() Record {
	r.Identity, r.Tokens, r.Summary = slices.Clone(r.Identity), slices.Clone(r.Tokens), slices.Clone(r.Summary)
	return r
}

// endings is a heap of entries by their end (container/heap).
type endings []*entry

func (h endings) Len() int           { return len(h) }
func (h endings) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h endings) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *endings) Push(x any) {
	e := x.(*entry)
	e.at = len(*h)
	*h = append(*h, e)
}

func (h *endings) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
