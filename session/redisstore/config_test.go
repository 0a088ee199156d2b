package redisstore_test

import (
	"errors"
	"strings"
	"testing"

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
