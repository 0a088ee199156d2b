package config_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

func withRedis(redis string) []byte {
	return []byte(smallest + "sessions: {key_files: [k], store: {redis: " + redis + "}}\n")
}

// N2: a store that two keys describe differently, or none, does not start.
func TestRedisMistakes(t *testing.T) {
	for _, c := range []struct{ redis, want string }{
		{"{db: 1}", "f:4:43: sessions.store.redis.addresses: missing: name the server: addresses: [redis:6379], or some nodes of a Cluster with cluster: true, or write sentinel: {master: NAME, addresses: [...]}"},
		{"{addresses: ['r:1', 'r:2']}", "f:4:63: sessions.store.redis.addresses[1]: more than one address, but no Cluster: name one server, or write cluster: true, or name the Sentinels in sentinel.addresses"},
		{"{addresses: ['r'], cluster: true}", `f:4:56: sessions.store.redis.addresses[0]: not an address (found "r"): write host:port or ":port", for example ":9000"`},
		{"{addresses: ['r:1'], cluster: true, db: 1}", "f:4:83: sessions.store.redis.db: a Cluster has only the database 0: leave it out"},
		{"{sentinel: {master: m, addresses: ['s:1']}, cluster: true}", "f:4:96: sessions.store.redis.cluster: a Cluster has no Sentinels: keep one of cluster and sentinel"},
		{"{sentinel: {master: m, addresses: ['s:1']}, addresses: ['r:1']}", "f:4:98: sessions.store.redis.addresses: the Sentinels know the servers: leave it out; the Sentinels are named in sentinel.addresses"},
		{"{sentinel: {addresses: ['s:1']}}", "f:4:54: sessions.store.redis.sentinel.master: missing: this key is required"},
		{"{sentinel: {master: m}}", "f:4:54: sessions.store.redis.sentinel.addresses: missing: this key is required"},
		{"{sentinel: {master: m, addresses: ['redis://u:hunter2@s:1']}}", `f:4:78: sessions.store.redis.sentinel.addresses[0]: not an address (found an address with user information): write host:port or ":port", for example ":9000"`},
		{"{sentinel: {master: m, addresses: ['s:1'], username: u}}", "f:4:54: sessions.store.redis.sentinel: a user without password_file: Gatehouse would connect as the default user: name the file with the user's password"},
		{"{addresses: ['r:1'], username: u}", "f:4:43: sessions.store.redis: a user without password_file: Gatehouse would connect as the default user: name the file with the user's password"},
		{"{addresses: ['r:1'], username_file: u}", "f:4:43: sessions.store.redis: a user without password_file: Gatehouse would connect as the default user: name the file with the user's password"},
		{"{addresses: ['r:1'], username: u, username_file: u, password_file: p}", "f:4:92: sessions.store.redis.username_file: the user is given twice: keep one of username and username_file"},
		{"{addresses: ['r:1'], key_prefix: 'a{b'}", `f:4:76: sessions.store.redis.key_prefix: braces decide where a Cluster keeps a key (found "a{b"): write for example "gh:"`},
		{"{addresses: ['r:1'], pool_size: 2, min_idle: 3}", "f:4:88: sessions.store.redis.min_idle: more than pool_size: make it at most pool_size"},
		{"{addresses: ['r:1'], timeout: 1m}", "f:4:73: sessions.store.redis.timeout: longer than anybody waits (found 1m0s): make it at most 20s"},
		{"{addresses: ['r:1'], dial_timeout: 1m}", "f:4:78: sessions.store.redis.dial_timeout: longer than anybody waits (found 1m0s): make it at most 20s"},
		{"{addresses: ['r:1'], tls: {key_file: k}}", "f:4:69: sessions.store.redis.tls: cert_file and key_file come together: give both or neither"},
	} {
		_, err := config.Parse("f", withRedis(c.redis))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.redis, err, c.want)
		}
	}
}

func TestRedis(t *testing.T) {
	c, err := config.Parse("/etc/f", withRedis("{sentinel: {master: main, addresses: ['s1:26379', 's2:26379'], username_file: su, password_file: sp}, username_file: u, password_file: p, tls: {ca_file: ca}}"))
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Sessions.Store.Redis; r.Timeout != 500*time.Millisecond || r.DialTimeout != 500*time.Millisecond || r.KeyPrefix != "gh:" || r.Sentinel.Master != "main" {
		t.Errorf("read %+v", r)
	}
	var files []string
	for _, ref := range c.Files() {
		files = append(files, ref.Path)
	}
	for _, want := range []string{"/etc/u", "/etc/p", "/etc/su", "/etc/sp", "/etc/ca"} {
		if !slices.Contains(files, want) {
			t.Errorf("Files are %q, without %s", files, want)
		}
	}
	if _, err := config.Parse("f", withRedis("{addresses: ['r1:1', 'r2:1'], cluster: true, pool_size: 20, min_idle: 2, timeout: 1s, dial_timeout: 2s}")); err != nil {
		t.Error(err)
	}
}
