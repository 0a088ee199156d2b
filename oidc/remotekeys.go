package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultMaxStale = 24 * time.Hour

	// The time between two readings follows the document's max-age within these
	// bounds: a key that a provider takes back is gone within an hour.
	keysIntervalDefault  = 10 * time.Minute
	keysIntervalShortest = time.Minute
	keysIntervalLongest  = time.Hour

	// Readings that tokens may cause.
	bucketSize = 5
	bucketFill = 30 * time.Second
)

// RemoteKeysConfig is what RemoteKeys work with.
type RemoteKeysConfig struct {
	URL  string       // of the JWK Set: https, or http on a loopback name
	HTTP *http.Client // its transport is used, within the limits of this package; nil: http.DefaultTransport
	// Token is sent as bearer token with every reading and asked for anew each time; nil: none.
	Token    func() (string, error)
	MaxStale time.Duration    // how long keys serve after they were last read; default 24 h
	Now      func() time.Time // default time.Now
}

// RemoteKeys is a cached JWK Set. It is read ahead by Run, and once more for a
// token with an unknown kid as long as a token bucket allows (5, one more every
// 30 s), so that junk tokens cannot make us flood a provider. The last good set
// stays in use until MaxStale. Safe for concurrent use.
type RemoteKeys struct {
	client   *http.Client
	locate   func(context.Context) (string, error)
	maxStale time.Duration
	now      func() time.Time
	current  atomic.Pointer[readKeys] // nil until read
	flight   flight[*readKeys]
	token    func() (string, error) // nil: none is sent

	mu      sync.Mutex // guards the fields below
	tokens  float64
	filled  time.Time
	failure error // of the last reading
}

// readKeys is a set and the circumstances of its last reading.
type readKeys struct {
	set      *KeySet
	at       time.Time
	interval time.Duration
	skipped  int
}

// NewRemoteKeys does no I/O.
func NewRemoteKeys(cfg RemoteKeysConfig) (*RemoteKeys, error) {
	if _, err := checkAddress(cfg.URL, true); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return newRemoteKeys(cfg, func(context.Context) (string, error) { return cfg.URL, nil }), nil
}

func newRemoteKeys(cfg RemoteKeysConfig, locate func(context.Context) (string, error)) *RemoteKeys {
	r := &RemoteKeys{client: limited(cfg.HTTP), token: cfg.Token, locate: locate, maxStale: cfg.MaxStale, now: cfg.Now, tokens: bucketSize}
	if r.maxStale <= 0 {
		r.maxStale = defaultMaxStale
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Run keeps the keys fresh until ctx ends, then returns nil.
func (r *RemoteKeys) Run(ctx context.Context) error {
	keep(ctx, func(ctx context.Context) (time.Duration, error) {
		if k := r.current.Load(); k != nil {
			// A token may have had them read while we slept.
			if rest := k.interval - r.now().Sub(k.at); rest > k.interval/4 {
				return rest, nil
			}
		}
		k, _, err := r.join(ctx, false)
		if err != nil {
			return 0, err
		}
		return k.interval, nil
	})
	return nil
}

// Current implements KeySource: nil before the first reading and once the last
// one is older than MaxStale.
func (r *RemoteKeys) Current() *KeySet {
	k := r.current.Load()
	if k == nil || r.now().Sub(k.at) > r.maxStale {
		return nil
	}
	return k.set
}

// Refresh implements KeySource. Its errors wrap ErrUnavailable. A reading that
// began before the call may have missed a key that was published meanwhile, so
// that one more is waited for when it does not do.
func (r *RemoteKeys) Refresh(ctx context.Context, enough func(*KeySet) bool) (*KeySet, error) {
	before := r.flight.last()
	for {
		if set := r.Current(); set != nil && enough(set) {
			return set, nil
		}
		k, number, err := r.join(ctx, true)
		if err != nil {
			return nil, err
		}
		if number > before || enough(k.set) {
			return k.set, nil
		}
	}
}

// KeysStatus says how a key set is doing, for operators.
type KeysStatus struct {
	Read    time.Time // when it was last read well; zero: never
	Failure error     // of the last reading; nil: good, or not yet tried
	Usable  int
	Skipped int // entries of the document that are malformed or not for verifying
}

// Status does no I/O.
func (r *RemoteKeys) Status() KeysStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := KeysStatus{Failure: r.failure}
	if k := r.current.Load(); k != nil {
		s.Read, s.Usable, s.Skipped = k.at, k.set.Len(), k.skipped
	}
	return s
}

// errPanicked stands until a reading has returned.
var errPanicked = fmt.Errorf("%w: a panic while the document was read", ErrUnavailable)

var errBucketEmpty = fmt.Errorf("%w: the keys were read too often of late for tokens with unknown keys", ErrUnavailable)

// join shares one reading between all callers at the same time and returns its
// number in the flight. Only the caller that begins a paid one spends from the bucket.
func (r *RemoteKeys) join(ctx context.Context, paid bool) (*readKeys, uint64, error) {
	k, number, err := r.flight.join(ctx, func(ctx context.Context) (*readKeys, error) {
		if paid && !r.spend() {
			return nil, errBucketEmpty
		}
		return r.readAndKeep(ctx)
	})
	if err != nil {
		return nil, number, unavailable(err)
	}
	return k, number, nil
}

// readAndKeep notes how the reading went, also when it panics.
func (r *RemoteKeys) readAndKeep(ctx context.Context) (k *readKeys, err error) {
	err = errPanicked
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.failure = err; err == nil {
			r.current.Store(k)
		}
	}()
	k, err = r.read(ctx)
	return k, err
}

func (r *RemoteKeys) spend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if passed := now.Sub(r.filled); !r.filled.IsZero() && passed > 0 {
		r.tokens = min(bucketSize, r.tokens+passed.Seconds()/bucketFill.Seconds())
	}
	r.filled = now
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}

func (r *RemoteKeys) read(ctx context.Context) (*readKeys, error) {
	address, err := r.locate(ctx)
	if err != nil {
		return nil, err
	}
	a, err := document(ctx, r.client, address, r.token)
	if err != nil {
		return nil, err
	}
	keys, skipped, err := parseKeys(a.body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	k := &readKeys{at: r.now(), interval: interval(a.header), skipped: skipped}
	if before := r.current.Load(); before != nil && before.set.equal(keys) {
		k.set = before.set
	} else {
		k.set = newKeySet(keys)
	}
	return k, nil
}

// interval reads max-age (RFC 9111 section 5.2.2.1).
func interval(h http.Header) time.Duration {
	for _, line := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			age, ok := strings.CutPrefix(lower(strings.Trim(directive, " \t")), "max-age=")
			if !ok {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(age, `"`), 10, 31)
			if errors.Is(err, strconv.ErrRange) {
				return keysIntervalLongest
			}
			if err == nil {
				return min(max(time.Duration(seconds)*time.Second, keysIntervalShortest), keysIntervalLongest)
			}
		}
	}
	return keysIntervalDefault
}
