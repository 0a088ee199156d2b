package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

// chromium is one real browser for the whole run; each test has its own profile in it.
var chromium struct {
	sync.Mutex
	ctx    context.Context
	cancel func()
}

func browserContext(t testing.TB) context.Context {
	t.Helper()
	path := program(t, "chromium")
	chromium.Lock()
	defer chromium.Unlock()
	if chromium.ctx != nil {
		return chromium.ctx
	}
	dir, err := os.MkdirTemp(run.dir, "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.WindowSize(900, 700))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	if err := chromedp.Do(ctx); err != nil {
		cancelAlloc()
		t.Fatalf("chromium does not start: %v", err)
	}
	chromium.ctx = ctx
	chromium.cancel = func() { cancel(); cancelAlloc() }
	return ctx
}

func browserStop() {
	chromium.Lock()
	defer chromium.Unlock()
	if chromium.cancel != nil {
		chromium.cancel()
	}
}

// profile is a fresh browser profile with one tab; more come from tab.
type profile struct {
	t   testing.TB
	ctx context.Context
}

func newProfile(t testing.TB) *profile {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browserContext(t), chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &profile{t: t, ctx: ctx}
	p.start()
	return p
}

// tab opens another tab with the same cookies.
func (p *profile) tab() *profile {
	p.t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	p.t.Cleanup(cancel)
	q := &profile{t: p.t, ctx: ctx}
	q.start()
	return q
}

// start opens the tab; every secret that passes through it is registered.
func (p *profile) start() {
	p.t.Helper()
	if err := chromedp.Do(p.ctx); err != nil {
		p.t.Fatal(err)
	}
	if err := chromedp.Listen(p.ctx, func(ev any) {
		switch ev := ev.(type) {
		case *network.EventRequestWillBeSent:
			noteURL(ev.Request.URL)
		case *network.EventResponseReceivedExtraInfo:
			for name, value := range ev.Headers {
				if lines, ok := value.(string); ok && strings.EqualFold(name, "set-cookie") {
					noteCookies(http.Header{"Set-Cookie": strings.Split(lines, "\n")})
				}
			}
		}
	}); err != nil {
		p.t.Fatal(err)
	}
}

// do runs steps within 20 s.
func (p *profile) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%v\nat %s", err, p.where())
	}
}

// value runs a within 20 s.
func value[T any](p *profile, a chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		p.t.Fatalf("%v\nat %s", err, p.where())
	}
	return v
}

// where says what the tab shows, for messages.
func (p *profile) where() string {
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	at, _ := chromedp.Run(ctx, chromedp.Location())
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
	return fmt.Sprintf("%s: %.500q", at, text)
}

// open loads a page, following redirects, and returns the final status.
func (p *profile) open(url string) int {
	p.t.Helper()
	resp := value(p, chromedp.NavigateResponse(url))
	if resp == nil {
		p.t.Fatalf("no response for %s", url)
	}
	return int(resp.Status)
}

func (p *profile) location() string { p.t.Helper(); return value(p, chromedp.Location()) }

func (p *profile) text() string {
	p.t.Helper()
	return value(p, chromedp.Evaluate[string](`document.body.innerText`))
}

// seen is the request that the application shows in this tab.
func (p *profile) seen() seen {
	p.t.Helper()
	var s seen
	text := value(p, chromedp.Evaluate[string](`document.getElementById("seen") ? document.getElementById("seen").textContent : ""`))
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		p.t.Fatalf("the tab does not show the application: %s", p.where())
	}
	return s
}

// cookies are every cookie of the profile, by name; ours are noted as secrets.
func (p *profile) cookies() map[string]*network.Cookie {
	p.t.Helper()
	res, err := chromedp.CallBrowser(p.ctx, storage.GetCookies, storage.GetCookiesParams{
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string]*network.Cookie{}
	for _, c := range res.Cookies {
		out[c.Name] = c
		if strings.HasPrefix(c.Name, "__Host-gh_") {
			note("cookie "+c.Name, c.Value)
		}
	}
	return out
}

// ours are the names of Gatehouse's cookies.
func (p *profile) ours() []string {
	p.t.Helper()
	var names []string
	for name := range p.cookies() {
		if strings.HasPrefix(name, "__Host-gh_") {
			names = append(names, name)
		}
	}
	return names
}

// picture keeps light and dark screenshots of the page and fails when a script
// ran or the page is not fit to read.
func (p *profile) picture(name string) {
	p.t.Helper()
	dir := filepath.Join(run.dir, "pages")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		p.do(colours(scheme))
		png := value(p, chromedp.CaptureScreenshot())
		if err := os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), png, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	p.do(colours(""))
}

func colours(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

// The browser keeps and sends __Host- cookies on http://NAME.localhost:PORT,
// profiles are apart, tabs of one are not.
func TestBrowserHarness(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "text/html")
		w.Header().Add("set-cookie", "__Host-x_test=v; Secure; HttpOnly; Path=/; SameSite=Lax")
		fmt.Fprintf(w, `<title>t</title><p>%s</p>`, escape(r.Header.Get("cookie")))
	}))
	defer srv.Close()
	url := strings.Replace(srv.URL, "127.0.0.1", "app.localhost", 1)
	p := newProfile(t)
	if status := p.open(url); status != 200 {
		t.Fatalf("open = %d", status)
	}
	p.open(url + "/again")
	if got := p.text(); !strings.Contains(got, "__Host-x_test=v") {
		t.Errorf("second request carried cookies %q", got)
	}
	tab := p.tab()
	tab.open(url)
	if got := tab.text(); !strings.Contains(got, "__Host-x_test=v") {
		t.Errorf("second tab carried cookies %q", got)
	}
	if c := p.cookies()["__Host-x_test"]; c == nil || !c.HTTPOnly || !c.Secure {
		t.Errorf("cookie jar = %+v", c)
	}
	other := newProfile(t)
	other.open(url)
	if got := other.text(); strings.Contains(got, "__Host-x_test") {
		t.Errorf("another profile carried cookies %q", got)
	}
	p.picture("harness")
}
