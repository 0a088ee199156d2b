package session_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

const issuer = "https://idp.test"

// person makes a session of somebody.
func person(t testing.TB, m *session.Manager, iss, sub, sid string) session.ID {
	t.Helper()
	s := alice(t)
	s.Identity.Issuer, s.Identity.Subject, s.Tokens.ProviderSession = iss, sub, sid
	id, _, err := m.Create(t.Context(), rand.Text(), s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func over(t testing.TB, m *session.Manager, id session.ID) bool {
	t.Helper()
	_, err := m.Load(t.Context(), id, false)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		t.Fatal(err)
	}
	return err != nil
}

// C14, G5, G6: everything of a user at an issuer, or of one session at the provider, and
// nothing else.
func TestEndUser(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	first, second := person(t, m, issuer, "alice", "s1"), person(t, m, issuer, "alice", "s2")
	kept := person(t, m, issuer, "alice", "s3")
	bob, elsewhere := person(t, m, issuer, "bob", "s1-of-bob"), person(t, m, "https://b.test", "alice", "s1")
	if n, err := m.EndProviderSession(t.Context(), issuer, "s1"); n != 1 || err != nil {
		t.Errorf("EndProviderSession = %d, %v, want 1", n, err)
	}
	if !over(t, m, first) || over(t, m, second) {
		t.Error("sid ends another session than its own")
	}
	if n, err := m.EndUser(t.Context(), issuer, "alice", kept.Handle()); n != 1 || err != nil {
		t.Errorf("EndUser = %d, %v, want 1", n, err)
	}
	if !over(t, m, second) || over(t, m, kept) {
		t.Error("EndUser did not spare the one it was told to, and it alone")
	}
	if over(t, m, bob) || over(t, m, elsewhere) {
		t.Error("somebody else was signed out")
	}
	if n, err := m.EndUser(t.Context(), issuer, "nobody"); n != 0 || err != nil {
		t.Errorf("EndUser of nobody = %d, %v", n, err)
	}
}

// B6: after everything of a user was ended, the store lists nothing of him.
func TestEndUserLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := session.NewMemory(0)
		m := newManager(t, store)
		for range 3 {
			person(t, m, issuer, "alice", rand.Text())
		}
		if _, err := m.EndUser(t.Context(), issuer, "alice"); err != nil {
			t.Fatal(err)
		}
		if list, err := m.List(t.Context(), issuer, "alice"); err != nil || len(list) != 0 {
			t.Errorf("List = %v, %v", list, err)
		}
		time.Sleep(16 * time.Minute) // what ends logins that are under way has gone, too
		if _, err := store.Put(t.Context(), "a:purge", nil, time.Second); err != nil {
			t.Fatal(err)
		}
		if n, _ := session.Held(store); n != 1 {
			t.Errorf("the store holds %d things, want the one just written", n)
		}
	})
}

// A logout that races a login: what was begun before it does not survive it.
func TestEndDuringLogin(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(context.Context, *session.Manager) (int, error)
	}{
		{"user", func(ctx context.Context, m *session.Manager) (int, error) { return m.EndUser(ctx, issuer, "alice-17") }},
		{"sid", func(ctx context.Context, m *session.Manager) (int, error) {
			return m.EndProviderSession(ctx, issuer, "sid-9")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := session.NewMemory(0)
				ring := newRing(t)
				logins, logouts := manager(t, session.Config{Store: store, Ring: ring}), manager(t, session.Config{Store: store, Ring: ring})
				s := alice(t)
				s.Begun = time.Now()
				time.Sleep(2 * time.Second)
				if _, err := c.end(t.Context(), logouts); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				id, _, err := logins.Create(t.Context(), attempt, s)
				if !errors.Is(err, session.ErrNotFound) {
					t.Fatalf("Create = %v, %v, want ErrNotFound", id, err)
				}
				if list, err := logins.List(t.Context(), issuer, "alice-17"); err != nil || len(list) != 0 {
					t.Errorf("List = %v, %v", list, err)
				}
				s.Begun = time.Now() // a login that begins now is another matter
				if _, _, err := logins.Create(t.Context(), attempt+"2", s); err != nil {
					t.Errorf("Create of a login that began later: %v", err)
				}
			})
		})
	}
}

// Whatever the moment of a logout within a login, no session is left: the mark comes
// before the reading of the index, the index before the record, and the mark is looked
// at last.
func TestEndAtEveryMomentOfLogin(t *testing.T) {
	for step := range 4 {
		store := session.NewMemory(0)
		ring := newRing(t)
		logouts := manager(t, session.Config{Store: store, Ring: ring})
		at := &steps{Store: store, at: step, do: func() {
			if _, err := logouts.EndUser(t.Context(), issuer, "alice-17"); err != nil {
				t.Error(err)
			}
		}}
		s := alice(t)
		s.Begun = time.Now()
		_, _, created := manager(t, session.Config{Store: at, Ring: ring}).Create(t.Context(), attempt, s)
		list, err := logouts.List(t.Context(), issuer, "alice-17")
		if err != nil || !at.done {
			t.Fatalf("step %d reached: %v, List: %v", step, at.done, err)
		}
		if len(list) != 0 {
			t.Errorf("logout at step %d: Create = %v, %d sessions are left", step, created, len(list))
		}
	}
}

// steps does something before the call with a number.
type steps struct {
	session.Store
	mu    sync.Mutex // guards what follows
	n, at int
	do    func()
	done  bool
}

func (s *steps) step() {
	s.mu.Lock()
	now := s.n == s.at
	s.n++
	s.mu.Unlock()
	if now {
		s.do()
		s.done = true
	}
}

func (s *steps) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	s.step()
	mark, err := s.Store.Create(ctx, r)
	s.step()
	return mark, err
}

func (s *steps) Get(ctx context.Context, name string) ([]byte, error) {
	if strings.HasPrefix(name, "n:") {
		s.step()
	}
	return s.Store.Get(ctx, name)
}

// A session that was made while it could not be told whether its user was signed out is
// not handed out.
func TestCreateCannotTell(t *testing.T) {
	store := session.NewMemory(0)
	m := newManager(t, noMarks{store})
	if _, _, err := m.Create(t.Context(), attempt, alice(t)); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Create: %v", err)
	}
	if n, _ := session.Held(store); n != 1 { // the mark of the attempt
		t.Errorf("%d things are left", n)
	}
}

type noMarks struct{ session.Store }

func (s noMarks) Get(ctx context.Context, name string) ([]byte, error) {
	if strings.HasPrefix(name, "n:") {
		return nil, errors.New("down")
	}
	return s.Store.Get(ctx, name)
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.NewMemory(0))
		old := person(t, m, issuer, "alice", "s1")
		created := time.Now()
		time.Sleep(30 * time.Minute)
		young := person(t, m, issuer, "alice", "s2")
		person(t, m, issuer, "bob", "s3")
		time.Sleep(5 * time.Minute)
		if over(t, m, old) {
			t.Fatal("it is over")
		}
		list, err := m.List(t.Context(), issuer, "alice")
		if err != nil || len(list) != 2 {
			t.Fatalf("List = %v, %v, want two", list, err)
		}
		if list[0].Handle != old.Handle() || list[1].Handle != young.Handle() {
			t.Error("the one seen last is not first")
		}
		if l := list[0]; l.Summary != (session.Summary{Device: "Firefox", Address: "192.0.2.1"}) || !l.Created.Equal(created) || time.Since(l.Seen) > time.Minute {
			t.Errorf("List says %+v", l)
		}
		if l := list[1]; time.Since(l.Seen) < 4*time.Minute || l.Seen.Before(l.Created) {
			t.Errorf("List says %+v", l)
		}
		if err := m.EndHandle(t.Context(), old.Handle()); err != nil || !over(t, m, old) {
			t.Errorf("EndHandle: %v", err)
		}
	})
}

// An ending that could not be written says so, and counts only what was.
func TestEndUserFails(t *testing.T) {
	store := &faulty{Store: session.NewMemory(0)}
	m := newManager(t, store)
	person(t, m, issuer, "alice", "s1")
	store.ended = errors.New("down")
	if n, err := m.EndUser(t.Context(), issuer, "alice"); n != 0 || err == nil {
		t.Errorf("EndUser = %d, %v", n, err)
	}
}

// A user is signed out although the store has no room for the mark: what is ended
// makes room.
func TestEndUserOfFullStore(t *testing.T) {
	store := &cramped{Store: session.NewMemory(0)}
	m := newManager(t, store)
	ids := []session.ID{person(t, m, issuer, "alice", "s1"), person(t, m, issuer, "alice", "s2")}
	store.full = true
	if n, err := m.EndUser(t.Context(), issuer, "alice"); n != 2 || err != nil {
		t.Errorf("EndUser = %d, %v, want 2", n, err)
	}
	for _, id := range ids {
		if !over(t, m, id) {
			t.Error("a session is left")
		}
	}
	if store.full = true; !store.raised {
		t.Error("logins that are under way were not ended")
	}
	if n, err := m.EndUser(t.Context(), issuer, "alice"); !errors.Is(err, session.ErrFull) {
		t.Errorf("EndUser without a mark = %d, %v, want ErrFull", n, err)
	}
}

// cramped has room for a mark only after something was ended.
type cramped struct {
	session.Store
	full, raised bool
}

func (c *cramped) End(ctx context.Context, h session.Handle, index []string) error {
	c.full = false
	return c.Store.End(ctx, h, index)
}

func (c *cramped) Raise(ctx context.Context, name string, value []byte, life time.Duration) error {
	if c.full {
		return session.ErrFull
	}
	c.raised = true
	return c.Store.Raise(ctx, name, value, life)
}
