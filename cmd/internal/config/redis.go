package config

import (
	"strings"
	"time"
)

// maxStoreTimeout is longer than anybody waits for a page.
const maxStoreTimeout = 20 * time.Second

func (ck *checker) redis(key string, r *Redis) {
	ck.redisServers(key, r)
	ck.credentials(key, r.Username, r.UsernameFile, r.PasswordFile)
	if t := r.TLS; t != nil && (t.CertFile == "") != (t.KeyFile == "") {
		ck.wrong(key+".tls", "cert_file and key_file come together", "", "give both or neither")
	}
	if strings.ContainsAny(r.KeyPrefix, "{}") {
		ck.wrong(key+".key_prefix", "braces decide where a Cluster keeps a key", quote(r.KeyPrefix), `write for example "gh:"`)
	}
	if r.PoolSize > 0 && r.MinIdle > r.PoolSize {
		ck.wrong(key+".min_idle", "more than pool_size", "", "make it at most pool_size")
	}
	for name, timeout := range map[string]time.Duration{"dial_timeout": r.DialTimeout, "timeout": r.Timeout} {
		if timeout > maxStoreTimeout {
			ck.wrong(key+"."+name, "longer than anybody waits", timeout.String(), "make it at most 20s")
		}
	}
	if len(ck.config.Sessions.KeyFiles) == 0 {
		ck.wrong("sessions.key_files", "missing: every replica needs the same sealing keys to read what is in redis", "", `make one with "gatehouse keys new" and name it here`)
	}
}

// redisServers checks that there is one way to find the server.
func (ck *checker) redisServers(key string, r *Redis) {
	for i, address := range r.Addresses {
		ck.address(index(key+".addresses", i), address)
	}
	switch s := r.Sentinel; {
	case s != nil && r.Cluster:
		ck.wrong(key+".cluster", "a Cluster has no Sentinels", "", "keep one of cluster and sentinel")
	case s != nil && r.Addresses != nil:
		ck.wrong(key+".addresses", "the Sentinels know the servers", "", "leave it out; the Sentinels are named in sentinel.addresses")
	case s != nil:
		for i, address := range s.Addresses {
			ck.address(index(key+".sentinel.addresses", i), address)
		}
		ck.credentials(key+".sentinel", s.Username, s.UsernameFile, s.PasswordFile)
	case r.Addresses == nil:
		ck.wrong(key+".addresses", "missing", "", "name the server: addresses: [redis:6379], or some nodes of a Cluster with cluster: true, or write sentinel: {master: NAME, addresses: [...]}")
	case len(r.Addresses) > 1 && !r.Cluster:
		ck.wrong(index(key+".addresses", 1), "more than one address, but no Cluster", "", "name one server, or write cluster: true, or name the Sentinels in sentinel.addresses")
	}
	if r.Cluster && r.DB != 0 {
		ck.wrong(key+".db", "a Cluster has only the database 0", "", "leave it out")
	}
}

func (ck *checker) credentials(key, username, usernameFile, passwordFile string) {
	switch {
	case username != "" && usernameFile != "":
		ck.wrong(key+".username_file", "the user is given twice", "", "keep one of username and username_file")
	case passwordFile == "" && (username != "" || usernameFile != ""):
		ck.wrong(key, "a user without password_file: Gatehouse would connect as the default user", "", "name the file with the user's password")
	}
}
