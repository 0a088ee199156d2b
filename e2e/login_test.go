package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// pick presses the button of a user at either provider.
func (p *profile) pick(user string) int {
	p.t.Helper()
	return p.press(fmt.Sprintf(`button[value=%q]`, user))
}

// A person in a real browser, at providers that we wrote and did not write, with
// both stores, with the endpoints in band and over HTTP.
func TestBrowser(t *testing.T) {
	for _, c := range []struct {
		name string
		f    fixture
	}{
		{"oidctest, memory, in band", fixture{}},
		{"oidc-provider, redis, http", fixture{certified: true, redis: true, http: true}},
		{"oidc-provider, memory, http", fixture{certified: true, http: true}},
		{"oidctest, redis, in band", fixture{redis: true, listeners: []listener{{}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := &browserCases{stack: newStack(t, c.f)}
			t.Run("deep link", b.deepLink)
			t.Run("tabs", b.tabs)
			t.Run("refused user", b.refused)
			t.Run("cancelled", b.cancelled)
			t.Run("sign out", b.signOut)
			neverArrived(t, b.app, "/oauth2/")
			neverArrived(t, b.app, "/refused")
		})
	}
}

type browserCases struct{ *stack }

// Sign in from a deep link, query kept; the application sees who it is and none of our cookies.
func (b *browserCases) deepLink(t *testing.T) {
	p := newProfile(t)
	const target = "/deep/page?x=1&y=a%20b&z=%2F%C3%A4"
	p.open(b.url(appHost, target))
	if !strings.HasPrefix(p.location(), b.issuer()) {
		t.Fatalf("not sent to the provider: %s", p.where())
	}
	if status := p.pick("alice"); status != http.StatusOK {
		t.Fatalf("after login: %d at %s", status, p.where())
	}
	p.landed(target)
	s := p.seen()
	if s.Target != target {
		t.Errorf("the application received %q, want %q", s.Target, target)
	}
	for name, want := range map[string][]string{
		"x-auth-request-user": {"alice"}, "x-auth-request-email": {"alice@good.test"}, "x-auth-request-groups": {"staff"},
		"x-auth-request-preferred-username": {"alice"}, "x-auth-request-access-token": nil, "authorization": nil,
	} {
		if got := s.values(name); !slices.Equal(got, want) {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	ours := p.ours()
	if !slices.Equal(ours, []string{"__Host-gh_corp"}) {
		t.Errorf("our cookies after login: %q, want the session alone", ours)
	} else if c := p.cookies()[ours[0]]; !c.HTTPOnly || !c.Secure || c.Path != "/" || c.Domain != appHost || c.SameSite != network.CookieSameSiteLax {
		t.Errorf("session cookie %s: HttpOnly %t Secure %t Path %q Domain %q SameSite %q", c.Name, c.HTTPOnly, c.Secure, c.Path, c.Domain, c.SameSite)
	}
	p.open(b.url(appHost, "/again"))
	if got := p.seen().values("cookie"); !slices.Equal(got, []string{"app=theirs"}) {
		t.Errorf("the application received cookie %q, want its own", got)
	}
	status := value(p, chromedp.Evaluate[int](`fetch("/oauth2/userinfo").then(r => r.status)`, chromedp.EvalAwaitPromise))
	text := value(p, chromedp.Evaluate[string](`fetch("/oauth2/userinfo").then(r => r.text())`, chromedp.EvalAwaitPromise))
	if status != http.StatusOK || !strings.Contains(text, "alice") || strings.Contains(text, "token") {
		t.Errorf("userinfo: %d %q", status, text)
	}
}

// L11: two tabs sign in at once, finished in reverse; each lands where it wanted to go.
func (b *browserCases) tabs(t *testing.T) {
	one := newProfile(t)
	two := one.tab()
	one.open(b.url(appHost, "/first?tab=1"))
	two.open(b.url(appHost, "/second?tab=2"))
	two.pick("alice")
	two.landed("/second?tab=2")
	one.pick("alice")
	one.landed("/first?tab=1")
	for _, p := range []*profile{one, two} {
		p.open(b.url(appHost, "/after"))
		if got := p.seen().values("x-auth-request-user"); !slices.Equal(got, []string{"alice"}) {
			t.Errorf("after both: user %q", got)
		}
	}
	if ours := one.ours(); !slices.Equal(ours, []string{"__Host-gh_corp"}) {
		t.Errorf("our cookies after both logins: %q", ours)
	}
}

// Who is signed in and not allowed gets a 403 page; the right one gets in.
func (b *browserCases) refused(t *testing.T) {
	p := newProfile(t)
	p.open(b.url(appHost, "/admin/reused"))
	if status := p.pick("alice"); status != http.StatusForbidden {
		t.Errorf("alice at /admin: %d at %s, want 403", status, p.where())
	}
	p.landed("/admin/reused")
	p.fit()
	p.picture("403")
	p.press("main nav a")
	p.pick("root")
	p.landed("/admin/reused")
	if got := p.seen().values("x-auth-request-user"); !slices.Equal(got, []string{"root"}) {
		t.Errorf("sign in as somebody else: user %q", got)
	}
	if got := p.open(b.url(appHost, "/fine")); got != http.StatusOK {
		t.Errorf("alice elsewhere: %d", got)
	}
	root := newProfile(t)
	root.open(b.url(appHost, "/admin/panel"))
	if status := root.pick("root"); status != http.StatusOK || root.seen().Target != "/admin/panel" {
		t.Errorf("root at /admin: %d at %s, want the application", status, root.where())
	}
	mallory := newProfile(t)
	mallory.open(b.url(goodHost, "/refused"))
	if status := mallory.pick("mallory"); status != http.StatusForbidden {
		t.Errorf("mallory at good: %d at %s, want 403", status, mallory.where())
	}
}

// Saying no at the provider is a page that says so, and no session.
func (b *browserCases) cancelled(t *testing.T) {
	p := newProfile(t)
	p.open(b.url(appHost, "/refused"))
	status := 0
	if b.certified != nil {
		status = p.press("#refuse")
	} else {
		status = p.press(`button[value=""]`)
	}
	if status != http.StatusForbidden && status != http.StatusBadRequest {
		t.Errorf("after a refusal at the provider: %d at %s", status, p.where())
	}
	p.fit()
	p.picture("cancelled")
	if slices.Contains(p.ours(), "__Host-gh_corp") {
		t.Error("a session cookie without a login")
	}
	if got := p.open(b.url(appHost, "/oauth2/callback?state=x&code=y")); got != http.StatusBadRequest {
		t.Errorf("L1 callback out of nowhere: %d at %s, want 400", got, p.where())
	}
	p.fit()
	p.picture("callback-400")
}

// Sign out ends the session everywhere: the jar is empty and the old cookie is dead.
func (b *browserCases) signOut(t *testing.T) {
	p := newProfile(t)
	p.open(b.url(appHost, "/before"))
	p.pick("alice")
	c := p.cookies()["__Host-gh_corp"]
	if c == nil {
		t.Fatalf("not signed in: %s", p.where())
	}
	old := "cookie: " + c.Name + "=" + c.Value
	get(t, b.port, appHost, "/alive", old).seen(t)

	p.open(b.url(appHost, "/oauth2/sign_out"))
	p.fit()
	p.picture("sign-out-question")
	if get(t, b.port, appHost, "/alive", old); p.cookies()["__Host-gh_corp"] == nil {
		t.Error("a link from elsewhere signed the user out without asking")
	}
	p.press("main button")
	if b.certified != nil {
		p.press("#end")
	}
	p.cameBack()
	p.fit()
	p.picture("signed-out")
	if ours := p.ours(); len(ours) > 0 {
		t.Errorf("cookies after sign out: %q", ours)
	}
	if a := get(t, b.port, appHost, "/refused", old); a.Status != http.StatusUnauthorized {
		t.Errorf("C7 old cookie after sign out: %v, want 401", a)
	}
	if a := get(t, b.port, appHost, "/refused", append(navigation, old)...); a.Status != http.StatusFound {
		t.Errorf("C7 old cookie after sign out, navigation: %v, want 302", a)
	}
	p.open(b.url(appHost, "/refused"))
	if !strings.HasPrefix(p.location(), b.issuer()) {
		t.Errorf("next visit after sign out: %s, want the provider", p.where())
	}
}

// press clicks what the CSS selector finds and waits for the page that follows.
func (p *profile) press(css string) int {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(css)))
	if err != nil {
		p.t.Fatalf("press %s: %v\nat %s", css, err, p.where())
	}
	return int(resp.Status)
}

// landed waits until the application's host shows path with its query.
func (p *profile) landed(path string) {
	p.t.Helper()
	eventually(p.t, 5*time.Second, func() error {
		if at := p.location(); !strings.HasPrefix(at, "http://"+appHost+":") || !strings.HasSuffix(at, path) {
			return fmt.Errorf("the tab is at %s, want %s", p.where(), path)
		}
		return nil
	})
}

// cameBack waits until the provider has sent the browser back to our last page, with
// the state that we gave it (OpenID Connect RP-Initiated Logout 1.0 section 2).
func (p *profile) cameBack() {
	p.t.Helper()
	eventually(p.t, 5*time.Second, func() error {
		at, err := url.Parse(p.location())
		if err != nil || at.Hostname() != appHost || at.Path != "/oauth2/signed_out" || at.Query().Get("state") == "" {
			return fmt.Errorf("the tab is at %s, want signed_out with a state", p.where())
		}
		return nil
	})
}

// fit fails when a page of ours is not fit for people: a language, a title, one
// heading, a main part, readable size, nothing wider than the window.
func (p *profile) fit() {
	p.t.Helper()
	problems := value(p, chromedp.Evaluate[[]string](`(() => {
		const out = [];
		if (!document.documentElement.lang) out.push("no lang");
		if (!document.title) out.push("no title");
		if (document.querySelectorAll("h1").length !== 1) out.push("not one h1");
		if (!document.querySelector("main")) out.push("no main");
		if (!document.querySelector("meta[name=viewport]")) out.push("no viewport");
		if (document.scripts.length) out.push("a script");
		if (document.documentElement.scrollWidth > innerWidth) out.push("wider than the window");
		if (parseFloat(getComputedStyle(document.body).fontSize) < 15) out.push("small print");
		for (const e of document.querySelectorAll("a,button")) if (!e.textContent.trim()) out.push("nameless " + e.tagName);
		return out;
	})()`))
	if len(problems) > 0 {
		p.t.Errorf("page is not fit: %q at %s", problems, p.where())
	}
}
