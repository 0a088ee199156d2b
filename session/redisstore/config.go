package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config says how to reach Redis.
type Config struct {
	Addresses []string  // host:port, or the path of a unix socket; none with Sentinel
	Cluster   bool      // Addresses are some nodes of a Cluster; otherwise there is one
	Sentinel  *Sentinel // nil: none
	// Credentials is asked for every new connection, so that changed files are
	// followed; nil: the default user without a password.
	Credentials Credentials
	// TLS is asked for every new connection, also to the Sentinels; nil: plain text.
	TLS    func() (*tls.Config, error)
	DB     int    // not on a Cluster
	Prefix string // of keys and channel; empty: "gh:"

	DialTimeout time.Duration // zero: 500 ms
	Timeout     time.Duration // for one command, besides the context's deadline; zero: 500 ms
	PoolSize    int           // connections at most (per node), besides one for each Watch; zero: 10 per CPU
	MinIdle     int           // idle connections to keep (per node); zero: none

	// Lost is told why a Watcher was told Alive(false); must not block; nil: not told.
	Lost func(error)
}

// Sentinel says how to find the master of a group of servers.
type Sentinel struct {
	Master      string      // its name
	Addresses   []string    // host:port of some of the Sentinels
	Credentials Credentials // at the Sentinels; nil: none
}

// Credentials returns a user, empty for the default user, and the password.
type Credentials func() (username, password string, err error)

// defaultTimeout leaves room for a second try within a Check.
const defaultTimeout = 500 * time.Millisecond

func (cfg Config) check() error {
	s := cfg.Sentinel
	switch {
	case s != nil && (len(cfg.Addresses) > 0 || cfg.Cluster):
		return errors.New("redis: sentinels find the server: no addresses and no cluster beside them")
	case s != nil && (s.Master == "" || len(s.Addresses) == 0):
		return errors.New("redis: sentinels need addresses and the name of the master")
	case s == nil && len(cfg.Addresses) == 0:
		return errors.New("redis needs an address: host:port, or the path of a unix socket")
	case len(cfg.Addresses) > 1 && !cfg.Cluster:
		return fmt.Errorf("redis has %d addresses, but is not a cluster: name one", len(cfg.Addresses))
	case cfg.DB != 0 && cfg.Cluster:
		return fmt.Errorf("a redis cluster has no database %d", cfg.DB)
	case strings.ContainsAny(cfg.Prefix, "{}"):
		return fmt.Errorf("redis key prefix %q must not contain braces: they decide where a cluster keeps a key", cfg.Prefix)
	}
	return nil
}

// options never lets a replica answer: it could still show a session that has ended.
func (cfg Config) options() *redis.UniversalOptions {
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = defaultTimeout
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	o := &redis.UniversalOptions{
		Addrs: cfg.Addresses, IsClusterMode: cfg.Cluster, DB: cfg.DB, Dialer: cfg.dial,
		DialTimeout: cfg.DialTimeout, ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout, PoolTimeout: cfg.Timeout,
		PoolSize: cfg.PoolSize, MinIdleConns: cfg.MinIdle, ContextTimeoutEnabled: true,
		PipelinePoolSize: -1, // ours are two short commands: they need no pool and no buffers of their own
		// All our commands may be repeated; once is for a connection that went stale.
		MaxRetries: 1, MinRetryBackoff: 5 * time.Millisecond, MaxRetryBackoff: 20 * time.Millisecond, DialerRetries: 1,
		// Nothing an ACL must allow in addition.
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if cfg.Credentials != nil {
		o.CredentialsProviderContext = func(context.Context) (string, string, error) { return cfg.Credentials.ask() }
	}
	if s := cfg.Sentinel; s != nil {
		o.Addrs, o.MasterName, o.OnConnect = s.Addresses, s.Master, s.authenticate
	}
	return o
}

// ask refuses a user without a password: the client would become the default user.
func (c Credentials) ask() (username, password string, err error) {
	username, password, err = c()
	if err == nil && password == "" {
		err = errors.New("redis: the password is empty")
	}
	return username, password, err
}

// authenticate follows the password of the Sentinels, which the client takes only once
// and for all. It is called for every new connection, those to the master included:
// these carry the client's made-up address.
func (s *Sentinel) authenticate(ctx context.Context, c *redis.Conn) error {
	if s.Credentials == nil || strings.HasPrefix(c.String(), "Redis<FailoverClient ") {
		return nil
	}
	username, password, err := s.Credentials.ask()
	if err != nil {
		return fmt.Errorf("sentinel: %w", err)
	}
	if username == "" {
		err = c.Auth(ctx, password).Err()
	} else {
		err = c.AuthACL(ctx, username, password).Err()
	}
	if err != nil {
		return fmt.Errorf("sentinel: %w", err)
	}
	return nil
}

// dial makes a connection, with TLS as it is configured at this moment.
func (cfg Config) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: cfg.DialTimeout} // of the handshake, too
	if cfg.TLS == nil {
		return d.DialContext(ctx, network, address)
	}
	t, err := cfg.TLS()
	if err != nil {
		return nil, fmt.Errorf("redis TLS: %w", err)
	}
	return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, network, address)
}
