package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"text/template"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 5 * time.Second
)

// demo is everything that runs. Its exported fields fill the templates.
type demo struct {
	App, API     string // origins
	Issuer       string
	Port         int    // Envoy's
	GRPC, Ops    string // Gatehouse's addresses
	UpstreamPort int
	SecretFile   string

	out      io.Writer
	children []*child
	died     chan *child
}

// run starts everything, and ends when ctx does, a child dies or the check is done.
// It leaves neither a process nor a file.
func run(ctx context.Context, o options, out, logs io.Writer) (err error) {
	for _, b := range []struct{ name, path, hint string }{
		{"Envoy", o.envoy, "run it by `make demo`, which fetches it, or point -envoy (or ENVOY) to an Envoy binary"},
		{"Gatehouse", o.gatehouse, "run `make build`, or point -gatehouse (or GATEHOUSE) to the binary"},
	} {
		if _, err := exec.LookPath(b.path); err != nil {
			return fmt.Errorf("%s is missing: there is no program at %s\n      %s", b.name, b.path, b.hint)
		}
	}
	port, err := freePort(ctx, o.port)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gatehouse-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d := &demo{
		App:  fmt.Sprintf("http://app.localhost:%d", port),
		API:  fmt.Sprintf("http://api.localhost:%d", port),
		Port: port, SecretFile: filepath.Join(dir, "client-secret"), out: out, died: make(chan *child, 2),
	}
	closeServers, err := d.startServers(ctx)
	if err != nil {
		return err
	}
	defer closeServers()
	defer d.stop()
	if !o.verbose {
		logs = nil
	}
	if err := d.startChildren(ctx, o, dir, logs); err != nil {
		return err
	}
	ctx, cancel := d.watch(ctx)
	defer cancel(nil)
	if err := d.wait(ctx); err != nil {
		return ended(ctx, err)
	}
	if o.check {
		return ended(ctx, d.check(ctx))
	}
	d.welcome()
	<-ctx.Done()
	return ended(ctx, nil)
}

// ended says why everything ends: a child that died explains every other error;
// a signal is no error while nothing was left undone.
func ended(ctx context.Context, err error) error {
	if dead, ok := errors.AsType[*deadChildError](context.Cause(ctx)); ok {
		return dead
	}
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// watch ends the returned context when a child dies.
func (d *demo) watch(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case c := <-d.died:
			cancel(&deadChildError{name: c.name, how: c.how(), log: c.log.last()})
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// freePort returns port, or a free one for 0. Browsers and curl try both
// loopback addresses for *.localhost, so nobody else may listen on either.
func freePort(ctx context.Context, port int) (int, error) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return 0, fmt.Errorf("port %d is in use: run make demo PORT=%d, or any other free port", port, port%65000+1)
		case errors.Is(err, syscall.EACCES):
			return 0, fmt.Errorf("port %d is not allowed here: run make demo PORT=10000, or any free port above 1024", port)
		case err != nil && host == "::1":
			return port, nil // no IPv6 here
		case err != nil:
			return 0, err
		}
		if tcp, ok := l.Addr().(*net.TCPAddr); ok {
			port = tcp.Port
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
	}
	return port, nil
}

// startServers starts what this process serves itself: the provider and the application.
func (d *demo) startServers(ctx context.Context) (closeAll func(), err error) {
	provider, err := oidctest.New(oidctest.Config{Clients: []oidctest.Client{
		{ID: "mesh", Secret: "mesh-secret", RedirectURIs: []string{d.App + "/oauth2/callback"}, PostLogoutRedirectURIs: []string{d.App + "/oauth2/signed_out"}},
		{ID: "machine", Secret: "machine-secret", MachineOnly: true, Audience: []string{"api"}},
	}})
	if err != nil {
		return nil, err
	}
	idp, err := provider.Serve("localhost:0") //nolint:contextcheck // binding a loopback port does not wait
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		idp.Close()
		return nil, err
	}
	app := &http.Server{Handler: application(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = app.Serve(l) }() // ends with Close
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("address %v is not TCP", l.Addr())
	}
	d.Issuer, d.UpstreamPort = idp.Issuer(), tcp.Port
	return func() {
		idp.Close()
		_ = app.Close()
	}, nil
}

//go:embed envoy.yaml
var envoyYAML string

//go:embed gatehouse.yaml
var gatehouseYAML string

func (d *demo) startChildren(ctx context.Context, o options, dir string, logs io.Writer) error {
	for _, address := range []*string{&d.GRPC, &d.Ops} {
		port, err := freePort(ctx, 0)
		if err != nil {
			return err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	if err := os.WriteFile(d.SecretFile, []byte("mesh-secret"), 0o600); err != nil {
		return err
	}
	gatehouseConfig, envoyConfig := filepath.Join(dir, "gatehouse.yaml"), filepath.Join(dir, "envoy.yaml")
	if err := errors.Join(d.write(gatehouseConfig, gatehouseYAML), d.write(envoyConfig, envoyYAML)); err != nil {
		return err
	}
	if err := d.start("gatehouse", logs, o.gatehouse, "serve", "--config", gatehouseConfig); err != nil {
		return err
	}
	return d.start("envoy", logs, o.envoy, "-c", envoyConfig, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
}

func (d *demo) start(name string, logs io.Writer, path string, args ...string) error {
	c, err := startChild(name, d.died, logs, path, args...)
	if err != nil {
		return err
	}
	d.children = append(d.children, c)
	return nil
}

// write fills a template with d.
func (d *demo) write(path, text string) error {
	t, err := template.New(filepath.Base(path)).Funcs(template.FuncMap{"port": portOf}).Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}

// wait returns when Envoy, Gatehouse, the provider and the application all answer.
func (d *demo) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := newBrowser()
	for _, at := range []struct {
		name, url string
		want      int
	}{
		{"provider", d.Issuer + "/.well-known/openid-configuration", http.StatusOK},
		{"application", "http://127.0.0.1:" + strconv.Itoa(d.UpstreamPort), http.StatusOK},
		{"gatehouse", "http://" + d.Ops + "/readyz", http.StatusOK},
		// Through Envoy to Gatehouse, which asks a browser to sign in; Envoy alone would say 503.
		{"envoy", d.App + "/", http.StatusFound},
	} {
		got, err := client.fetch(ctx, http.MethodGet, at.url, nil, "accept", "text/html")
		for err != nil || got.status != at.want {
			last := describe(got, err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s does not answer at %s: %s\n%s", at.name, at.url, last, d.lastLines())
			}
			got, err = client.fetch(ctx, http.MethodGet, at.url, nil, "accept", "text/html")
			if ctx.Err() != nil {
				err = errors.New(last) // more telling than that time is up
			}
		}
	}
	return nil
}

func describe(p *page, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("status %d", p.status)
}

func (d *demo) lastLines() string {
	var b bytes.Buffer
	for _, c := range d.children {
		fmt.Fprintf(&b, "last lines of %s:\n%s", c.name, c.log.last())
	}
	return b.String()
}

// stop ends the children and whatever they started.
func (d *demo) stop() {
	deadline := time.Now().Add(stopTimeout)
	for _, c := range d.children {
		c.terminate()
	}
	for _, c := range d.children {
		c.reap(time.Until(deadline))
	}
}

func (d *demo) welcome() {
	fmt.Fprintf(d.out, `ready: %[1]s

Three things to try:

1. Sign in. Open %[1]s and be alice, bob or root.

2. A JWT with curl, as a machine:

   curl -H "Authorization: Bearer $(curl -s -u machine:machine-secret -d grant_type=client_credentials \
     %[3]s/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')" %[2]s/

   Without the token, curl -i %[2]s/ is refused.

3. The admin page. As alice, %[1]s/admin/ is refused. Sign out, come back as root: it opens.

Ctrl-C ends everything and leaves nothing behind.
`, d.App, d.API, d.Issuer)
}
