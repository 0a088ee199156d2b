package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

// Promise 7, D8: a server that cannot answer as it should leaves everything unknown,
// for reads and writes or for writes alone.
func TestCannotTell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		args  []string
		do    func(t *testing.T, s *server)
		reads bool // reads are answered
		want  string
	}{
		{"loading", nil, load, false, "LOADING"},
		{"replica", nil, func(t *testing.T, s *server) { s.do(t, "REPLICAOF", "127.0.0.1", "1") }, true, "READONLY"},
		{
			"replica without its master",
			[]string{"--replica-serve-stale-data", "no"},
			func(t *testing.T, s *server) { s.do(t, "REPLICAOF", "127.0.0.1", "1") }, false, "MASTERDOWN",
		},
		{"too few replicas", nil, func(t *testing.T, s *server) { s.do(t, "CONFIG", "SET", "min-replicas-to-write", 1) }, true, "NOREPLICAS"},
		{
			"password", nil, func(t *testing.T, s *server) {
				s.do(t, "CONFIG", "SET", "requirepass", "secret")
				c := s.clientAs(t, "secret")
				c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			}, false, "NOAUTH",
		},
		{"disk full", nil, failSave, true, "MISCONF"},
		{"busy", []string{"--busy-reply-threshold", "10"}, busy, false, "BUSY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t, c.args...)
			store := newStore(t, redisstore.Config{Addresses: []string{server.address}, Timeout: 5 * time.Second})
			r := record(t)
			if _, err := store.Create(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			c.do(t, server)
			if c.reads {
				defer server.wantSilence(t)()
			}
			wantUnknown(t, store, r, c.reads, c.want)
		})
	}
}

// wantSilence fails if an ending was told until the returned function is called: a
// session whose end was refused is alive.
func (s *server) wantSilence(t *testing.T) func() {
	t.Helper()
	sub := s.client(t).Subscribe(t.Context(), "gh:ended")
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer sub.Close()
		s.do(t, "PUBLISH", "gh:ended", "that was all")
		for {
			m, err := sub.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload == "that was all" {
				return
			}
			t.Errorf("the end was refused, and told all the same: %s", m.Payload)
		}
	}
}

// load starts the server again, busy with reading a large file.
func load(t *testing.T, s *server) {
	pipe := s.client(t).Pipeline()
	for range 3000 {
		pipe.Set(t.Context(), rand.Text(), strings.Repeat(rand.Text(), 4), 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.do(t, "SAVE")
	s.stop()
	s.args = append(s.args, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	s.start(t)
}

// failSave has the server fail to save, after which it takes no writes.
func failSave(t *testing.T, s *server) {
	if err := os.Mkdir(filepath.Join(s.dir, "dump.rdb"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.do(t, "CONFIG", "SET", "save", "3600 1")
	s.do(t, "BGSAVE")
	eventually(t, "saving has failed", func() bool {
		info, err := s.client(t).Info(t.Context(), "persistence").Result()
		return err == nil && strings.Contains(info, "rdb_last_bgsave_status:err")
	})
}

// busy has the server run somebody's endless script until the test ends.
func busy(t *testing.T, s *server) {
	endless, admin := s.clientAs(t, ""), s.clientAs(t, "")
	var wg sync.WaitGroup
	wg.Go(func() { _ = endless.Eval(context.Background(), "while true do end", nil).Err() })
	t.Cleanup(func() {
		_ = admin.ScriptKill(context.Background()).Err()
		wg.Wait()
	})
	eventually(t, "the server is busy", func() bool {
		err := admin.Ping(t.Context()).Err()
		return err != nil && strings.Contains(err.Error(), "BUSY")
	})
}

// wantUnknown fails unless every call for r fails with want, and says neither that
// something is there nor that it is not.
func wantUnknown(t *testing.T, s session.Store, r session.NewRecord, reads bool, want string) {
	t.Helper()
	check := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %s", what, err, want)
		}
		for _, certain := range []error{session.ErrNotFound, session.ErrConflict, session.ErrFull, session.ErrDamaged} {
			if errors.Is(err, certain) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	ctx := t.Context()
	if !reads {
		_, _, err := s.Load(ctx, r.Handle, session.FieldIdentity)
		check("Load", err)
		_, err = s.Get(ctx, r.Mark)
		check("Get", err)
		_, err = s.List(ctx, r.Index)
		check("List", err)
	} else if _, _, err := s.Load(ctx, r.Handle, session.FieldIdentity); err != nil {
		t.Errorf("Load: %v", err)
	}
	_, err := s.Create(ctx, record(t))
	check("Create", err)
	next := r.Record
	next.Version = "1.1"
	check("Replace", s.Replace(ctx, next, "1.0"))
	check("Touch", s.Touch(ctx, r.Handle, time.Minute))
	check("End", s.End(ctx, r.Handle, r.Index))
	_, err = s.Put(ctx, "l:x", []byte("v"), time.Minute)
	check("Put", err)
	check("Raise", s.Raise(ctx, "n:x", []byte("1"), time.Minute))
	_, err = s.Take(ctx, r.Mark)
	check("Take", err)
	check("Drop", s.Drop(ctx, r.Mark, r.MarkValue))
}

// A Cluster that lost slots, and a Cluster that was taken for a single server.
func TestCannotTellOnCluster(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t)
	store := newStore(t, redisstore.Config{Addresses: []string{nodes[0].address}, Cluster: true})
	r, _, _ := recordAt(t, nodes, 2)
	if _, err := store.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	single := newStore(t, redisstore.Config{Addresses: []string{nodes[0].address}})
	if _, _, err := single.Load(t.Context(), r.Handle, 0); err == nil || errors.Is(err, session.ErrNotFound) || !strings.Contains(err.Error(), "MOVED") {
		t.Errorf("Load from the wrong node: %v", err)
	}
	for _, n := range nodes {
		n.do(t, "CONFIG", "SET", "cluster-node-timeout", 500)
	}
	nodes[2].stop()
	eventually(t, "the cluster is down", func() bool {
		info, err := nodes[0].client(t).ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:fail")
	})
	for range 3 {
		if _, _, err := store.Load(t.Context(), r.Handle, 0); err == nil || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load from a cluster that is down: %v", err)
		}
		if err := store.End(t.Context(), r.Handle, nil); err == nil {
			t.Error("End in a cluster that is down says that it is done")
		}
	}
}

// D9: a server that hangs is given up after Timeout, twice, when there is no deadline.
func TestTimeout(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}, Timeout: 100 * time.Millisecond, DialTimeout: 100 * time.Millisecond})
	r := record(t)
	if _, err := store.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	server.do(t, "CLIENT", "PAUSE", 10_000, "ALL")
	begin := time.Now()
	if _, _, err := store.Load(t.Context(), r.Handle, 0); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load: %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Load took %v", took)
	}
}
