package main

import (
	"crypto/tls"
	"log/slog"
	"sync"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
)

func redisConfig(cfg *config.Config, r *config.Redis, log *slog.Logger) (redisstore.Config, error) {
	rc := redisstore.Config{
		Addresses: r.Addresses, Cluster: r.Cluster, DB: r.DB, Prefix: r.KeyPrefix,
		Credentials: redisCredentials(cfg, r.Username, r.UsernameFile, r.PasswordFile),
		DialTimeout: r.DialTimeout, Timeout: r.Timeout, PoolSize: r.PoolSize, MinIdle: r.MinIdle,
		Lost: func(err error) {
			log.Warn("endings of sessions are not told any more; every session is proven at the store until they are", "error", err.Error())
		},
	}
	if s := r.Sentinel; s != nil {
		rc.Sentinel = &redisstore.Sentinel{
			Master: s.Master, Addresses: s.Addresses, Credentials: redisCredentials(cfg, s.Username, s.UsernameFile, s.PasswordFile),
		}
	}
	if r.TLS != nil {
		files := &redisTLS{cfg: cfg, tls: r.TLS, log: log}
		var err error
		if files.last, err = files.read(); err != nil {
			return rc, cfg.Mistake("sessions.store.redis.tls", err.Error(), "", "")
		}
		rc.TLS = files.config
	}
	return rc, nil
}

// redisCredentials reads the files for every new connection.
func redisCredentials(cfg *config.Config, username, usernameFile, passwordFile string) redisstore.Credentials {
	if passwordFile == "" {
		return nil
	}
	return func() (string, string, error) {
		name := username
		if usernameFile != "" {
			var err error
			if name, err = config.ReadSecret(cfg.Path(usernameFile)); err != nil {
				return "", "", err
			}
		}
		password, err := config.ReadSecret(cfg.Path(passwordFile))
		return name, password, err
	}
}

// redisTLS is TLS towards Redis as its files say at the moment: they are read for every
// new connection. Files that cannot be used, perhaps because only one of a pair was
// replaced yet, leave what was read last in use.
type redisTLS struct {
	cfg *config.Config
	tls *config.RedisTLS
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	last   *tls.Config
	failed bool
}

func (f *redisTLS) config() (*tls.Config, error) {
	next, err := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if !f.failed { // not for every connection
			f.log.Error("TLS files of redis changed but cannot be used; the old ones stay", "error", err.Error())
		}
		f.failed = true
		return f.last, nil
	}
	f.last, f.failed = next, false
	return next, nil
}

func (f *redisTLS) read() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.tls.ServerName}
	if f.tls.CAFile != "" {
		pool, err := readCAs(f.cfg.Path(f.tls.CAFile))
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if f.tls.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(f.cfg.Path(f.tls.CertFile), f.cfg.Path(f.tls.KeyFile))
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
