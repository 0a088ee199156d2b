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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
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

func (d *dropMessages) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			if !d.lost(c.Data) {
				stub.Output <- c
			}
		}
	}
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
