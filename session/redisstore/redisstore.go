// Package redisstore keeps sessions in Redis, or a server that speaks its protocol.
//
// Keys, behind Config.Prefix (the part in braces decides the slot on a Cluster):
//
//	s:{HANDLE}  hash: v, i, t, m as in session.Record, e the absolute end in Redis's time
//	u:… p:…     sorted set: handle → absolute end, named by session.Manager
//	a:… c:… j:… l:… n:…  notes, named by session.Manager
//	ended       channel: the handle of each session that was ended, and nonces
//	beat        a key that is never there, for the nonces
//
// An ACL user needs ~PREFIX* &PREFIX* and +hset +hget +hmget +exists +pexpire +pttl
// +del +set +get +zadd +zrange +zrem +zremrangebyscore +publish +subscribe +time +eval
// +evalsha +ping, on a Cluster also +cluster|slots +asking, with Config.DB also +select;
// +info lets Check read the eviction policy. The user at the Sentinels needs &+switch-master &+replica-reconf-done
// +subscribe +sentinel|get-master-addr-by-name +sentinel|sentinels +ping.
package redisstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// Store is a session.Store. It is safe for concurrent use.
type Store struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // client, when it is one
	prefix  string
	lost    func(error)
}

var _ session.Store = (*Store)(nil)

// New checks cfg. Connections are made as they are needed; only MinIdle makes the
// first ones at once, in the background.
func New(cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Store{client: redis.NewUniversalClient(cfg.options()), prefix: cfg.Prefix, lost: cfg.Lost}
	if s.prefix == "" {
		s.prefix = "gh:"
	}
	s.cluster, _ = s.client.(*redis.ClusterClient)
	return s, nil
}

// Close closes all connections.
func (s *Store) Close() error { return s.client.Close() }

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error { return classify(s.client.Ping(ctx).Err()) }

// Create implements session.Records.
func (s *Store) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	idle, absolute, handle := millis(r.Idle), millis(r.Absolute), r.Handle.String()
	for _, name := range r.Index {
		if err := addIndex.Run(ctx, s.client, []string{s.prefix + name}, absolute, handle).Err(); err != nil {
			return nil, classify(err)
		}
	}
	err := createRecord.Run(ctx, s.client, []string{s.record(r.Handle)}, idle, absolute, r.Version, r.Identity, r.Tokens, r.Summary).Err()
	if err != nil {
		return nil, classify(err)
	}
	mark, err := put.Run(ctx, s.client, []string{s.prefix + r.Mark}, r.MarkValue, millis(r.MarkLife)).Text()
	if err != nil {
		return nil, classify(err)
	}
	if mark != string(r.MarkValue) { // taken; nobody has heard of our record yet
		if err := s.client.Del(ctx, s.record(r.Handle)).Err(); err != nil {
			return nil, classify(err)
		}
		s.unlist(ctx, handle, r.Index)
	}
	return []byte(mark), nil
}

// Load implements session.Records.
func (s *Store) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	r := session.Record{Handle: h}
	names, into := []string{"v"}, []*[]byte{nil}
	want := func(field session.Fields, name string, dst *[]byte) {
		if f&field != 0 {
			names, into = append(names, name), append(into, dst)
		}
	}
	want(session.FieldIdentity, "i", &r.Identity)
	want(session.FieldTokens, "t", &r.Tokens)
	want(session.FieldSummary, "m", &r.Summary)

	pipe := s.client.Pipeline()
	fields, ttl := pipe.HMGet(ctx, s.record(h), names...), pipe.PTTL(ctx, s.record(h))
	if _, err := pipe.Exec(ctx); err != nil {
		return session.Record{}, 0, classify(err)
	}
	left := ttl.Val()
	if left == -2 || left == 0 { // no such key, perhaps since a moment ago
		return session.Record{}, 0, session.ErrNotFound
	}
	if left < 0 {
		return session.Record{}, 0, fmt.Errorf("%w: it has no end", session.ErrDamaged)
	}
	for i, value := range fields.Val() {
		text, ok := value.(string)
		if i == 0 && ok {
			r.Version = text
		} else if ok {
			*into[i] = []byte(text)
		} else {
			return session.Record{}, 0, fmt.Errorf("%w: field %s is missing", session.ErrDamaged, names[i])
		}
	}
	return r, left, nil
}

// Touch implements session.Records.
func (s *Store) Touch(ctx context.Context, h session.Handle, idle time.Duration) error {
	n, err := touch.Run(ctx, s.client, []string{s.record(h)}, millis(idle)).Int()
	switch {
	case err != nil:
		return classify(err)
	case n < 0:
		return fmt.Errorf("%w: its absolute end is missing", session.ErrDamaged)
	case n == 0:
		return session.ErrNotFound
	}
	return nil
}

// End implements session.Records.
func (s *Store) End(ctx context.Context, h session.Handle, index []string) error {
	handle := h.String()
	if err := end.Run(ctx, s.client, []string{s.record(h)}, s.channel(), handle).Err(); err != nil {
		return classify(err)
	}
	s.unlist(ctx, handle, index)
	return nil
}

// unlist takes a session out of the index. Its error changes nothing: who reads an
// index looks for the records, and entries end by themselves.
func (s *Store) unlist(ctx context.Context, handle string, index []string) {
	if len(index) == 0 {
		return
	}
	pipe := s.client.Pipeline()
	for _, name := range index {
		pipe.ZRem(ctx, s.prefix+name, handle)
	}
	_, _ = pipe.Exec(ctx)
}

// List implements session.Records.
func (s *Store) List(ctx context.Context, index []string) ([]session.Handle, error) {
	if len(index) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	sets := make([]*redis.StringSliceCmd, len(index))
	for i, name := range index {
		sets[i] = pipe.ZRange(ctx, s.prefix+name, 0, -1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, classify(err)
	}
	found := map[session.Handle]bool{} // somebody who signs in all the time has many
	for _, set := range sets {
		for _, text := range set.Val() {
			if h, err := session.ParseHandle(text); err == nil {
				found[h] = true
			}
		}
	}
	return slices.Collect(maps.Keys(found)), nil
}

// Replace implements session.Records.
func (s *Store) Replace(ctx context.Context, r session.Record, have string) error {
	n, err := replace.Run(ctx, s.client, []string{s.record(r.Handle)}, have, r.Version, r.Identity, r.Tokens).Int()
	switch {
	case err != nil:
		return classify(err)
	case n == 0:
		return session.ErrNotFound
	case n < 0:
		return session.ErrConflict
	}
	return nil
}

// Put implements session.Notes.
func (s *Store) Put(ctx context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	held, err := put.Run(ctx, s.client, []string{s.prefix + name}, value, millis(life)).Text()
	return []byte(held), classify(err)
}

// Raise implements session.Notes.
func (s *Store) Raise(ctx context.Context, name string, value []byte, life time.Duration) error {
	return classify(raise.Run(ctx, s.client, []string{s.prefix + name}, value, millis(life)).Err())
}

// Get implements session.Notes.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	value, err := s.client.Get(ctx, s.prefix+name).Bytes()
	return value, classifyEmpty(err)
}

// Take implements session.Notes.
func (s *Store) Take(ctx context.Context, name string) ([]byte, error) {
	value, err := take.Run(ctx, s.client, []string{s.prefix + name}).Text()
	return []byte(value), classifyEmpty(err)
}

// Drop implements session.Notes.
func (s *Store) Drop(ctx context.Context, name string, value []byte) error {
	return classify(drop.Run(ctx, s.client, []string{s.prefix + name}, value).Err())
}

func (s *Store) record(h session.Handle) string { return s.prefix + "s:{" + h.String() + "}" }

// millis rounds down, but never to zero, which would not be a life.
func millis(d time.Duration) int64 { return max(1, d.Milliseconds()) }

// classifyEmpty is classify where an empty answer means that nothing is there. It does
// not look into err: what Sentinels answer that do not know the master is empty too, and
// wrapped in the error of connecting.
func classifyEmpty(err error) error {
	if err == redis.Nil { //nolint:errorlint // see above
		return session.ErrNotFound
	}
	return classify(err)
}

// classify tells a lack of room and a wrong value from "cannot tell".
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case redis.IsOOMError(err):
		return fmt.Errorf("redis: %w: %w", session.ErrFull, err)
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("redis: %w: %w", session.ErrDamaged, err)
	}
	return fmt.Errorf("redis: %w", err)
}
