package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/redisstore"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// buildRing reads the sealing keys, or makes one when none are configured: then
// sessions end with the process, as those of a memory store do anyway.
func buildRing(cfg *config.Config) (*seal.Ring, error) {
	keys := []seal.Key{seal.NewKey(time.Now())}
	if len(cfg.Sessions.KeyFiles) > 0 {
		files, err := readKeyFiles(cfg)
		if err != nil {
			return nil, badKeys(cfg, err)
		}
		keys = keysOf(files)
	}
	return seal.NewRing(keys, cfg.Sessions.ActivationDelay, nil)
}

// buildStore reads files, and talks to nobody.
func buildStore(cfg *config.Config, log *slog.Logger) (session.Store, error) {
	s := cfg.Sessions.Store
	if s.Redis == nil {
		return session.NewMemory(int64(s.Memory.SizeMiB) << 20), nil
	}
	rc, err := redisConfig(cfg, s.Redis, log)
	if err != nil {
		return nil, err
	}
	return redisstore.New(rc)
}

// timedStore measures the calls to a store. That nothing was found is no error.
type timedStore struct {
	session.Store
	measure func(operation string, err error, took time.Duration)
}

func (s timedStore) since(operation string, start time.Time, err error) {
	if errors.Is(err, session.ErrNotFound) {
		err = nil
	}
	s.measure(operation, err, time.Since(start))
}

func (s timedStore) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	start := time.Now()
	mark, err := s.Store.Create(ctx, r)
	s.since("create", start, err)
	return mark, err
}

func (s timedStore) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	start := time.Now()
	r, left, err := s.Store.Load(ctx, h, f)
	s.since("load", start, err)
	return r, left, err
}

func (s timedStore) Touch(ctx context.Context, h session.Handle, idle time.Duration) error {
	start := time.Now()
	err := s.Store.Touch(ctx, h, idle)
	s.since("touch", start, err)
	return err
}

func (s timedStore) End(ctx context.Context, h session.Handle, index []string) error {
	start := time.Now()
	err := s.Store.End(ctx, h, index)
	s.since("end", start, err)
	return err
}

func (s timedStore) Replace(ctx context.Context, r session.Record, have string) error {
	start := time.Now()
	err := s.Store.Replace(ctx, r, have)
	s.since("replace", start, err)
	return err
}

func (s timedStore) List(ctx context.Context, index []string) ([]session.Handle, error) {
	start := time.Now()
	handles, err := s.Store.List(ctx, index)
	s.since("list", start, err)
	return handles, err
}

func (s timedStore) Put(ctx context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	start := time.Now()
	held, err := s.Store.Put(ctx, name, value, life)
	s.since("put", start, err)
	return held, err
}

func (s timedStore) Raise(ctx context.Context, name string, value []byte, life time.Duration) error {
	start := time.Now()
	err := s.Store.Raise(ctx, name, value, life)
	s.since("raise", start, err)
	return err
}

func (s timedStore) Get(ctx context.Context, name string) ([]byte, error) {
	start := time.Now()
	value, err := s.Store.Get(ctx, name)
	s.since("get", start, err)
	return value, err
}

func (s timedStore) Take(ctx context.Context, name string) ([]byte, error) {
	start := time.Now()
	value, err := s.Store.Take(ctx, name)
	s.since("take", start, err)
	return value, err
}

func (s timedStore) Drop(ctx context.Context, name string, value []byte) error {
	start := time.Now()
	err := s.Store.Drop(ctx, name, value)
	s.since("drop", start, err)
	return err
}
