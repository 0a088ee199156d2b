package session

import (
	"context"
	"time"
)

// Store keeps records of opaque bytes. Its methods are safe for concurrent use and
// atomic: a reader sees a record whole or not at all. A record that is certainly not
// there is ErrNotFound; every other error means "cannot tell". Package sessiontest
// checks an implementation.
//
// Time is given as durations and measured by the store's own clock, so that the
// clocks of replicas never lengthen a life.
type Store interface {
	// Create writes r's index entries, then its record, then its mark, in this
	// order: what exists can be found, and what is marked exists. It returns the
	// value that the mark holds. When that is not r.MarkValue, the mark was taken
	// before and the record is not kept. ErrFull: no record was kept. After another
	// error any part may have been written. Handles are random and never come twice.
	Create(ctx context.Context, r NewRecord) (mark []byte, err error)

	// Load returns the fields of a record that are asked for, and how long it still
	// lives unless touched. One round trip. The record must not be changed.
	Load(ctx context.Context, h Handle, f Fields) (r Record, left time.Duration, err error)

	// Touch lets a record live for idle from now on, but never past its absolute
	// end. It never makes a record: ErrNotFound.
	Touch(ctx context.Context, h Handle, idle time.Duration) error

	// End removes a record and tells the other replicas. Nil, also when there was
	// none, means that no Load from now on finds it. Taking it out of the index is
	// best effort: entries end by themselves.
	End(ctx context.Context, h Handle, index []string) error

	// Marked returns the value of a mark, or ErrNotFound.
	Marked(ctx context.Context, name string) ([]byte, error)
}

// Record is one session as a store sees it.
type Record struct {
	Handle   Handle
	Version  string // "FORMAT.REVISION", decimal
	Identity []byte // field i
	Tokens   []byte // field t
	Summary  []byte // field m
}

// Fields says which fields of a record to load; its version always comes along.
type Fields byte

// The fields of a record.
const (
	FieldIdentity Fields = 1 << iota
	FieldTokens
	FieldSummary
)

// NewRecord is a record to be created.
type NewRecord struct {
	Record
	Idle     time.Duration // how long it lives without a Touch
	Absolute time.Duration // how long it lives at most, at least Idle
	Index    []string      // sets that list this session, by its Handle, until its absolute end

	Mark      string // a name that only the first to come gets
	MarkValue []byte
	MarkLife  time.Duration
}
