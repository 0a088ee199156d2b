package session

import (
	"context"
	"time"
)

// Store keeps records of opaque bytes and small notes. Its methods are safe for
// concurrent use and atomic: a reader sees a record whole or not at all. What is
// certainly not there is ErrNotFound; every other error means "cannot tell". Package
// sessiontest checks an implementation.
//
// Time is given as durations and measured by the store's own clock, so that the
// clocks of replicas never lengthen a life.
type Store interface {
	Records
	Notes

	// Watch tells w of sessions that end, here or at another replica, until ctx
	// ends; then it returns nil.
	Watch(ctx context.Context, w Watcher) error
}

// Records are sessions and the index that finds those of one user.
type Records interface {
	// Create writes r's index entries, then its record, then its mark, in this
	// order: what exists can be found, and what is marked exists. It returns the
	// value that the mark holds. When that is not r.MarkValue, the mark was taken
	// before and the record is not kept. ErrFull: no record was kept. After another
	// error any part may have been written. Handles are random and never come twice.
	Create(ctx context.Context, r NewRecord) (mark []byte, err error)

	// Load returns the fields of a record that are asked for, and how long it still
	// lives unless touched. One round trip. The record must not be changed.
	Load(ctx context.Context, h Handle, f Fields) (r Record, left time.Duration, err error)

	// Replace writes r's version, identity and tokens over a record of version have;
	// summary and life stay. It never makes a record: ErrNotFound. ErrConflict: the
	// record has another version and is left alone. Writing again what is there
	// already is nil, so that a call whose answer was lost can be repeated.
	Replace(ctx context.Context, r Record, have string) error

	// Touch lets a record live for idle from now on, but never past its absolute
	// end. It never makes a record: ErrNotFound.
	Touch(ctx context.Context, h Handle, idle time.Duration) error

	// End removes a record and tells every Watcher. Nil, also when there was
	// none, means that no Load from now on finds it. Taking it out of the index is
	// best effort: entries end by themselves.
	End(ctx context.Context, h Handle, index []string) error

	// List returns the handles in the given index sets, each once. Some may have
	// ended already. Sets that are not there are empty.
	List(ctx context.Context, index []string) ([]Handle, error)
}

// Notes are small values that end by themselves. A name begins with the letter of its
// kind and a colon; a name in braces decides the slot on a Cluster.
type Notes interface {
	// Put keeps value under name for life, unless the name is taken, and returns the
	// value that it holds then. When that is value, its life has begun again.
	Put(ctx context.Context, name string, value []byte, life time.Duration) (held []byte, err error)

	// Raise keeps the greater of value and what name holds, for life from now on.
	// Values are decimal digits, all of the same length.
	Raise(ctx context.Context, name string, value []byte, life time.Duration) error

	// Get returns the value of a note, or ErrNotFound.
	Get(ctx context.Context, name string) ([]byte, error)

	// Take removes a note and returns its value; of several callers one gets it,
	// the others ErrNotFound.
	Take(ctx context.Context, name string) ([]byte, error)

	// Drop removes a note if it holds value.
	Drop(ctx context.Context, name string, value []byte) error
}

// Watcher is told of endings. Its functions must not block; they may be called at
// the same time.
type Watcher struct {
	// Ended: this session has ended. It may be told more than once.
	Ended func(Handle)

	// Alive(true): from now on every ending is told, promptly. Alive(false): endings
	// may have been lost, and may go on being lost. Before the first call nothing is
	// told. Alive(true) twice in a row means that some may have been lost in between.
	Alive func(bool)
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
	Absolute time.Duration // how long it lives at most; may be less than Idle
	Index    []string      // sets that list this session, by its Handle, until its absolute end

	Mark      string // name of a note that only the first to come gets
	MarkValue []byte
	MarkLife  time.Duration
}
