package session

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// defaultMemory is the limit of a Memory in bytes.
const defaultMemory = 64 << 20

// Rough cost of an entry beside its bytes: structs, map cell, place in the heap.
const (
	recordOverhead = 640
	noteOverhead   = 320
)

// Memory is a Store in this process: for one replica, and for trying things out.
// Sessions end with the process. It is bounded by bytes; when full it refuses new
// sessions with ErrFull and never drops a live one.
type Memory struct {
	max int64

	mu       sync.Mutex // guards what follows
	records  map[Handle]*entry
	notes    map[string]*entry
	index    map[string]map[Handle]bool // of records; a set without any is not there
	byEnd    byEnd
	used     int64
	watchers map[*Watcher]bool
}

// entry is a record or a note. Its time has a monotonic reading, so setting the
// system's clock neither ends nor revives anything.
type entry struct {
	record Record   // of a record
	index  []string // of a record: the sets that list it
	note   string   // name of a note
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
	return &Memory{
		max: maxBytes, records: map[Handle]*entry{}, notes: map[string]*entry{},
		index: map[string]map[Handle]bool{}, watchers: map[*Watcher]bool{},
	}
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

// Create implements Records. All parts are kept or none.
func (m *Memory) Create(_ context.Context, r NewRecord) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.purge(now)
	if taken, ok := m.notes[r.Mark]; ok {
		return taken.value, nil
	}
	if _, ok := m.records[r.Handle]; ok {
		return nil, errors.New("session record exists")
	}
	record := &entry{record: r.clone(), index: slices.Clone(r.Index), until: now.Add(min(r.Idle, r.Absolute)), end: now.Add(r.Absolute)}
	record.size = record.bytes()
	mark := newNote(r.Mark, r.MarkValue, now.Add(r.MarkLife))
	if m.used+record.size+mark.size > m.max {
		return nil, ErrFull
	}
	m.records[r.Handle], m.notes[r.Mark] = record, mark
	for _, name := range r.Index {
		if m.index[name] == nil {
			m.index[name] = map[Handle]bool{}
		}
		m.index[name][r.Handle] = true
	}
	m.add(record)
	m.add(mark)
	return mark.value, nil
}

// Load implements Records.
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

// Touch implements Records.
func (m *Memory) Touch(_ context.Context, h Handle, idle time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	e, ok := m.records[h]
	if !ok || !now.Before(e.until) {
		return ErrNotFound
	}
	until := now.Add(idle)
	if e.end.Before(until) {
		until = e.end
	}
	m.extend(e, until)
	return nil
}

// Replace implements Records.
func (m *Memory) Replace(_ context.Context, r Record, have string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.records[r.Handle]
	switch {
	case !ok || !time.Now().Before(e.until):
		return ErrNotFound
	case e.record.Version == r.Version && bytes.Equal(e.record.Identity, r.Identity):
		return nil
	case e.record.Version != have:
		return ErrConflict
	}
	r = r.clone()
	r.Summary = e.record.Summary
	m.used -= e.size
	e.record = r
	e.size = e.bytes() // it may pass the limit: a live session is not lost for that
	m.used += e.size
	return nil
}

// End implements Records.
func (m *Memory) End(_ context.Context, h Handle, _ []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.records[h]; ok {
		m.remove(e)
	}
	for w := range m.watchers {
		w.Ended(h)
	}
	return nil
}

// List implements Records.
func (m *Memory) List(_ context.Context, index []string) ([]Handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[Handle]bool{}
	for _, name := range index {
		maps.Copy(found, m.index[name])
	}
	return slices.Collect(maps.Keys(found)), nil
}

// Put implements Notes.
func (m *Memory) Put(_ context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.purge(now)
	if e, ok := m.notes[name]; ok {
		if bytes.Equal(e.value, value) {
			m.extend(e, now.Add(life))
		}
		return e.value, nil
	}
	return m.keep(newNote(name, value, now.Add(life)))
}

// Raise implements Notes.
func (m *Memory) Raise(_ context.Context, name string, value []byte, life time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.purge(now)
	if e, ok := m.notes[name]; ok {
		if bytes.Compare(e.value, value) < 0 {
			e.value = bytes.Clone(value)
		}
		m.extend(e, now.Add(life))
		return nil
	}
	_, err := m.keep(newNote(name, value, now.Add(life)))
	return err
}

// Get implements Notes.
func (m *Memory) Get(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.notes[name]
	if !ok || !time.Now().Before(e.until) {
		return nil, ErrNotFound
	}
	return e.value, nil
}

// Take implements Notes.
func (m *Memory) Take(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.notes[name]
	if !ok || !time.Now().Before(e.until) {
		return nil, ErrNotFound
	}
	m.remove(e)
	return e.value, nil
}

// Drop implements Notes.
func (m *Memory) Drop(_ context.Context, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.notes[name]; ok && bytes.Equal(e.value, value) {
		m.remove(e)
	}
	return nil
}

// Watch implements Store. Nothing is ever lost on the way.
func (m *Memory) Watch(ctx context.Context, w Watcher) error {
	m.mu.Lock()
	m.watchers[&w] = true
	m.mu.Unlock()
	w.Alive(true)
	<-ctx.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers, &w)
	return nil
}

func newNote(name string, value []byte, until time.Time) *entry {
	return &entry{note: name, value: bytes.Clone(value), until: until, size: noteOverhead + int64(len(name)+len(value))}
}

// keep adds a note. Beyond the limit there is some room for notes alone: sessions that
// are there need them to be renewed. m.mu is held.
func (m *Memory) keep(e *entry) ([]byte, error) {
	if m.used+e.size > m.max+m.max/16 {
		return nil, ErrFull
	}
	m.notes[e.note] = e
	m.add(e)
	return e.value, nil
}

// extend moves the end of an entry. m.mu is held.
func (m *Memory) extend(e *entry, until time.Time) {
	e.until = until
	heap.Fix(&m.byEnd, e.at)
}

func (e *entry) bytes() int64 {
	n := recordOverhead + len(e.record.Version) + len(e.record.Identity) + len(e.record.Tokens) + len(e.record.Summary)
	for _, name := range e.index {
		n += len(name) + 64
	}
	return int64(n)
}

func (m *Memory) add(e *entry) {
	heap.Push(&m.byEnd, e)
	m.used += e.size
}

func (m *Memory) remove(e *entry) {
	heap.Remove(&m.byEnd, e.at)
	m.used -= e.size
	if e.note != "" {
		delete(m.notes, e.note)
		return
	}
	delete(m.records, e.record.Handle)
	for _, name := range e.index {
		if delete(m.index[name], e.record.Handle); len(m.index[name]) == 0 {
			delete(m.index, name)
		}
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

// byEnd is a heap of entries by their end (container/heap).
type byEnd []*entry

func (h byEnd) Len() int           { return len(h) }
func (h byEnd) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h byEnd) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *byEnd) Push(x any) {
	e := x.(*entry)
	e.at = len(*h)
	*h = append(*h, e)
}

func (h *byEnd) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
