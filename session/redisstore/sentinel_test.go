package redisstore_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

// group is a master with two replicas and three Sentinels.
type group struct {
	servers   []*server // the first one begins as the master
	sentinels []*server
}

// newGroup starts a group. auth is in the configuration of the Sentinels.
func newGroup(t testing.TB, auth ...string) *group {
	t.Helper()
	g := &group{servers: []*server{newTCPServer(t)}}
	host, port, _ := strings.Cut(g.servers[0].address, ":")
	for range 2 {
		g.servers = append(g.servers, newTCPServer(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0"))
	}
	for _, s := range g.servers {
		s.do(t, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	}
	eventually(t, "the replicas are in step", func() bool {
		info, err := g.servers[0].client(t).Info(t.Context(), "replication").Result()
		return err == nil && strings.Count(info, "state=online") == 2
	})
	for range 3 {
		g.sentinels = append(g.sentinels, newSentinel(t, host, port, auth))
	}
	return g
}

func newSentinel(t testing.TB, host, port string, auth []string) *server {
	t.Helper()
	s := &server{address: freeAddress(t), dir: newDir(t)}
	_, own, _ := strings.Cut(s.address, ":")
	s.startSentinel(t, append([]string{
		"bind 127.0.0.1", "port " + own, "dir " + s.dir, "logfile " + filepath.Join(s.dir, "log"),
		fmt.Sprintf("sentinel monitor main %s %s 2", host, port),
		"sentinel down-after-milliseconds main 1000", "sentinel failover-timeout main 5000",
	}, auth...)...)
	return s
}

// startSentinel starts a Sentinel with this configuration.
func (s *server) startSentinel(t testing.TB, lines ...string) {
	t.Helper()
	file := filepath.Join(s.dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{file, "--sentinel"}
	s.start(t)
}

func (g *group) config() redisstore.Config {
	s := &redisstore.Sentinel{Master: "main"}
	for _, each := range g.sentinels {
		s.Addresses = append(s.Addresses, each.address)
	}
	return redisstore.Config{Sentinel: s}
}

// settle waits until the Sentinels know each other and the replicas.
func (g *group) settle(t testing.TB) {
	t.Helper()
	eventually(t, "the sentinels know each other", func() bool {
		for _, s := range g.sentinels {
			info, err := s.client(t).Do(t.Context(), "INFO", "sentinel").Text()
			if err != nil || !strings.Contains(info, "status=ok") || !strings.Contains(info, "slaves=2,sentinels=3") {
				return false
			}
		}
		return true
	})
}

// master returns the server that the first Sentinel calls the master.
func (g *group) master(t testing.TB) *server {
	t.Helper()
	got, err := g.sentinels[0].client(t).Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").StringSlice()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g.servers {
		if s.address == got[0]+":"+got[1] {
			return s
		}
	}
	t.Fatalf("the master is %v", got)
	return nil
}

// D6: the Watch leaves the old master, and what was written before is there after.
func TestFailover(t *testing.T) {
	g := newGroup(t)
	g.settle(t)
	store := newStore(t, g.config())
	w := newWatch(t, newStore(t, g.config()))
	w.want(t, true)
	r := record(t)
	if _, err := store.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	g.wantMasterOnly(t, store, r)
	for _, c := range []struct {
		name string
		do   func(master *server)
	}{
		{"a graceful failover", func(*server) { g.sentinels[0].do(t, "SENTINEL", "FAILOVER", "main") }},
		{"the death of the master", func(master *server) { master.stop() }},
	} {
		old, lost := g.master(t), w.lost.Load()
		c.do(old)
		eventually(t, "there is a new master", func() bool { return g.master(t) != old })
		begin, told, untold := time.Now(), 0, 0
		eventually(t, c.name+": Alive(false)", func() bool {
			if h := newHandle(); store.End(t.Context(), h, nil) == nil {
				if w.endedWithin(h, 50*time.Millisecond) {
					told++
				} else {
					untold++
				}
			}
			return w.lost.Load() > lost
		})
		silent := time.Since(begin)
		w.want(t, true)
		again := time.Since(begin)
		if silent > 5*time.Second { // the subscription itself breaks after ten
			t.Errorf("after %s the Watch trusted the old master for %v", c.name, silent)
		}
		h := newHandle()
		if err := store.End(t.Context(), h, nil); err != nil {
			t.Errorf("after %s: End: %v", c.name, err)
		}
		w.wantEnded(t, h)
		if n := g.master(t).client(t).PubSubNumSub(t.Context(), "gh:ended").Val()["gh:ended"]; n != 1 {
			t.Errorf("after %s the new master has %d subscriptions", c.name, n)
		}
		if _, _, err := store.Load(t.Context(), r.Handle, 0); err != nil {
			t.Errorf("after %s: Load of what was there before: %v", c.name, err)
		}
		t.Logf("after %s: Alive(false) in %v, Alive(true) in %v; of the endings until then %d were told, %d not",
			c.name, silent.Round(time.Millisecond), again.Round(time.Millisecond), told, untold)
	}
}

// wantMasterOnly fails when a replica is read (D11), or when Check asks one.
func (g *group) wantMasterOnly(t *testing.T, store *redisstore.Store, r session.NewRecord) {
	t.Helper()
	for range 20 {
		if _, _, err := store.Load(t.Context(), r.Handle, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range g.servers {
		if calls := s.calls(t); (calls["hmget"] > 0) != (s == g.servers[0]) {
			t.Errorf("%d HMGET at %s, the master is %s", calls["hmget"], s.address, g.servers[0].address)
		}
	}
	g.servers[0].do(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	if got, err := store.Check(t.Context()); err != nil || !strings.Contains(got, "allkeys-lru") {
		t.Errorf("Check = %q, %v", got, err)
	}
	g.servers[0].do(t, "CONFIG", "SET", "maxmemory-policy", "noeviction")
}

// D1: TLS is for the Sentinel, too.
func TestSentinelTLS(t *testing.T) {
	t.Parallel()
	pair, pool := certificate(t)
	_, master := newTLSServer(t, pair, "")
	host, port, _ := strings.Cut(master, ":")
	s := &server{address: freeAddress(t), dir: newDir(t)}
	_, own, _ := strings.Cut(s.address, ":")
	s.startSentinel(t, "port 0", "bind 127.0.0.1", "tls-port "+own, "tls-replication yes", "tls-auth-clients no",
		"tls-cert-file "+pair.cert, "tls-key-file "+pair.key, "tls-ca-cert-file "+pair.cert,
		"dir "+s.dir, "logfile "+filepath.Join(s.dir, "log"), fmt.Sprintf("sentinel monitor main %s %s 1", host, port))
	cfg := redisstore.Config{
		Sentinel: &redisstore.Sentinel{Master: "main", Addresses: []string{s.address}},
		TLS:      always(&tls.Config{RootCAs: pool}), DB: 1,
	}
	if err := newStore(t, cfg).Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	cfg.TLS = nil
	if err := newStore(t, cfg).Ping(t.Context()); err == nil {
		t.Error("connected in plain text")
	}
}

// D2: a user at the Sentinels with no more rights than documented, whose password
// changes; the servers have none.
func TestSentinelPassword(t *testing.T) {
	t.Parallel()
	const user = "user gatehouse on resetchannels &+switch-master &+replica-reconf-done -@all +subscribe +sentinel|get-master-addr-by-name +sentinel|sentinels +ping "
	g := newGroup(t, "requirepass operator", user+">hunter1")
	cfg := g.config()
	if err := newStore(t, cfg).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("Ping without a user of the sentinels: %v", err)
	}
	var password atomic.Value
	password.Store("hunter1")
	cfg.Sentinel.Credentials = func() (string, string, error) { return "gatehouse", password.Load().(string), nil }
	store := newStore(t, cfg)
	if err := store.Ping(t.Context()); err != nil {
		t.Fatalf("Ping: %v", err)
	}
	again := func() error { // finds the master again
		g.servers[0].do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		return store.Ping(t.Context())
	}
	for _, s := range g.sentinels {
		c := s.clientAs(t, "operator")
		for _, args := range [][]any{
			{"ACL", "SETUSER", "gatehouse", "resetpass", ">hunter2"},
			{"CLIENT", "KILL", "USER", "gatehouse"},
		} {
			if err := c.Do(t.Context(), args...).Err(); err != nil {
				t.Fatalf("%v: %v", args, err)
			}
		}
	}
	if err := again(); err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("Ping with the old password: %v", err)
	}
	password.Store("hunter2")
	if err := again(); err != nil {
		t.Errorf("Ping with the new password: %v", err)
	}
}

// Promise 7: Sentinels that do not know the master, as after they were set up anew,
// answer "nothing": that is nothing about a session.
func TestSentinelForgets(t *testing.T) {
	t.Parallel()
	master := newTCPServer(t)
	host, port, _ := strings.Cut(master.address, ":")
	g := &group{servers: []*server{master}, sentinels: []*server{newSentinel(t, host, port, nil), newSentinel(t, host, port, nil)}}
	store := newStore(t, g.config())
	r := record(t)
	if _, err := store.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	g.sentinels[1].stop() // what one says must not hide what another does
	g.sentinels[0].do(t, "SENTINEL", "REMOVE", "main")
	master.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	wantUnknown(t, store, r, false, "sentinels")
	g.sentinels[0].do(t, "SENTINEL", "MONITOR", "main", host, port, 1)
	eventually(t, "the master is found again", func() bool {
		_, _, err := store.Load(t.Context(), r.Handle, 0)
		return err == nil
	})
}
