package session_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const code = "a code is a long secret"

func TestOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := session.NewMemory(0)
		seen := &puts{Store: store}
		m := newManager(t, seen)
		offer := func(code string) {
			t.Helper()
			if err := m.Offer(t.Context(), code, []byte("for you"), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		offer(code)
		if bytes.Contains(seen.value, []byte("for you")) || bytes.Contains([]byte(seen.name), []byte(code)) {
			t.Error("the store can read what was offered")
		}
		if got, err := m.Accept(t.Context(), code); err != nil || string(got) != "for you" {
			t.Errorf("Accept = %q, %v", got, err)
		}
		for name, c := range map[string]string{"again": code, "another": code + "2", "": ""} {
			if got, err := m.Accept(t.Context(), c); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Accept %s = %q, %v, want ErrNotFound", name, got, err)
			}
		}
		offer(code + "late")
		time.Sleep(time.Minute)
		if got, err := m.Accept(t.Context(), code+"late"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Accept too late = %q, %v", got, err)
		}
		if err := m.Offer(t.Context(), "short", nil, time.Minute); err == nil {
			t.Error("a short code was taken")
		}
	})
}

type puts struct {
	session.Store
	name  string
	value []byte
}

func (p *puts) Put(ctx context.Context, name string, value []byte, life time.Duration) ([]byte, error) {
	p.name, p.value = name, value
	return p.Store.Put(ctx, name, value, life)
}

// Of many who present a code at once one gets what was offered.
func TestAcceptOnce(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	if err := m.Offer(t.Context(), code, []byte("x"), time.Minute); err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := m.Accept(t.Context(), code); err == nil {
				got.Add(1)
			} else if !errors.Is(err, session.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d got it", got.Load())
	}
}

// What another ring sealed is no "not found": another replica has the key.
func TestAcceptUnderUnknownKey(t *testing.T) {
	store := session.NewMemory(0)
	if err := newManager(t, store).Offer(t.Context(), code, []byte("x"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := newManager(t, store).Accept(t.Context(), code); !errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Accept: %v", err)
	}
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := session.NewMemory(0)
		old, young := seal.NewKey(time.Now().Add(-time.Hour)), seal.NewKey(time.Now())
		ringOf := func(keys ...seal.Key) *seal.Ring {
			r, err := seal.NewRing(keys, 5*time.Minute, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		m := manager(t, session.Config{Store: store, Ring: ringOf(old)})
		ahead := manager(t, session.Config{Store: store, Ring: ringOf(old, young)}) // it has the new file already
		once := func(m *session.Manager, kind, text string) bool {
			t.Helper()
			first, err := m.Once(t.Context(), kind, text, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return first
		}
		if seen, err := m.Seen(t.Context(), "jti", "a"); seen || err != nil {
			t.Errorf("Seen before Once = %v, %v", seen, err)
		}
		if !once(m, "jti", "a") || once(m, "jti", "a") || once(ahead, "jti", "a") {
			t.Error("the same is first twice")
		}
		if !once(m, "jti", "b") || !once(m, "other", "a") {
			t.Error("another is not first")
		}
		time.Sleep(10 * time.Minute) // now ahead seals with the new key
		for _, m := range []*session.Manager{m, ahead} {
			if seen, err := m.Seen(t.Context(), "jti", "a"); !seen || err != nil {
				t.Errorf("Seen after Once = %v, %v", seen, err)
			}
		}
		if once(ahead, "jti", "a") {
			t.Error("the same is first again under a new key")
		}
		if !once(ahead, "jti", "c") {
			t.Error("another is not first under a new key")
		}
		time.Sleep(time.Hour)
		if !once(m, "jti", "a") {
			t.Error("it is remembered for too long")
		}
	})
}
