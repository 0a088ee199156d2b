package redisstore_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
	"github.com/gatehouse-mesh/gatehouse/session/sessiontest"
)

func newStore(t testing.TB, cfg redisstore.Config) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newManager(t testing.TB, s session.Store) *session.Manager {
	t.Helper()
	ring, err := seal.NewRing([]seal.Key{seal.NewKey(time.Now().Add(-time.Hour))}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(session.Config{Store: s, Ring: ring, IdleTimeout: time.Hour, AbsoluteTimeout: 12 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func alice() session.Session {
	return session.Session{
		Identity: &authz.Identity{
			Provider: "corp", Issuer: "https://idp.test", Subject: "alice-17", Email: "alice@good.test", Groups: []string{"staff"},
			Claims: authz.Claims{"sub": "alice-17", "email": "alice@good.test"},
		},
		Tokens:  &session.Tokens{Access: "eyJaccess", Refresh: "refresh-token", ID: "eyJid", ProviderSession: "sid-9"},
		Summary: session.Summary{Device: "Firefox", Address: "192.0.2.1"},
	}
}

func create(t testing.TB, m *session.Manager) session.ID {
	t.Helper()
	id, _, err := m.Create(t.Context(), rand.Text(), alice())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// password is one that never changes.
func password(username, password string) redisstore.Credentials {
	return func() (string, string, error) { return username, password, nil }
}

// The whole suite on everything that Redis is run as. D2: the single server is used
// with no more rights than documented.
func TestStore(t *testing.T) {
	server := newServer(t)
	server.do(t, append([]any{"ACL", "SETUSER", "gatehouse", "reset", "on", ">secret", "~t*", "&t*"}, strings2any(rights)...)...)
	var n atomic.Int32
	for name, cfg := range map[string]redisstore.Config{
		"Single":   {Addresses: []string{server.address}, Credentials: password("gatehouse", "secret")},
		"Cluster":  {Addresses: []string{newCluster(t)[1].address}, Cluster: true},
		"Sentinel": newGroup(t).config(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Timeout, cfg.DialTimeout = 5*time.Second, 5*time.Second // the machine is busy
			sessiontest.RunReplicas(t, func(t testing.TB) (a, b session.Store) {
				cfg := cfg
				cfg.Prefix = fmt.Sprintf("t%d:", n.Add(1))
				return newStore(t, cfg), newStore(t, cfg)
			})
		})
	}
}

// One round trip per Load: no transaction, no script, two commands in one write.
func TestLoadCommands(t *testing.T) {
	server := newServer(t)
	m := newManager(t, newStore(t, redisstore.Config{Addresses: []string{server.address}}))
	id := create(t, m)
	server.do(t, "CONFIG", "RESETSTAT")
	for range 10 {
		if _, err := m.Load(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
	}
	calls := server.calls(t)
	delete(calls, "hello") // of the client that asks
	delete(calls, "client|setinfo")
	delete(calls, "info")
	delete(calls, "config|resetstat")
	delete(calls, "client|maint_notifications")
	if len(calls) != 2 || calls["hmget"] != 10 || calls["pttl"] != 10 {
		t.Errorf("ten Loads made %v", calls)
	}
}

// D3, C2: Redis shows no secret and no name of a user, and nothing in it serves as a cookie.
func TestNothingReadable(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	m := newManager(t, store)
	attempt := rand.Text()
	id, _, err := m.Create(t.Context(), attempt, alice())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	handles := 0
	c := server.client(t)
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		dump, err := c.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		hash, _ := c.HGetAll(t.Context(), key).Result() // of a record; DUMP may compress
		value, _ := c.Get(t.Context(), key).Result()
		members, _ := c.ZRange(t.Context(), key, 0, -1).Result()
		fmt.Fprintln(&text, key, dump, hash, value, members)
		if ttl := c.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 12*time.Hour {
			t.Errorf("key %s lives for %v", key, ttl)
		}
		if h, ok := strings.CutPrefix(key, "gh:s:{"); ok {
			handles++
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(h, "}"))
			if err != nil || len(b) != 32 {
				t.Fatalf("key %s: %v", key, err)
			}
			if _, err := m.Load(t.Context(), session.ID(b), false); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("a handle used as an ID: %v", err)
			}
		}
	}
	if len(keys) != 4 || handles != 1 {
		t.Errorf("one login made the keys %q, want record, mark and two index sets", keys)
	}
	for _, secret := range []string{
		"eyJ", "refresh-token", "sid-9", "alice", "good.test", "staff", "idp.test", "Firefox", "192.0.2.1", attempt,
		string(id[:]), base64.RawURLEncoding.EncodeToString(id[:]), fmt.Sprintf("%x", id[:]),
	} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("Redis shows %q", secret)
		}
	}
}

// Sign-out is published, and the index forgets the session.
func TestEnd(t *testing.T) {
	server := newServer(t)
	m := newManager(t, newStore(t, redisstore.Config{Addresses: []string{server.address}, Prefix: "other:"}))
	id := create(t, m)
	c := server.client(t)
	sub := c.Subscribe(t.Context(), "other:ended")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.End(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if msg, err := sub.ReceiveMessage(ctx); err != nil || msg.Payload != id.Handle().String() {
		t.Errorf("published %v, %v", msg, err)
	}
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 1 || !strings.HasPrefix(keys[0], "other:a:") {
		t.Errorf("left are %q, %v, want the mark alone", keys, err)
	}
}

// An index drops who has ended, whether or not anybody signed him out.
func TestIndexIsBounded(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	short := record(t)
	short.Idle, short.Absolute = time.Millisecond, time.Millisecond
	stays := record(t)
	for _, r := range []session.NewRecord{stays, short} {
		if _, err := store.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the session that has ended is not listed", func() bool {
		if _, err := store.Create(t.Context(), stays); err != nil {
			t.Fatal(err)
		}
		members, err := server.client(t).ZRange(t.Context(), "gh:u:x", 0, -1).Result()
		return err == nil && len(members) == 1 && members[0] == stays.Handle.String()
	})
}

// D12: what somebody else wrote is refused with its reason and is not a miss.
func TestForeignValues(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	m := newManager(t, store)
	for _, c := range []struct {
		name string
		do   []any // KEY stands for the record's
		want error
	}{
		{"string", []any{"SET", "KEY", "x", "PX", 60000}, session.ErrDamaged},
		{"no end", []any{"PERSIST", "KEY"}, session.ErrDamaged},
		{"no version", []any{"HDEL", "KEY", "v"}, session.ErrDamaged},
		{"no identity", []any{"HDEL", "KEY", "i"}, session.ErrDamaged},
		{"no tokens", []any{"HDEL", "KEY", "t"}, session.ErrDamaged},
		{"empty identity", []any{"HSET", "KEY", "i", ""}, session.ErrDamaged},
		{"cut identity", []any{"HSET", "KEY", "i", "abcd"}, session.ErrDamaged},
		{"newer", []any{"HSET", "KEY", "v", "2.7"}, session.ErrNewer},
		{"deleted", []any{"DEL", "KEY"}, session.ErrNotFound},
		{"all fields deleted", []any{"HDEL", "KEY", "v", "i", "t", "m", "e"}, session.ErrNotFound},
	} {
		id := create(t, m)
		key := "gh:s:{" + id.Handle().String() + "}"
		for i := range c.do {
			if c.do[i] == "KEY" {
				c.do[i] = key
			}
		}
		server.do(t, c.do...)
		if s, err := m.Load(t.Context(), id, true); s != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: Load = %v, %v, want %v", c.name, s, err, c.want)
		}
		if err := m.End(t.Context(), id); err != nil {
			t.Errorf("%s: End: %v", c.name, err)
		}
	}
	id := create(t, m)
	server.do(t, "HSET", "gh:s:{"+id.Handle().String()+"}", "e", "junk")
	if err := store.Touch(t.Context(), id.Handle(), time.Minute); !errors.Is(err, session.ErrDamaged) {
		t.Errorf("Touch without an absolute end: %v", err)
	}
	server.do(t, "HSET", "gh:s:{"+id.Handle().String()+"}", "e", "1")
	if err := store.Touch(t.Context(), id.Handle(), time.Minute); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Touch after the absolute end: %v", err)
	}
}

// D8, D14, promise 7: gone is an error, back is back, flushed is a miss.
func TestOutage(t *testing.T) {
	server := newServer(t)
	m := newManager(t, newStore(t, redisstore.Config{Addresses: []string{server.address}}))
	id := create(t, m)
	server.stop()
	if _, err := m.Load(t.Context(), id, false); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load while Redis is down: %v", err)
	}
	if err := m.End(t.Context(), id); err == nil {
		t.Error("End while Redis is down says that it is done")
	}
	if _, _, err := m.Create(t.Context(), rand.Text(), alice()); err == nil || errors.Is(err, session.ErrFull) {
		t.Errorf("Create while Redis is down: %v", err)
	}
	server.start(t)
	if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load from an empty Redis: %v", err)
	}
	id = create(t, m)
	server.do(t, "SCRIPT", "FLUSH")
	if err := m.End(t.Context(), id); err != nil {
		t.Errorf("End after the scripts were lost: %v", err)
	}
}

// D9: a Redis that hangs costs no more than the caller's deadline.
func TestHang(t *testing.T) {
	server := newServer(t)
	m := newManager(t, newStore(t, redisstore.Config{Addresses: []string{server.address}, Timeout: time.Minute}))
	id := create(t, m)
	server.do(t, "CLIENT", "PAUSE", 3000, "ALL")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := m.Load(ctx, id, false); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load: %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Load took %v, its deadline was 200ms", took)
	}
}

// D5: full is a refusal of the new, which leaves nothing behind, and not an end of the
// old: what its renewal and its end need is still written.
func TestFull(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	m := newManager(t, store)
	id := create(t, m)
	renewed := record(t)
	if _, err := store.Create(t.Context(), renewed); err != nil {
		t.Fatal(err)
	}
	server.do(t, "CONFIG", "SET", "maxmemory", "1")
	refused := record(t)
	refused.Index = []string{"u:refused"}
	if _, err := store.Create(t.Context(), refused); !errors.Is(err, session.ErrFull) {
		t.Errorf("Create: %v", err)
	}
	if found, err := store.List(t.Context(), refused.Index); len(found) != 0 || err != nil {
		t.Errorf("List of a session that was refused = %v, %v", found, err)
	}
	if held, err := store.Put(t.Context(), "l:x", []byte("owner"), time.Minute); err != nil || string(held) != "owner" {
		t.Errorf("Put = %q, %v", held, err)
	}
	next := renewed.Record
	next.Version, next.Identity = "1.1", []byte("of the provider")
	if err := store.Replace(t.Context(), next, "1.0"); err != nil {
		t.Errorf("Replace: %v", err)
	}
	if got, left, err := store.Load(t.Context(), renewed.Handle, session.FieldIdentity); err != nil || string(got.Identity) != "of the provider" || left > time.Hour {
		t.Errorf("Load after Replace = %q, %v, %v", got.Identity, left, err)
	}
	for _, value := range []string{"1", "2"} {
		if err := store.Raise(t.Context(), "n:x", []byte(value), time.Minute); err != nil {
			t.Errorf("Raise: %v", err)
		}
	}
	if value, err := store.Take(t.Context(), "n:x"); err != nil || string(value) != "2" {
		t.Errorf("Take = %q, %v", value, err)
	}
	if _, err := m.Load(t.Context(), id, true); err != nil {
		t.Errorf("Load: %v", err)
	}
	if err := store.Touch(t.Context(), id.Handle(), time.Minute); err != nil {
		t.Errorf("Touch: %v", err)
	}
	if err := m.End(t.Context(), id); err != nil {
		t.Errorf("End: %v", err)
	}
}

func TestCheck(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}})
	for _, c := range []struct{ policy, max, want string }{
		{"noeviction", "0", ""},
		{"noeviction", "100mb", ""},
		{"allkeys-lru", "0", "as soon as maxmemory is set"},
		{"allkeys-lru", "100mb", "signs users out (maxmemory-policy allkeys-lru)"},
		{"volatile-ttl", "100mb", "maxmemory-policy volatile-ttl"},
	} {
		server.do(t, "CONFIG", "SET", "maxmemory-policy", c.policy, "maxmemory", c.max)
		if got, err := store.Check(t.Context()); err != nil || !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s, %s: Check = %q, %v", c.policy, c.max, got, err)
		}
	}
	server.stop()
	if got, err := store.Check(t.Context()); err == nil {
		t.Errorf("Check of a dead Redis = %q", got)
	}
}

// What the tests of rights use is what operators are told to allow.
func TestRightsInDocuments(t *testing.T) {
	for file, lead := range map[string]string{"redisstore.go": "~PREFIX* &PREFIX* and ", "../../docs/operating.md": "~gh:* &gh:* "} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "\n//", " ")), " ")
		if !strings.Contains(words, lead+rights) {
			t.Errorf("%s names other rights than %s", file, rights)
		}
	}
}

// D2: a user with no more rights than documented, in a database of its own, and a
// password that changes while connections exist.
func TestACL(t *testing.T) {
	server := newServer(t)
	server.do(t, append([]any{"ACL", "SETUSER", "gatehouse", "reset", "on", ">first", "~gh:*", "&gh:*"}, strings2any(rights+" +select")...)...)
	var password atomic.Value
	password.Store("first")
	store := newStore(t, redisstore.Config{
		Addresses: []string{server.address}, DB: 1,
		Credentials: func() (string, string, error) { return "gatehouse", password.Load().(string), nil },
	})
	m := newManager(t, store)
	id := create(t, m)
	server.do(t, "ACL", "SETUSER", "gatehouse", "resetpass", ">second")
	if _, err := m.Load(t.Context(), id, true); err != nil {
		t.Errorf("Load on a connection that is there already: %v", err)
	}
	password.Store("second")
	server.do(t, "CLIENT", "KILL", "USER", "gatehouse")
	if _, err := m.Load(t.Context(), id, true); err != nil {
		t.Errorf("Load after the password changed: %v", err)
	}
	if err := store.Touch(t.Context(), id.Handle(), time.Minute); err != nil {
		t.Errorf("Touch: %v", err)
	}
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if got, err := store.Check(t.Context()); err != nil || !strings.Contains(got, "may not run INFO") {
		t.Errorf("Check = %q, %v", got, err)
	}
	if err := m.End(t.Context(), id); err != nil {
		t.Errorf("End: %v", err)
	}
	id = create(t, m)
	server.do(t, "ACL", "SETUSER", "gatehouse", "-hmget")
	if _, err := m.Load(t.Context(), id, false); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load without the right to: %v", err)
	}
	server.do(t, "ACL", "SETUSER", "gatehouse", "+hmget", "-publish")
	if err := m.End(t.Context(), id); err == nil {
		t.Error("End without the right to publish says that it is done")
	}
	if _, err := m.Load(t.Context(), id, false); err != nil {
		t.Errorf("Load after End failed: %v", err)
	}
	password.Store("wrong")
	server.do(t, "CLIENT", "KILL", "USER", "gatehouse")
	if _, err := m.Load(t.Context(), id, false); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load with a wrong password: %v", err)
	}
}

// rights are those of the package comment.
const rights = "+hset +hget +hmget +exists +pexpire +pttl +del +set +get +zadd +zrange +zrem +zremrangebyscore +publish +subscribe +time +eval +evalsha +ping"

func strings2any(words string) (list []any) {
	for _, w := range strings.Fields(words) {
		list = append(list, w)
	}
	return list
}

// D10, Q1: with calls cancelled at random nobody gets another one's session.
func TestNoCrossTalk(t *testing.T) {
	server := newServer(t)
	m := newManager(t, newStore(t, redisstore.Config{Addresses: []string{server.address}, PoolSize: 4}))
	ids := make([]session.ID, 20)
	for i := range ids {
		ids[i] = create(t, m)
	}
	var wg sync.WaitGroup
	var answers atomic.Int32
	for w := range 8 {
		wg.Go(func() {
			for i := range 300 {
				id := ids[(w*7+i)%len(ids)]
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%10)*50*time.Microsecond+time.Millisecond*time.Duration(i%3))
				s, err := m.Load(ctx, id, i%2 == 0)
				cancel()
				if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrDamaged) {
					t.Errorf("Load: %v", err)
				}
				if err == nil {
					answers.Add(1)
					if s.Identity.Session != id.Handle().Name() {
						t.Errorf("got session %s, want %s", s.Identity.Session, id.Handle().Name())
					}
				}
			}
		})
	}
	wg.Wait()
	if n := answers.Load(); n == 0 || n == 2400 {
		t.Errorf("%d of 2400 calls were answered: nothing was proven", n)
	}
}

func BenchmarkLoad(b *testing.B) {
	server := newServer(b)
	m := newManager(b, newStore(b, redisstore.Config{Addresses: []string{server.address}}))
	id := create(b, m)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Load(b.Context(), id, false); err != nil {
			b.Fatal(err)
		}
	}
}
