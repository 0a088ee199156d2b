// Package redisstore keeps sessions in Redis, or a server that speaks its protocol.
//
// Keys, behind Config.Prefix (the part in braces decides the slot on a Cluster):
//
//	s:{HANDLE}  hash: v, i, t, m as in session.Record, e the absolute end in Redis's time
//	u:… p:…     sorted set: handle → absolute end, named by session.Manager
//	a:… c:… j:… l:… n:…  notes, named by session.Manager
//	ended       channel: the handle of each session that was ended
//
// An ACL user needs ~PREFIX* &PREFIX* and +hset +hget +hmget +exists +pexpire +pttl
// +del +set +get +zadd +zrem +zremrangebyscore +publish +time +eval +evalsha +ping;
// +info lets Check read the eviction policy.
package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// Config says how to reach Redis.
type Config struct {
	Addresses []string // host:port, or the path of a unix socket
	Cluster   bool     // Addresses are some nodes of a Cluster; otherwise there is one
	Username  string   // empty: the default user
	// Password is asked for every new connection, so that a changed file is
	// followed; nil: none.
	Password func() (string, error)
	TLS      *tls.Config // nil: plain text
	DB       int         // not on a Cluster
	Prefix   string      // of keys and channel; empty: "gh:"

	DialTimeout time.Duration // zero: 500 ms
	Timeout     time.Duration // for one command, besides the context's deadline; zero: 500 ms
	PoolSize    int           // connections at most (per node); zero: 10 per CPU
}

// Store is a session.Store. It is safe for concurrent use.
type Store struct {
	client redis.UniversalClient
	prefix string
}

var _ session.Store = (*Store)(nil)

// New checks cfg. It does no I/O; connections are made as they are needed.
func New(cfg Config) (*Store, error) {
	switch {
	case len(cfg.Addresses) == 0:
		return nil, errors.New("redis needs an address: host:port, or the path of a unix socket")
	case len(cfg.Addresses) > 1 && !cfg.Cluster:
		return nil, fmt.Errorf("redis has %d addresses, but is not a cluster: name one", len(cfg.Addresses))
	case cfg.DB != 0 && cfg.Cluster:
		return nil, fmt.Errorf("a redis cluster has no database %d", cfg.DB)
	case strings.ContainsAny(cfg.Prefix, "{}"):
		return nil, fmt.Errorf("redis key prefix %q must not contain braces: they decide where a cluster keeps a key", cfg.Prefix)
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "gh:"
	}
	return &Store{client: redis.NewUniversalClient(options(cfg)), prefix: cfg.Prefix}, nil
}

func options(cfg Config) *redis.UniversalOptions {
	const defaultTimeout = 500 * time.Millisecond
	o := &redis.UniversalOptions{
		Addrs: cfg.Addresses, IsClusterMode: cfg.Cluster, DB: cfg.DB, TLSConfig: cfg.TLS,
		DialTimeout: cfg.DialTimeout, ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout, PoolTimeout: cfg.Timeout,
		PoolSize: cfg.PoolSize, ContextTimeoutEnabled: true,
		// All our commands may be repeated; once is for a connection that went stale.
		MaxRetries: 1, MinRetryBackoff: 5 * time.Millisecond, MaxRetryBackoff: 20 * time.Millisecond, DialerRetries: 1,
		// Nothing an ACL must allow in addition.
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = defaultTimeout
	}
	if cfg.Timeout == 0 {
		o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = defaultTimeout, defaultTimeout, defaultTimeout
	}
	o.Username = cfg.Username
	if cfg.Password != nil {
		o.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := cfg.Password()
			return cfg.Username, password, err
		}
	}
	return o
}

// Close closes all connections.
func (s *Store) Close() error { return s.client.Close() }

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error { return classify(s.client.Ping(ctx).Err()) }

// Check asks Redis for settings that lose sessions, and returns a warning for the
// operator, or "". The error is that of reaching Redis.
func (s *Store) Check(ctx context.Context) (warning string, err error) {
	info, err := s.client.Info(ctx, "memory").Result()
	if redis.IsPermissionError(err) {
		return "redis: cannot see the eviction policy (the user may not run INFO); make sure that maxmemory-policy is noeviction", nil
	}
	if err != nil {
		return "", classify(err)
	}
	policy := infoField(info, "maxmemory_policy")
	switch {
	case policy == "noeviction":
		return "", nil
	case policy == "":
		return "redis: does not tell its eviction policy; make sure that maxmemory-policy is noeviction", nil
	case infoField(info, "maxmemory") == "0":
		return fmt.Sprintf("redis: would evict sessions (maxmemory-policy %s) as soon as maxmemory is set; set maxmemory-policy to noeviction", policy), nil
	}
	return fmt.Sprintf("redis: evicts sessions when memory is full, which signs users out (maxmemory-policy %s); set maxmemory-policy to noeviction", policy), nil
}

// infoField finds a line "name:value" of the answer to INFO.
func infoField(info, name string) string {
	for line := range strings.SplitSeq(info, "\r\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return value
		}
	}
	return ""
}

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

// Load implements session.Store.
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

// Touch implements session.Store.
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

// End implements session.Store.
func (s *Store) End(ctx context.Context, h session.Handle, index []string) error {
	handle := h.String()
	if err := end.Run(ctx, s.client, []string{s.record(h)}, s.prefix+"ended", handle).Err(); err != nil {
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
	var found []session.Handle
	for _, set := range sets {
		for _, text := range set.Val() {
			if h, err := session.ParseHandle(text); err == nil && !slices.Contains(found, h) {
				found = append(found, h)
			}
		}
	}
	return found, nil
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
	return value, classify(err)
}

// Take implements session.Notes.
func (s *Store) Take(ctx context.Context, name string) ([]byte, error) {
	value, err := take.Run(ctx, s.client, []string{s.prefix + name}).Text()
	return []byte(value), classify(err)
}

// Drop implements session.Notes.
func (s *Store) Drop(ctx context.Context, name string, value []byte) error {
	return classify(drop.Run(ctx, s.client, []string{s.prefix + name}, value).Err())
}

// Watch implements session.Store. It tells nothing yet, so that nothing is cached.
func (s *Store) Watch(ctx context.Context, _ session.Watcher) error {
	<-ctx.Done()
	return nil
}

func (s *Store) record(h session.Handle) string { return s.prefix + "s:{" + h.String() + "}" }

// millis rounds down, but never to zero, which would not be a life.
func millis(d time.Duration) int64 { return max(1, d.Milliseconds()) }

// classify tells a certain absence, a lack of room and a wrong value from "cannot tell".
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return session.ErrNotFound
	case redis.IsOOMError(err):
		return fmt.Errorf("redis: %w: %w", session.ErrFull, err)
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("redis: %w: %w", session.ErrDamaged, err)
	}
	return fmt.Errorf("redis: %w", err)
}
