package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// keyFileOf is what "keys new" would have printed at a time.
func keyFileOf(t *testing.T, created time.Time) (seal.Key, string) {
	t.Helper()
	key := seal.NewKey(created)
	text, err := key.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return key, string(text)
}

// What keys new prints is a key file as it stands.
func TestKeysNew(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := keysCommand()
	c.SetArgs([]string{"new"})
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ParseKey(out.Bytes()); err != nil {
		t.Errorf("the key that was printed cannot be read: %v", err)
	}
}

// What keys list prints of a rotation.
func TestKeysList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	var keys []seal.Key
	var secrets []string
	for i, age := range []time.Duration{72 * time.Hour, 24 * time.Hour, 2 * time.Hour, time.Minute} {
		key, text := keyFileOf(t, now.Add(-age))
		name := filepath.Join(dir, "keys", fmt.Sprint(i))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		keys, secrets = append(keys, key), append(secrets, strings.Fields(text)[3])
	}
	conf := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(conf, []byte(open0+"sessions: {store: {memory: {}}, key_files: [keys/*]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, text, stderr := runWith("keys", "list", "--config", conf)
	if code != 0 || stderr != "" {
		t.Fatalf("keys list = %d %q", code, stderr)
	}
	at := func(d time.Duration) string { return local(now.Add(d)) }
	const delay, absolute = 5 * time.Minute, 12 * time.Hour
	want := [][]string{
		{"ID", "CREATED", "SEALS", "MUST STAY", "FILE"},
		{keys[3].ID, at(-time.Minute), "from " + at(delay-time.Minute), "not decided: it is the newest"},
		{keys[2].ID, at(-2 * time.Hour), "now, since " + at(delay-2*time.Hour), "until " + at(delay-time.Minute+absolute)},
		{keys[1].ID, at(-24 * time.Hour), "until " + at(delay-2*time.Hour), "until " + at(delay-2*time.Hour+absolute)},
		{keys[0].ID, at(-72 * time.Hour), "until " + at(delay-24*time.Hour), "no more, since " + at(delay-24*time.Hour+absolute)},
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		for _, part := range want[i] {
			if !strings.Contains(line, part) {
				t.Errorf("line %d is %q, want %q in it", i, line, part)
			}
		}
	}
	code, asJSON, _ := runWith("keys", "list", "--json", "-c", conf)
	for _, part := range []string{
		`"id": "` + keys[0].ID + `"`, `"file": "` + filepath.Join(dir, "keys", "0") + `"`, `"removable": true`, `"seals_now": true`,
		`"keep_until": "` + now.Add(delay-2*time.Hour+absolute).Format(time.RFC3339) + `"`,
	} {
		if code != 0 || !strings.Contains(asJSON, part) {
			t.Errorf("keys list --json = %d, no %s in\n%s", code, part, asJSON)
		}
	}
	for _, secret := range secrets { // V2
		if strings.Contains(text+asJSON, secret) {
			t.Error("a sealing key was printed")
		}
	}
}

func TestKeysListRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "junk"), []byte("gatehouse-key-v1 hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{open0, "sessions.key_files: names no file"},
		{open0 + "sessions: {store: {memory: {}}, key_files: [" + dir + "/none/*]}", "no file matches"},
		{open0 + "sessions: {store: {memory: {}}, key_files: [" + dir + "/junk]}", dir + "/junk: key file has 2 fields"},
	} {
		code, stdout, stderr := runWith("keys", "list", "-c", file(t, c.text))
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("keys list = %d %q %q, want %q", code, stdout, stderr, c.want)
		}
	}
}

// A first key, as a first start uses it.
func TestKeysListOfOne(t *testing.T) {
	t.Parallel()
	var key bytes.Buffer
	if code := run([]string{"keys", "new"}, &key, io.Discard); code != 0 {
		t.Fatalf("keys new = %d", code)
	}
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, key.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := runWith("keys", "list", "-c", file(t, open0+"sessions: {store: {memory: {}}, key_files: ["+name+"]}"))
	if code != 0 || !strings.Contains(stdout, "now (oldest, seals at first start)") || !strings.Contains(stdout, "not decided: it is the newest") {
		t.Errorf("keys list = %d %q", code, stdout)
	}
}
