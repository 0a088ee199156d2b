package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

// newCluster starts a Cluster of three masters, each with a third of the slots. That one
// is dead they notice after a minute.
func newCluster(t testing.TB) []*server {
	t.Helper()
	nodes := make([]*server, 3)
	for i := range nodes {
		_, bus, _ := strings.Cut(freeAddress(t), ":")
		nodes[i] = newTCPServer(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "60000")
		nodes[i].do(t, "CLUSTER", "ADDSLOTSRANGE", 5461*i, []int{5460, 10921, 16383}[i])
		nodes[i].do(t, "CONFIG", "SET", "cluster-announce-bus-port", bus)
		if i > 0 {
			host, port, _ := strings.Cut(nodes[i].address, ":")
			nodes[0].do(t, "CLUSTER", "MEET", host, port, bus)
		}
	}
	eventually(t, "the cluster is complete", func() bool {
		for _, n := range nodes {
			info, err := n.client(t).ClusterInfo(t.Context()).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return nodes
}

// D2: on a Cluster a user needs one right more.
func TestCluster(t *testing.T) {
	nodes := newCluster(t)
	for _, n := range nodes {
		n.do(t, append([]any{"ACL", "SETUSER", "gatehouse", "reset", "on", ">secret", "~gh:*", "&gh:*"}, strings2any(rights+" +cluster|slots")...)...)
	}
	store := newStore(t, redisstore.Config{Addresses: []string{nodes[0].address}, Cluster: true, Credentials: password("gatehouse", "secret")})
	m := newManager(t, store)
	for range 10 { // of all nodes, most likely
		id := create(t, m)
		if _, err := m.Load(t.Context(), id, true); err != nil {
			t.Errorf("Load: %v", err)
		}
		if err := m.End(t.Context(), id); err != nil {
			t.Errorf("End: %v", err)
		}
	}
	newWatch(t, store).want(t, true)

	// D5: one master that would evict is enough for the warning.
	store = newStore(t, redisstore.Config{Addresses: []string{nodes[0].address}, Cluster: true})
	if got, err := store.Check(t.Context()); got != "" || err != nil {
		t.Errorf("Check = %q, %v", got, err)
	}
	nodes[2].do(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "100mb")
	if got, err := store.Check(t.Context()); err != nil || !strings.Contains(got, "allkeys-lru") {
		t.Errorf("Check = %q, %v", got, err)
	}
}

// Endings are heard from every master, and nobody trusts a Watch while one is silent.
func TestWatchOnCluster(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t)
	cfg := redisstore.Config{Addresses: []string{nodes[0].address}, Cluster: true}
	store, w := newStore(t, cfg), newWatch(t, newStore(t, cfg))
	w.want(t, true)
	for range 30 {
		h := record(t).Handle
		if err := store.End(t.Context(), h, nil); err != nil {
			t.Fatalf("End: %v", err)
		}
		w.wantEnded(t, h)
	}
	for _, n := range nodes { // one of them has the subscription
		n.stop()
		w.want(t, false)
		n.start(t)
		w.want(t, true)
	}
	h := record(t).Handle
	eventually(t, "sessions can be ended again", func() bool { return store.End(t.Context(), h, nil) == nil })
	w.wantEnded(t, h)
}

// record returns a record of version 1.0 that lives for an hour.
func record(t testing.TB) session.NewRecord {
	t.Helper()
	h := newHandle()
	return session.NewRecord{
		Record: session.Record{Handle: h, Version: "1.0", Identity: []byte("i"), Tokens: []byte("t"), Summary: []byte("m")},
		Idle:   time.Hour, Absolute: time.Hour, Index: []string{"u:x"}, Mark: "a:" + h.String(), MarkValue: []byte("v"), MarkLife: time.Minute,
	}
}
