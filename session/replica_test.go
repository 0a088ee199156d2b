package session_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// line is the way from one replica to the store they share. It counts, and breaks.
type line struct {
	session.Store
	loads atomic.Int64

	mu    sync.Mutex // guards what follows
	err   error      // of every call
	delay time.Duration
	deaf  bool // endings are lost on the way
	watch session.Watcher
}

func (l *line) set(change func(*line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// pass is on the way of every call.
func (l *line) pass(ctx context.Context) error {
	l.mu.Lock()
	err, delay := l.err, l.delay
	l.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (l *line) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	l.loads.Add(1)
	if err := l.pass(ctx); err != nil {
		return session.Record{}, 0, err
	}
	return l.Store.Load(ctx, h, f)
}

func (l *line) Replace(ctx context.Context, r session.Record, have string) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	return l.Store.Replace(ctx, r, have)
}

func (l *line) End(ctx context.Context, h session.Handle, index []string) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	return l.Store.End(ctx, h, index)
}

func (l *line) Put(ctx context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	if err := l.pass(ctx); err != nil {
		return nil, err
	}
	return l.Store.Put(ctx, name, value, life)
}

func (l *line) Watch(ctx context.Context, w session.Watcher) error {
	l.set(func(l *line) { l.watch = w })
	hear := w.Ended
	w.Ended = func(h session.Handle) {
		l.mu.Lock()
		deaf := l.deaf
		l.mu.Unlock()
		if !deaf {
			hear(h)
		}
	}
	return l.Store.Watch(ctx, w)
}

// alive says what a real store would find out about its feed.
func (l *line) alive(alive bool) {
	l.mu.Lock()
	w := l.watch
	l.mu.Unlock()
	w.Alive(alive)
}

// replica is a manager with its line.
type replica struct {
	*session.Manager
	line *line
	ring *seal.Ring
}

// replicas share a store, a ring and a provider, and run until the test ends.
func replicas(t *testing.T, n int, cfg session.Config) []replica {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = session.NewMemory(0)
	}
	if cfg.Ring == nil {
		cfg.Ring = newRing(t)
	}
	ctx, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		end()
		running.Wait()
	})
	all := make([]replica, n)
	for i := range all {
		l := &line{Store: cfg.Store}
		c := cfg
		c.Store = l
		m := manager(t, c)
		all[i] = replica{m, l, cfg.Ring}
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	return all
}

// provider rotates refresh tokens, and takes the reuse of an old one for theft.
type provider struct {
	mu     sync.Mutex // guards what follows
	takes  time.Duration
	err    error         // of every call, after takes
	life   time.Duration // of access tokens
	calls  int
	token  string // the refresh token that is good
	reused bool
	groups []string
	during func() // runs while the provider works
}

func newProvider() *provider {
	return &provider{life: 10 * time.Minute, token: "refresh-token", groups: []string{"staff"}}
}

// signIn is a session that the provider has just attested.
func (p *provider) signIn(t testing.TB, m *session.Manager) session.ID {
	t.Helper()
	s := alice(t)
	p.mu.Lock()
	s.Tokens.Refresh, s.Tokens.AccessExpires = p.token, time.Now().Add(p.life)
	p.mu.Unlock()
	id, _, err := m.Create(t.Context(), rand.Text(), s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *provider) renew(ctx context.Context, s *session.Session) (*session.Session, error) {
	p.mu.Lock()
	p.calls++
	n, takes, err, good, during := p.calls, p.takes, p.err, s.Tokens.Refresh == p.token, p.during
	if !good {
		p.reused = true
	} else if err == nil {
		p.token = fmt.Sprint("refresh-token-", n)
	}
	next, life, groups := p.token, p.life, p.groups
	p.mu.Unlock()
	if during != nil {
		during()
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case err != nil:
		return nil, err
	case !good:
		return nil, fmt.Errorf("reused: %w", session.ErrRevoked)
	}
	identity := *s.Identity
	identity.Groups = groups
	return &session.Session{Identity: &identity, Tokens: &session.Tokens{
		Access: fmt.Sprint("access-", n), Refresh: next, ID: s.Tokens.ID, AccessExpires: time.Now().Add(life), ProviderSession: s.Tokens.ProviderSession,
	}}, nil
}

// count returns how often the provider was asked, and fails if an old token came back.
func (p *provider) count(t testing.TB) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reused {
		t.Error("the provider saw a refresh token twice")
	}
	return p.calls
}

func (p *provider) set(change func(*provider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// check loads as a request does that has a second.
func check(t testing.TB, r replica, id session.ID, tokens bool) (*session.Session, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return r.Load(ctx, id, tokens)
}

func wantAllowed(t testing.TB, r replica, id session.ID) *session.Session {
	t.Helper()
	s, err := check(t, r, id, false)
	if err != nil {
		t.Fatalf("Load: %v, want the session", err)
	}
	return s
}

func wantOver(t testing.TB, r replica, id session.ID) {
	t.Helper()
	if _, err := check(t, r, id, false); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load: %v, want ErrNotFound", err)
	}
}

// wantUnknown: nobody may pass, and nobody is signed out.
func wantUnknown(t testing.TB, r replica, id session.ID) {
	t.Helper()
	if s, err := check(t, r, id, false); err == nil || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrDamaged) {
		t.Errorf("Load: %v, %v, want an error that says neither yes nor no", s, err)
	}
}
