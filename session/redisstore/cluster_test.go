package redisstore_test

import (
	"errors"
	"fmt"
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

// D2: on a Cluster a user needs two rights more.
func TestCluster(t *testing.T) {
	nodes := newCluster(t)
	for _, n := range nodes {
		n.do(t, append([]any{"ACL", "SETUSER", "gatehouse", "reset", "on", ">secret", "~gh:*", "&gh:*"}, strings2any(rights+" +cluster|slots +asking")...)...)
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
	moveSlot(t, nodes, store)

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

// moveSlot moves a session to another node, and while its slot is on the way checks that
// the session is found, renewed and ended where it is.
func moveSlot(t *testing.T, nodes []*server, store *redisstore.Store) {
	r, key, slot := recordAt(t, nodes, 0)
	if _, err := store.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 2)
	for i := range ids {
		var err error
		if ids[i], err = nodes[i].client(t).Do(t.Context(), "CLUSTER", "MYID").Text(); err != nil {
			t.Fatal(err)
		}
	}
	nodes[1].do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
	nodes[0].do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
	next := r.Record
	for i, do := range []func(){func() {}, func() {
		host, port, _ := strings.Cut(nodes[1].address, ":")
		nodes[0].do(t, "MIGRATE", host, port, key, 0, 5000)
	}} {
		do()
		if _, _, err := store.Load(t.Context(), r.Handle, session.FieldIdentity); err != nil {
			t.Errorf("step %d: Load: %v", i, err)
		}
		have := next.Version
		next.Version = fmt.Sprintf("1.%d", i+1)
		if err := store.Replace(t.Context(), next, have); err != nil {
			t.Errorf("step %d: Replace: %v", i, err)
		}
		if err := store.Touch(t.Context(), r.Handle, time.Minute); err != nil {
			t.Errorf("step %d: Touch: %v", i, err)
		}
	}
	if err := store.End(t.Context(), r.Handle, nil); err != nil {
		t.Errorf("End: %v", err)
	}
	if _, _, err := store.Load(t.Context(), r.Handle, 0); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load after End: %v", err)
	}
}

// recordAt returns a record that is kept by the node of this number.
func recordAt(t testing.TB, nodes []*server, node int64) (r session.NewRecord, key string, slot int64) {
	t.Helper()
	for {
		r = record(t)
		key = "gh:s:{" + r.Handle.String() + "}"
		var err error
		if slot, err = nodes[0].client(t).ClusterKeySlot(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
		if slot/5461 == node {
			return r, key, slot
		}
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
