package main

import (
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/telemetry"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// replica is as much of a process as a rotation of sealing keys touches.
type replica struct {
	*program
	t        *testing.T
	keys     string // directory
	sessions *session.Manager
}

func newReplica(t *testing.T, store session.Store, files map[string]string) *replica {
	t.Helper()
	r := &replica{t: t, keys: t.TempDir()}
	for name, text := range files {
		r.put(name, text)
	}
	cfg, err := config.Parse("gatehouse.yaml", []byte(open0+"sessions: {store: {memory: {}}, idle_timeout: 12h, key_files: ['"+r.keys+"/*']}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := buildRing(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.program = &program{lasting: lasting{log: telemetry.NewLog(io.Discard), ring: ring}}
	r.current.Store(&graph{config: cfg})
	r.sessions, err = session.New(session.Config{Store: store, Ring: ring, IdleTimeout: 12 * time.Hour, AbsoluteTimeout: 12 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// put writes a file as of now, which in a bubble is not the time of the file system.
func (r *replica) put(name, text string) {
	r.t.Helper()
	file := filepath.Join(r.keys, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Now(), time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

// change does what a look at changed files does.
func (r *replica) change(do func()) {
	r.t.Helper()
	do()
	if err := r.reloadKeys(); err != nil {
		r.t.Fatal(err)
	}
}

// spare reports whether keys list lets a key go.
func (r *replica) spare(id string) bool {
	r.t.Helper()
	keys, err := listKeys(r.current.Load().config, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == id {
			return k.Removable
		}
	}
	r.t.Fatalf("keys list does not know %s", id)
	return false
}

// D15: replicas get a new sealing key three minutes apart, and the old one goes when keys
// list says so. At every moment each opens the sessions that the other made, and nobody
// is signed out before his time.
func TestRotationLosesNoSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, oldText := keyFileOf(t, time.Now())
		store := session.NewMemory(0)
		one, two := newReplica(t, store, map[string]string{"1": oldText}), newReplica(t, store, map[string]string{"1": oldText})
		made := map[session.ID]time.Time{}
		signIn := func(r *replica) {
			t.Helper()
			id, _, err := r.sessions.Create(t.Context(), rand.Text(), session.Session{
				Identity: &authz.Identity{Provider: "corp", Issuer: "https://idp.example.com", Subject: "alice"},
			})
			if err != nil {
				t.Fatal(err)
			}
			made[id] = time.Now()
		}
		checkAll := func(when string) {
			t.Helper()
			live := 0
			for id, at := range made {
				if time.Since(at) >= 12*time.Hour {
					continue
				}
				live++
				for i, r := range []*replica{one, two} {
					if _, err := r.sessions.Load(t.Context(), id, true); err != nil {
						t.Fatalf("%s: replica %d does not open a session that is %v old: %v", when, i, time.Since(at), err)
					}
				}
			}
			if live == 0 {
				t.Fatalf("%s: there is no session to look at", when)
			}
		}

		time.Sleep(time.Hour)
		young, youngText := keyFileOf(t, time.Now())
		for minute := range 10 {
			if minute == 1 {
				one.change(func() { one.put("2", youngText) })
			}
			if minute == 4 {
				two.change(func() { two.put("2", youngText) })
			}
			signIn(one)
			signIn(two)
			checkAll("while it spreads")
			time.Sleep(time.Minute)
		}
		if one.ring.Sealing() != young.ID || two.ring.Sealing() != young.ID {
			t.Error("the new key does not seal")
		}
		for !one.spare(old.ID) || !two.spare(old.ID) {
			time.Sleep(20 * time.Minute)
			signIn(one)
		}
		for _, r := range []*replica{one, two} {
			r.change(func() {
				if err := os.Remove(filepath.Join(r.keys, "1")); err != nil {
					t.Fatal(err)
				}
			})
			checkAll("after the removal")
		}
		if duties := one.ring.Schedule(12*time.Hour, nil); len(duties) != 1 || duties[0].ID != young.ID {
			t.Errorf("the old key is in use: %v", duties)
		}
		if want := time.Hour + 5*time.Minute + 12*time.Hour; time.Since(old.Created) < want {
			t.Errorf("the old key was let go %v after its creation, want %v", time.Since(old.Created), want)
		}
	})
}

// A client secret is read at every use; a file that is away or empty is an error, and no secret.
func TestClientSecretIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg, err := config.Parse(filepath.Join(dir, "gatehouse.yaml"), []byte(open0+"providers: [{name: corp, issuer: 'https://idp.example.com', client: {id: mesh, secret_file: secret}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	secret := providerConfig(cfg, &cfg.Providers[0], nil).Client.Secret
	for _, c := range []struct {
		content string
		ok      bool
	}{{"first\n", true}, {"", false}, {"second\n", true}, {"sec\nond", false}, {"third", true}} {
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := secret()
		if (err == nil) != c.ok || c.ok && got+"\n" != c.content && got != c.content || !c.ok && got != "" {
			t.Errorf("with %q in the file the secret is %q, %v", c.content, got, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "secret")); err != nil {
		t.Fatal(err)
	}
	if got, err := secret(); err == nil {
		t.Errorf("without the file the secret is %q", got)
	}
}
