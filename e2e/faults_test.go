package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// faults is a TCP proxy on loopback whose connections can be cut, delayed and held:
// toxiproxy, as a library. Its methods take effect on connections that are open, too.
type faults struct {
	t     testing.TB
	port  int
	proxy *toxiproxy.Proxy
}

// toxiproxies is what all proxies of the run share; it has no port of its own.
var toxiproxies = sync.OnceValue(func() *toxiproxy.ApiServer {
	toxics.Register("drop_messages", new(dropMessages))
	return toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
})

// newFaults puts a proxy in front of a port of this machine.
func newFaults(t testing.TB, upstream int) *faults {
	t.Helper()
	return newFaultsAt(t, freePort(t), upstream)
}

// newFaultsAt is newFaults for a port that somebody knows already.
func newFaultsAt(t testing.TB, port, upstream int) *faults {
	t.Helper()
	f := &faults{t: t, port: port}
	f.proxy = toxiproxy.NewProxy(toxiproxies(), "to-"+strconv.Itoa(upstream), addr(port), addr(upstream))
	f.up()
	t.Cleanup(f.proxy.Stop)
	return f
}

// down cuts every connection and refuses new ones, until up.
func (f *faults) down() { f.proxy.Stop() }

func (f *faults) up() {
	f.t.Helper()
	if err := f.proxy.Start(); err != nil {
		f.t.Fatalf("proxy of port %d: %v", f.port, err)
	}
}

// slow delays every answer by latency, give or take jitter.
func (f *faults) slow(latency, jitter time.Duration) {
	f.t.Helper()
	f.toxic("latency", "downstream", map[string]any{"latency": latency.Milliseconds(), "jitter": jitter.Milliseconds()})
}

// hold keeps connections open and lets nothing through, in both directions.
func (f *faults) hold() {
	f.t.Helper()
	f.toxic("timeout", "upstream", map[string]any{"timeout": 0})
	f.toxic("timeout", "downstream", map[string]any{"timeout": 0})
}

// drop loses published messages on their way to the subscriber: those that hold text,
// or all. The connection stays and answers PING.
func (f *faults) drop(text string) {
	f.t.Helper()
	f.toxic("drop_messages", "downstream", map[string]any{"text": text})
}

// heal ends slow, hold and drop. Connections that were held are closed.
func (f *faults) heal() { f.proxy.Toxics.ResetToxics(context.Background()) }

func (f *faults) toxic(kind, direction string, attributes map[string]any) {
	f.t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "stream": direction, "attributes": attributes, "name": kind + "-" + direction + "-" + random()})
	if err == nil {
		_, err = f.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	}
	if err != nil {
		f.t.Fatalf("toxic %s: %v", kind, err)
	}
}

// dropMessages is a toxic that throws away what Redis tells subscribers, in RESP2 and
// RESP3. A handle in Text matches as text and as the bytes that it encodes.
type dropMessages struct {
	Text string `json:"text"`
}

// Pipe judges whole values: a message and the answer behind it may come in one chunk.
func (d *dropMessages) Pipe(stub *toxics.ToxicStub) {
	var begun []byte // a value whose end has not come
	for {
		select {
		case <-stub.Interrupt:
			if len(begun) > 0 {
				stub.Output <- &stream.StreamChunk{Data: begun, Timestamp: time.Now()}
			}
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			begun = append(begun, c.Data...)
			var passes []byte
			for len(begun) > 0 {
				n := respSize(begun)
				if n == 0 {
					break
				}
				if !d.lost(begun[:n]) {
					passes = append(passes, begun[:n]...)
				}
				begun = begun[n:]
			}
			if len(passes) > 0 {
				stub.Output <- &stream.StreamChunk{Data: passes, Timestamp: c.Timestamp}
			}
			begun = bytes.Clone(begun)
		}
	}
}

// respSize is the size of the first value in b; 0: its end has not come. What is no
// value is taken whole.
func respSize(b []byte) int {
	line := bytes.Index(b, []byte("\r\n"))
	if line < 0 {
		return 0
	}
	size := line + 2
	n, err := strconv.Atoi(string(b[1:line]))
	children := 0
	switch b[0] {
	case '+', '-', ':', '_', '#', ',', '(':
		return size
	case '$', '=', '!':
		if err != nil {
			return len(b)
		}
		if n >= 0 {
			size += n + 2
		}
		if size > len(b) {
			return 0
		}
		return size
	case '*', '~', '>':
		children = n
	case '%', '|':
		children = 2 * n
	default:
		return len(b)
	}
	if err != nil {
		return len(b)
	}
	for range max(children, 0) {
		if size >= len(b) {
			return 0
		}
		child := respSize(b[size:])
		if child == 0 {
			return 0
		}
		size += child
	}
	return size
}

func (d *dropMessages) lost(data []byte) bool {
	if !bytes.Contains(data, []byte("\r\nmessage\r\n")) && !bytes.Contains(data, []byte("\r\nsmessage\r\n")) {
		return false
	}
	if bytes.Contains(data, []byte(d.Text)) {
		return true
	}
	plain, err := base64.RawURLEncoding.DecodeString(d.Text)
	return err == nil && bytes.Contains(data, plain)
}

// The proxy passes, delays, holds, cuts, loses what is published, and heals.
func TestFaultsHarness(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	f := newFaults(t, r.port)
	via := &redis{port: f.port, password: r.password}
	ping := func() (time.Duration, error) {
		begin := time.Now()
		_, err := via.try("PING")
		return time.Since(begin), err
	}
	if _, err := ping(); err != nil {
		t.Fatalf("through the proxy: %v", err)
	}
	f.slow(100*time.Millisecond, 0)
	if took, err := ping(); err != nil || took < 200*time.Millisecond { // AUTH and PING
		t.Errorf("slow: %v after %v, want two answers to take 200 ms", err, took)
	}
	f.heal()
	if took, err := ping(); err != nil || took > 150*time.Millisecond {
		t.Errorf("healed: %v after %v", err, took)
	}
	f.down()
	if _, err := ping(); err == nil {
		t.Error("down: PING was answered")
	}
	f.up()
	if _, err := ping(); err != nil {
		t.Errorf("up again: %v", err)
	}
	f.hold()
	c, err := net.Dial("tcp", addr(f.port))
	if err != nil {
		t.Fatalf("a held proxy takes no connection: %v", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	fmt.Fprint(c, "PING\r\n")
	if n, err := io.ReadFull(c, make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("held: an answer came (%v)", err)
	}
	f.heal()
	if _, err := ping(); err != nil {
		t.Errorf("after hold: %v", err)
	}
	f.messages(t, r)
}

// messages shows drop on a subscription that stays alive.
func (f *faults) messages(t *testing.T, r *redis) {
	via := &redis{port: f.port, password: r.password}
	c, br, err := via.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := command(c, br, "SUBSCRIBE", "news"); err != nil {
		t.Fatal(err)
	}
	r.do(t, "PUBLISH", "news", "first")
	handle := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
	next := func(want string) {
		t.Helper()
		got, err := respValue(br)
		if err != nil || got[len(got)-1] != want {
			t.Errorf("subscriber got %q, %v, want %q", got, err, want)
		}
	}
	next("first")
	f.drop(base64.RawURLEncoding.EncodeToString(handle))
	r.do(t, "PUBLISH", "news", string(handle))
	r.do(t, "PUBLISH", "news", "as text "+base64.RawURLEncoding.EncodeToString(handle))
	r.do(t, "PUBLISH", "news", "another")
	next("another")
	f.heal()
	f.drop("")
	r.do(t, "PUBLISH", "news", "lost")
	if got, err := command(c, br, "PING"); err != nil || strings.ToLower(got[0]) != "pong" {
		t.Errorf("PING on the subscription: %q, %v, want it answered and nothing else", got, err)
	}
	f.heal()
	r.do(t, "PUBLISH", "news", "last")
	next("last")
}

// A provider behind the proxy keeps its issuer.
func TestFaultsBeforeProvider(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{faults: true})
	s.session(t, appHost, "alice")
	s.provider.down()
	a := newAgent(t)
	if p, err := a.send(http.MethodGet, s.url(appHost, "/refused"), nil); err == nil && p.Status == http.StatusOK {
		t.Errorf("with the provider cut off: %v", p)
	}
	s.provider.up()
	s.session(t, appHost, "root")
	neverArrived(t, s.app, "/refused")
}

// A message takes nothing with it that came in the same chunk, wherever chunks end.
func TestDropMessagesHarness(t *testing.T) {
	t.Parallel()
	const message, pong = ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\nlost\r\n", "+PONG\r\n*2\r\n$1\r\na\r\n$-1\r\n%1\r\n+k\r\n:1\r\n"
	whole := []byte(pong + message + pong)
	for _, size := range []int{1, 7, len(whole)} {
		in, out := make(chan *stream.StreamChunk, len(whole)), make(chan *stream.StreamChunk, len(whole))
		for chunk := range slices.Chunk(whole, size) {
			in <- &stream.StreamChunk{Data: chunk}
		}
		close(in)
		new(dropMessages).Pipe(toxics.NewToxicStub(in, out))
		var got []byte
		for c := range out {
			got = append(got, c.Data...)
		}
		if string(got) != pong+pong {
			t.Errorf("in chunks of %d: %q", size, got)
		}
	}
}
