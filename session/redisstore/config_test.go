package redisstore_test

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

func TestNewRefuses(t *testing.T) {
	sentinel := func(master string, addresses ...string) *redisstore.Sentinel {
		return &redisstore.Sentinel{Master: master, Addresses: addresses}
	}
	for _, c := range []struct {
		cfg  redisstore.Config
		want string
	}{
		{redisstore.Config{}, "needs an address"},
		{redisstore.Config{Addresses: []string{"a:1", "b:1"}}, "not a cluster"},
		{redisstore.Config{Addresses: []string{"a:1"}, Cluster: true, DB: 1}, "no database"},
		{redisstore.Config{Addresses: []string{"a:1"}, Prefix: "x{y}"}, "braces"},
		{redisstore.Config{Addresses: []string{"a:1"}, Sentinel: sentinel("m", "s:1")}, "no addresses"},
		{redisstore.Config{Cluster: true, Sentinel: sentinel("m", "s:1")}, "no cluster"},
		{redisstore.Config{Sentinel: sentinel("", "s:1")}, "name of the master"},
		{redisstore.Config{Sentinel: sentinel("m")}, "need addresses"},
	} {
		if _, err := redisstore.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New = %v, want an error with %q", err, c.want)
		}
	}
}

// D2: who has lost his password does not become the default user, who may do anything.
func TestNoPassword(t *testing.T) {
	server := newServer(t)
	gone := errors.New("the file is gone")
	for want, credentials := range map[string]redisstore.Credentials{
		"password is empty": password("gatehouse", ""),
		gone.Error():        func() (string, string, error) { return "gatehouse", "", gone },
	} {
		store := newStore(t, redisstore.Config{Addresses: []string{server.address}, Credentials: credentials})
		if err := store.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Ping = %v, want an error with %q", err, want)
		}
	}
}

// connected returns how many clients the server has besides the one that asks.
func (s *server) connected(t testing.TB) int {
	t.Helper()
	info, err := s.client(t).Info(t.Context(), "clients").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "connected_clients:")
	text, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n - 1
}

// The pool is as large as it says, also for calls of two commands, and keeps MinIdle.
func TestPool(t *testing.T) {
	server := newServer(t)
	store := newStore(t, redisstore.Config{Addresses: []string{server.address}, PoolSize: 3, MinIdle: 2, Timeout: 5 * time.Second})
	eventually(t, "two connections are idle", func() bool { return server.connected(t) == 2 })
	r := record(t)
	if _, err := store.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if _, _, err := store.Load(t.Context(), r.Handle, session.FieldIdentity); err != nil {
					t.Errorf("Load: %v", err)
				}
			}
		})
	}
	most := 0
	for range 50 {
		most = max(most, server.connected(t))
	}
	wg.Wait()
	if most = max(most, server.connected(t)); most > 3 {
		t.Errorf("%d connections, PoolSize is 3", most)
	}
}
