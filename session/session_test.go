package session_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const attempt = "an attempt is a long secret"

// plain compares what others see of a session.
var plain = cmpopts.IgnoreUnexported(session.Session{})

func newRing(t testing.TB) *seal.Ring {
	t.Helper()
	r, err := seal.NewRing([]seal.Key{seal.NewKey(time.Now().Add(-time.Hour))}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newManager(t testing.TB, store session.Store) *session.Manager {
	t.Helper()
	return manager(t, session.Config{Store: store, Ring: newRing(t)})
}

// manager fills in limits of one and twelve hours.
func manager(t testing.TB, cfg session.Config) *session.Manager {
	t.Helper()
	cfg.IdleTimeout, cfg.AbsoluteTimeout = time.Hour, 12*time.Hour
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func alice(t testing.TB) session.Session {
	t.Helper()
	claims, err := authz.ParseClaims([]byte(`{"sub":"alice-17","email":"alice@good.test","big":12345678901234567890123,"exact":1.10,"exp":1e3,"html":"<&>","deep":{"a":[1,null,true,"\u2028"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return session.Session{
		Identity: &authz.Identity{
			Provider: "corp", Issuer: "https://idp.test", Subject: "alice-17", User: "alice", Email: "alice@good.test", EmailVerified: true,
			PreferredUsername: "ali", Groups: []string{"staff", "a,b"}, Audience: []string{"mesh"}, Claims: claims,
			Expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		},
		Tokens: &session.Tokens{
			Access: "eyJaccess", Refresh: "refresh-token", ID: "eyJid.x.y",
			AccessExpires: time.Date(2026, 1, 2, 4, 4, 5, 0, time.UTC), ProviderSession: "sid-9",
		},
		Summary: session.Summary{Device: "Firefox", Address: "192.0.2.1"},
	}
}

func create(t testing.TB, m *session.Manager) (session.ID, *session.Session) {
	t.Helper()
	id, s, err := m.Create(t.Context(), rand.Text(), alice(t))
	if err != nil {
		t.Fatal(err)
	}
	return id, s
}

func TestLoad(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	given := alice(t)
	carrying := given
	carried := *given.Identity
	carried.Tokens = &authz.Tokens{Access: "only what a rule forwards"}
	carrying.Identity = &carried
	id, made, err := m.Create(t.Context(), attempt, carrying)
	if err != nil {
		t.Fatal(err)
	}
	if carried.Session != "" || carried.Tokens == nil {
		t.Error("Create changed the identity that it was given")
	}
	want := given
	identity := *given.Identity
	identity.Session = id.Handle().Name()
	want.Identity, want.Handle, want.Created, want.Expires = &identity, id.Handle(), made.Created, made.Created.Add(12*time.Hour)
	if diff := cmp.Diff(want, *made, plain); diff != "" {
		t.Errorf("Create: %s", diff)
	}
	want.Summary = session.Summary{}
	got, err := m.Load(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, plain); diff != "" {
		t.Errorf("Load with tokens: %s", diff)
	}
	want.Tokens = nil
	if got, err = m.Load(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, plain); diff != "" {
		t.Errorf("Load without tokens: %s", diff)
	}
}

// L2: a repeat gets the same session, for 60 seconds.
func TestAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, session.NewMemory(0))
		if _, _, err := m.Made(t.Context(), attempt); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Made before Create: %v", err)
		}
		id, _, err := m.Create(t.Context(), attempt, alice(t))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, s, err := m.Create(t.Context(), attempt, alice(t)); err != nil || got != id || s.Handle != id.Handle() {
				t.Errorf("second Create: %v, %v, %v", got == id, s, err)
			}
			if got, s, err := m.Made(t.Context(), attempt); err != nil || got != id || s.Handle != id.Handle() {
				t.Errorf("Made: %v, %v, %v", got == id, s, err)
			}
		}
		other, _, err := m.Create(t.Context(), attempt+"2", alice(t))
		if err != nil || other == id {
			t.Errorf("another attempt got the same session, %v", err)
		}
		time.Sleep(time.Minute)
		if _, _, err := m.Made(t.Context(), attempt); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Made after a minute: %v", err)
		}
	})
}

func TestAttemptOfEndedSession(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	id, _, err := m.Create(t.Context(), attempt, alice(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.End(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Made(t.Context(), attempt); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Made: %v", err)
	}
	if _, _, err := m.Create(t.Context(), attempt, alice(t)); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Create brought an ended session back: %v", err)
	}
}

// A replica that has not heard of the mark in time gets the session of the faster one.
func TestAttemptOverLost(t *testing.T) {
	store := session.NewMemory(0)
	ring := newRing(t)
	m := manager(t, session.Config{Store: store, Ring: ring})
	first, _, err := m.Create(t.Context(), attempt, alice(t))
	if err != nil {
		t.Fatal(err)
	}
	slow := manager(t, session.Config{Store: unmarked{store}, Ring: ring})
	if got, s, err := slow.Create(t.Context(), attempt, alice(t)); err != nil || got != first || s.Handle != first.Handle() {
		t.Errorf("Create of the slower replica: the first session %v, %v, %v", got == first, s, err)
	}
	if held, _ := session.Held(store); held != 2 {
		t.Errorf("%d records and marks, want one of each", held)
	}
}

type unmarked struct{ session.Store }

func (unmarked) Get(context.Context, string) ([]byte, error) { return nil, session.ErrNotFound }

// A key that is not here yet is no damage: another replica has it, and the mark is good.
func TestAttemptUnderUnknownKey(t *testing.T) {
	store := session.NewMemory(0)
	if _, _, err := newManager(t, store).Create(t.Context(), attempt, alice(t)); err != nil {
		t.Fatal(err)
	}
	other := newManager(t, store)
	_, _, made := other.Made(t.Context(), attempt)
	_, _, created := other.Create(t.Context(), attempt, alice(t))
	for _, err := range []error{made, created} {
		if !errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, session.ErrDamaged) || errors.Is(err, session.ErrNotFound) {
			t.Errorf("mark under a key of another ring: %v, want ErrUnknownKey alone", err)
		}
	}
}

// C14, G6, G5: the sets that list a session differ by issuer, and by what they list.
func TestIndexNames(t *testing.T) {
	names := &indexed{Store: session.NewMemory(0)}
	m := newManager(t, names)
	add := func(issuer, subject, sid string) []string {
		s := alice(t)
		s.Identity.Issuer, s.Identity.Subject, s.Tokens.ProviderSession = issuer, subject, sid
		if _, _, err := m.Create(t.Context(), rand.Text(), s); err != nil {
			t.Fatal(err)
		}
		return names.last
	}
	base := add("https://a.test", "alice", "sid")
	if again := add("https://a.test", "alice", "sid"); !slices.Equal(again, base) || len(base) != 2 {
		t.Errorf("one user is listed in %q and %q", base, again)
	}
	for _, other := range [][]string{add("https://b.test", "alice", "sid"), add("https://a.tes", "talice", "tsid"), add("https://a.test", "sid", "alice")} {
		for _, name := range other {
			if slices.Contains(base, name) {
				t.Errorf("another user is listed in the same set %q", name)
			}
		}
	}
}

// indexed remembers the sets of the last record.
type indexed struct {
	session.Store
	last []string
}

func (i *indexed) Create(ctx context.Context, r session.NewRecord) ([]byte, error) {
	i.last = r.Index
	return i.Store.Create(ctx, r)
}

func TestAttemptRace(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	ids := make([]session.ID, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], _, err = m.Create(t.Context(), attempt, alice(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatal("one attempt made two sessions")
		}
	}
}

// C10, with the grain at which a request is written down.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration // between requests
		want  time.Duration // life
	}{
		{"idle", 61 * time.Minute, 61 * time.Minute},
		{"requests every 59 minutes", 59 * time.Minute, 12*time.Hour + 47*time.Minute}, // first request past 12 h
		{"requests every 5 minutes", 5 * time.Minute, 12 * time.Hour},
		{"requests every 30 seconds", 30 * time.Second, 12 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, session.NewMemory(0))
				id, made := create(t, m)
				for {
					time.Sleep(c.every)
					s, err := m.Load(t.Context(), id, false)
					if errors.Is(err, session.ErrNotFound) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					if !s.Expires.Equal(made.Expires) {
						t.Fatalf("the absolute end moved from %v to %v", made.Expires, s.Expires)
					}
				}
				if got := time.Since(made.Created); got != c.want {
					t.Errorf("session lived %v, want %v", got, c.want)
				}
			})
		})
	}
}

// faulty counts what reaches a store and replaces what it answers.
type faulty struct {
	session.Store
	load         func(session.Record, error) (session.Record, error)
	touched      int
	touch, ended error
}

func (f *faulty) Load(ctx context.Context, h session.Handle, fields session.Fields) (session.Record, time.Duration, error) {
	r, left, err := f.Store.Load(ctx, h, fields)
	if f.load != nil {
		r, err = f.load(r, err)
	}
	return r, left, err
}

func (f *faulty) Touch(ctx context.Context, h session.Handle, idle time.Duration) error {
	f.touched++
	if f.touch != nil {
		return f.touch
	}
	return f.Store.Touch(ctx, h, idle)
}

func (f *faulty) End(ctx context.Context, h session.Handle, index []string) error {
	if f.ended != nil {
		return f.ended
	}
	return f.Store.End(ctx, h, index)
}

func TestTouchIsCoarse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: session.NewMemory(0)}
		m := newManager(t, store)
		id, _ := create(t, m)
		for range 10 * 60 {
			time.Sleep(time.Second)
			if _, err := m.Load(t.Context(), id, false); err != nil {
				t.Fatal(err)
			}
		}
		if store.touched != 10 {
			t.Errorf("%d writes in ten minutes of one request a second, want 10", store.touched)
		}
	})
}

// Promise 7: a store error is never "not found", a failed touch is no error at all,
// and a session that ended during it is over.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("store is down")
		store := &faulty{Store: session.NewMemory(0)}
		m := newManager(t, store)
		id, _ := create(t, m)
		time.Sleep(10 * time.Minute)
		store.touch = down
		if _, err := m.Load(t.Context(), id, false); err != nil {
			t.Errorf("Load while Touch fails: %v", err)
		}
		store.touch = session.ErrNotFound
		if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load of a session that ends meanwhile: %v", err)
		}
		id, _ = create(t, m)
		store.touch, store.ended = nil, down
		if err := m.End(t.Context(), id); !errors.Is(err, down) {
			t.Errorf("End that could not be written: %v", err)
		}
		store.load = func(session.Record, error) (session.Record, error) { return session.Record{}, down }
		if _, err := m.Load(t.Context(), id, false); !errors.Is(err, down) || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load: %v", err)
		}
		store.ended = nil
		if err := m.End(t.Context(), id); err != nil {
			t.Errorf("End without knowing what: %v", err)
		}
		store.load = nil
		if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load after End: %v", err)
		}
	})
}

// D12: what was altered, cut or swapped is refused with its reason, and is no miss.
func TestDamagedRecord(t *testing.T) {
	store := &faulty{Store: session.NewMemory(0)}
	m := newManager(t, store)
	id, _ := create(t, m)
	other, _ := create(t, m)
	foreign, _, err := store.Store.Load(t.Context(), other.Handle(), session.FieldIdentity|session.FieldTokens)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	for _, c := range []struct {
		name string
		edit func(*session.Record)
		want error
	}{
		{"identity changed", func(r *session.Record) { r.Identity = flip(r.Identity, 40) }, session.ErrDamaged},
		{"identity cut", func(r *session.Record) { r.Identity = r.Identity[:20] }, session.ErrDamaged},
		{"identity missing", func(r *session.Record) { r.Identity = nil }, session.ErrDamaged},
		{"identity of another", func(r *session.Record) { r.Identity = foreign.Identity }, session.ErrDamaged},
		{"tokens changed", func(r *session.Record) { r.Tokens = flip(r.Tokens, 40) }, session.ErrDamaged},
		{"tokens of another", func(r *session.Record) { r.Tokens = foreign.Tokens }, session.ErrDamaged},
		{"tokens as identity", func(r *session.Record) { r.Identity = r.Tokens }, session.ErrDamaged},
		{"another revision", func(r *session.Record) { r.Version = "1.1" }, session.ErrDamaged},
		{"no version", func(r *session.Record) { r.Version = "" }, session.ErrDamaged},
		{"version is junk", func(r *session.Record) { r.Version = "1.0\x00" }, session.ErrDamaged},
		{"format zero", func(r *session.Record) { r.Version = "0.0" }, session.ErrDamaged},
		{"newer format", func(r *session.Record) { r.Version = "2.0" }, session.ErrNewer},
		{"key not here", func(r *session.Record) { r.Identity = flip(r.Identity, 0) }, seal.ErrUnknownKey},
	} {
		store.load = func(r session.Record, err error) (session.Record, error) {
			c.edit(&r)
			return r, err
		}
		s, err := m.Load(t.Context(), id, true)
		if s != nil || !errors.Is(err, c.want) || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrDamaged) != errors.Is(c.want, session.ErrDamaged) {
			t.Errorf("%s: Load = %v, %v, want %v", c.name, s, err, c.want)
		}
	}
	if err := m.End(t.Context(), id); err != nil {
		t.Errorf("a record that cannot be read cannot be ended: %v", err)
	}
}

// The store and a leaked ring open nothing without the ID.
func TestSealedUnderID(t *testing.T) {
	store := session.NewMemory(0)
	m := newManager(t, store)
	id, _ := create(t, m)
	wrong := session.ID(id.Handle()) // all that the store knows
	if _, err := m.Load(t.Context(), wrong, false); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("C2: a handle used as an ID: %v", err)
	}
	forged := &faulty{Store: store}
	forged.load = func(session.Record, error) (session.Record, error) {
		r, _, err := store.Load(t.Context(), id.Handle(), session.FieldIdentity)
		return r, err
	}
	if _, err := session.New(session.Config{Store: forged, Ring: newRing(t)}); err == nil {
		t.Error("New accepted a manager without limits")
	}
	if _, err := newManager(t, forged).Load(t.Context(), wrong, false); err == nil {
		t.Error("a record opened under another ID")
	}
}

func TestEnd(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	id, _ := create(t, m)
	other, _ := create(t, m)
	for range 2 { // ending what is not there is nil
		if err := m.End(t.Context(), id); err != nil {
			t.Error(err)
		}
		if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load after End: %v", err)
		}
	}
	if _, err := m.Load(t.Context(), other, false); err != nil {
		t.Errorf("another session of the same user: %v", err)
	}
}

// A session that was seen to be over does not come back when the clock is set back.
func TestClockSetBack(t *testing.T) {
	now := time.Now()
	m := manager(t, session.Config{Store: session.NewMemory(0), Ring: newRing(t), Now: func() time.Time { return now }})
	id, made := create(t, m)
	now = made.Expires
	if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
		t.Fatalf("Load at the absolute end: %v", err)
	}
	now = made.Created
	if _, err := m.Load(t.Context(), id, false); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load after the clock was set back: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	edited := func(edit func(*authz.Identity)) session.Session {
		s := alice(t)
		edit(s.Identity)
		return s
	}
	for _, c := range []struct {
		name, attempt string
		s             session.Session
	}{
		{"short attempt", "short", alice(t)},
		{"no identity", attempt, session.Session{}},
		{"too large", attempt, edited(func(i *authz.Identity) { i.Groups = []string{strings.Repeat("x", 2<<20)} })},
		{"not UTF-8", attempt, edited(func(i *authz.Identity) { i.Subject = "a\xff" })},
		{"claims that do not parse again", attempt, edited(func(i *authz.Identity) { i.Claims = authz.Claims{"x": strings.Repeat("[", 10), "y": deep(2000)} })},
	} {
		if _, _, err := m.Create(t.Context(), c.attempt, c.s); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
	s := alice(t)
	s.Tokens, s.Summary = nil, session.Summary{Device: strings.Repeat("é", 500) + "\xff"}
	if _, made, err := m.Create(t.Context(), attempt, s); err != nil || len(made.Summary.Device) != 256 {
		t.Errorf("without tokens and with a long device: %v, %v", made, err)
	}
}

func deep(n int) any {
	var v any = "bottom"
	for range n {
		v = []any{v}
	}
	return v
}

func TestNewRefuses(t *testing.T) {
	ring, store := newRing(t), session.NewMemory(0)
	for _, cfg := range []session.Config{
		{Ring: ring, IdleTimeout: 1, AbsoluteTimeout: 1},
		{Store: store, IdleTimeout: 1, AbsoluteTimeout: 1},
		{Store: store, Ring: ring, AbsoluteTimeout: 1},
		{Store: store, Ring: ring, IdleTimeout: 1},
		{Store: store, Ring: ring, IdleTimeout: 2, AbsoluteTimeout: 1},
	} {
		if _, err := session.New(cfg); err == nil {
			t.Errorf("New accepted idle %v, absolute %v", cfg.IdleTimeout, cfg.AbsoluteTimeout)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	m := newManager(t, session.NewMemory(0))
	id, s := create(t, m)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "id", id, "tokens", s.Tokens, "session", s)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "id", id, "tokens", s.Tokens, "session", s)
	all := log.String() + fmt.Sprintf("%v %+v %#v %x %s", id, s, *s.Tokens, id, s.Tokens) + fmt.Sprintf("%d %v", id, []any{id, s.Tokens, *s})
	for _, secret := range []string{s.Tokens.Access, s.Tokens.Refresh, s.Tokens.ID, fmt.Sprintf("%x", id[:])} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is printed: %s", secret, all)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	m := newManager(b, session.NewMemory(0))
	id, _ := create(b, m)
	for name, tokens := range map[string]bool{"identity": false, "tokens": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Load(b.Context(), id, tokens); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
