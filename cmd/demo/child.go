package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process in a group of its own: the terminal's Ctrl-C does not
// reach it, stop does, and what it starts ends with it.
type child struct {
	name string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
	err  error         // how, after done
}

// startChild runs a program and sends it to died when it ends. copyTo (may be
// nil) receives its output as well. It must be called from the main thread.
func startChild(name string, died chan<- *child, copyTo io.Writer, path string, args ...string) (*child, error) {
	c := &child{name: name, log: &tail{name: name, copyTo: copyTo}, done: make(chan struct{})}
	c.cmd = exec.Command(path, args...) // without a context: it is ended with its group, by terminate
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = ownGroup()
	// A grandchild that holds the output open must not keep Wait from returning.
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s does not start: %w", name, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
		died <- c
	}()
	return c, nil
}

// terminate asks the group to end.
func (c *child) terminate() { c.signal(syscall.SIGTERM) }

// reap waits for the child to end, at most for patience, and then kills what is left of its group.
func (c *child) reap(patience time.Duration) {
	select {
	case <-c.done:
	case <-time.After(patience):
	}
	c.signal(syscall.SIGKILL)
	<-c.done
}

func (c *child) signal(s syscall.Signal) {
	_ = syscall.Kill(-c.cmd.Process.Pid, s) // no such group: it has ended already
}

// how says how a child ended; only after done.
func (c *child) how() string {
	if _, ok := errors.AsType[*exec.ExitError](c.err); !ok && c.err != nil {
		return c.err.Error()
	}
	return c.cmd.ProcessState.String()
}

type deadChildError struct{ name, how, log string }

func (e *deadChildError) Error() string {
	return fmt.Sprintf("%s ended by itself (%s); its last lines:\n%s", e.name, e.how, e.log)
}

const tailLines = 15

// tail keeps the last lines of a log. It is safe for concurrent use.
type tail struct {
	name   string
	copyTo io.Writer

	mu    sync.Mutex // guards below
	part  []byte     // a line that is not complete yet
	lines []string
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, p...)
	for {
		line, rest, whole := bytes.Cut(t.part, []byte("\n"))
		if !whole && len(line) < 64<<10 {
			return len(p), nil
		}
		t.add(string(line))
		t.part = append([]byte(nil), rest...)
	}
}

func (t *tail) add(line string) {
	if t.copyTo != nil {
		fmt.Fprintf(t.copyTo, "%s | %s\n", t.name, line)
	}
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// last returns the last lines, indented.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if len(t.part) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(t.part))
	}
	if len(lines) == 0 {
		return "  (it printed nothing)\n"
	}
	return "  " + strings.Join(lines, "\n  ") + "\n"
}
