package admin_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
)

func TestListenSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	l, err := admin.ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	if l, err := admin.ListenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("while somebody listens: %v, %v", l, err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the attempt broke the listener: %v", err)
	} else {
		conn.Close()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close the socket is there: %v", err)
	}

	// What a process that was killed leaves behind.
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	l, err = admin.ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatalf("with a stale socket: %v", err)
	}
	l.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if l, err := admin.ListenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v, %v", path, l, err)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file holds %q, %v", data, err)
	}
	if l, err := admin.ListenSocket(t.Context(), filepath.Join(dir, "no", "where")); err == nil {
		t.Errorf("in a directory that is not there: %v", l)
	}
}
