package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

func (g *gate) allows(path string) bool {
	g.t.Helper()
	return check(g.t, g.dial(), "app.localhost:10000", path, nil).GetStatus().GetCode() == int32(codes.OK)
}

// A reload that failed for a missing file is tried again when it appears, although the
// configuration stays the same. It is said once, and counted once.
func TestReloadWhenAMissingFileAppears(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{})
	good := fmt.Sprintf(base, idp.Issuer())
	g := start(t, good)
	g.address("ops")
	next := strings.ReplaceAll(good, "paths: [/open]", "paths: [/new]")
	g.write("gatehouse.yaml", strings.ReplaceAll(next, "secret_file: secret", "secret_file: late"))
	g.await(`providers\[0\].client.secret_file: the file cannot be read`)
	time.Sleep(2*lookEvery + 500*time.Millisecond) // two more looks, in which nothing may be said
	if !g.allows("/open") {
		t.Error("the old configuration is gone")
	}
	g.write("late", "mesh-secret\n")
	g.await(`configuration reloaded`)
	if g.allows("/open") || !g.allows("/new") {
		t.Error("the new configuration is not in use")
	}
	if n := strings.Count(g.log.String(), "was not reloaded"); n != 1 {
		t.Errorf("the failure was said %d times", n)
	}
	if metrics := g.metric("gatehouse_config_reloads_total"); !strings.Contains(metrics, `{result="failure"} 1`) {
		t.Errorf("counted as %s", metrics)
	}
}

// A reload that fails because of what only a restart can change says so, once.
func TestReloadThatNeedsARestart(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{})
	g := start(t, open0)
	g.await(`"listener":"grpc"`)
	g.write("gatehouse.yaml", fmt.Sprintf(base, idp.Issuer()))
	g.await(`sessions need a store.*until a restart the old values of listen, sessions.store stay in use`)
	time.Sleep(2*lookEvery + 500*time.Millisecond) // two more looks, in which nothing may be said
	if n := strings.Count(g.log.String(), "restart"); n != 1 {
		t.Errorf("said %d times:\n%s", n, g.log)
	}
}

// A configuration that was caught half-written, and reads well all the same, is
// followed by the next look.
func TestReloadOfHalfAFile(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{})
	good := fmt.Sprintf(base, idp.Issuer())
	g := start(t, good)
	g.address("ops")
	whole := strings.ReplaceAll(good, "paths: [/open]", "paths: [/new]")
	half := whole[:strings.Index(whole, "- {name: app,")]
	g.write("gatehouse.yaml", half)
	g.await(`configuration reloaded","config":"[^"]+","rules":1,`)
	g.write("gatehouse.yaml", whole)
	g.await(`configuration reloaded","config":"[^"]+","rules":3,`)
	if !g.allows("/new") {
		t.Error("the whole configuration is not in use")
	}
}

// trigger calls do at the first write: when a process says that it starts, it has read
// its configuration and does not watch it yet.
type trigger struct {
	*sink
	once sync.Once
	do   func()
}

func (w *trigger) Write(p []byte) (int, error) {
	w.once.Do(w.do)
	return w.sink.Write(p)
}

// What is written while the process starts is not missed.
func TestChangeWhileStarting(t *testing.T) {
	t.Parallel()
	g := &gate{t: t, dir: t.TempDir(), log: &sink{}, done: make(chan struct{})}
	g.write("gatehouse.yaml", open0)
	tell := told{make(chan os.Signal), make(chan struct{})}
	ctx, end := context.WithCancel(t.Context())
	logs := &trigger{sink: g.log, do: func() {
		g.write("gatehouse.yaml", strings.ReplaceAll(open0, "{name: open,", "{name: changed,"))
	}}
	go func() {
		g.err = serve(ctx, filepath.Join(g.dir, "gatehouse.yaml"), logs, tell)
		close(g.done)
	}()
	t.Cleanup(func() { end(); <-g.done })
	g.await(`configuration reloaded`)
}

// Sealing keys: a file that is missing for a while, or half-written, leaves the old keys in use.
func TestSealingKeysComeAndGo(t *testing.T) {
	t.Parallel()
	idp := oidctest.Start(t, oidctest.Config{})
	dir := t.TempDir()
	one, two := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old, oldText := keyFileOf(t, time.Now().Add(-48*time.Hour))
	late, lateText := keyFileOf(t, time.Now().Add(-time.Hour))
	put(one, oldText)
	g := start(t, strings.ReplaceAll(fmt.Sprintf(base, idp.Issuer()), "memory: {}}", "memory: {}}, key_files: ["+dir+"/*]"))
	g.address("ops")

	if err := os.Rename(one, filepath.Join(filepath.Dir(dir), "away")); err != nil {
		t.Fatal(err)
	}
	g.await(`the sealing keys changed but cannot be used; the old ones stay","error":"no file matches`)
	put(one, oldText[:40])
	g.await(`the old ones stay","error":"` + one + `: key file has`)
	put(one, oldText)
	g.await(`sealing keys read again","keys":1`)
	if strings.Contains(g.log.String(), "came too late") || strings.Contains(g.log.String(), "was removed") {
		t.Errorf("the same key is warned of:\n%s", g.log)
	}

	put(two, lateText) // its time to reach the others is over
	g.await(`sealing key ` + late.ID + ` came too late and seals at once`)
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	g.await(`sealing keys read again","keys":1}\n.*sealing key ` + old.ID + ` was removed while it was needed`)
	for _, text := range []string{oldText, lateText} {
		if strings.Contains(g.log.String(), strings.Fields(text)[3]) {
			t.Error("a sealing key is in the log")
		}
	}
}

// badRotation is silent about a rotation by the book.
func TestGoodRotation(t *testing.T) {
	t.Parallel()
	const delay, absolute = 5 * time.Minute, 12 * time.Hour
	made := time.Now().Add(-time.Hour)
	now := made
	old, young := seal.NewKey(made.Add(-time.Hour)), seal.NewKey(made)
	ring, err := seal.NewRing([]seal.Key{old}, delay, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	change := func(keys ...seal.Key) []string {
		t.Helper()
		before := ring.Schedule(absolute, nil)
		if err := ring.Set(keys); err != nil {
			t.Fatal(err)
		}
		return badRotation(before, ring.Schedule(absolute, nil))
	}
	now = made.Add(4 * time.Minute)
	if w := change(old, young); w != nil {
		t.Errorf("a new key in time: %q", w)
	}
	if w := change(old); w != nil {
		t.Errorf("taken back before it sealed: %q", w)
	}
	change(old, young)
	now = made.Add(delay + absolute)
	if w := change(young); w != nil {
		t.Errorf("the old key removed after its time: %q", w)
	}
	change(old, young)
	now = made.Add(delay + absolute - time.Second)
	if w := change(young); len(w) != 1 || !strings.Contains(w[0], old.ID) {
		t.Errorf("the old key removed a second early: %q", w)
	}
}

// What failed is tried again without a change that a look can see, at most a twentieth of
// the time, and is said only when there is something new to say.
func TestAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, said := attempt{}, []string(nil)
		missing := errors.New("missing")
		make := func(content string, took time.Duration, err error) {
			a.make(sha256.Sum256([]byte(content)), false, func() error { time.Sleep(took); return err }, func(err error) { said = append(said, err.Error()) })
		}
		due := func(content string) bool { return a.due(sha256.Sum256([]byte(content))) }
		make("a", time.Second, missing)
		if due("a") || !due("b") {
			t.Errorf("right after a failure: due for the same content %v, for another %v", due("a"), due("b"))
		}
		time.Sleep(20 * time.Second)
		if !due("a") {
			t.Error("a failure is never tried again")
		}
		make("a", time.Second, missing)
		make("a", time.Second, errors.New("broken"))
		make("b", time.Second, errors.New("broken"))
		if got := strings.Join(said, " "); got != "missing broken broken" {
			t.Errorf("said %q", got)
		}
		make("b", time.Second, nil)
		time.Sleep(time.Hour)
		if due("b") || !due("a") {
			t.Error("a success is tried again, or a change is not")
		}
	})
}
