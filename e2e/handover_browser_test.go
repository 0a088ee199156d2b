package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// landedAt waits until the tab shows the application at this address and returns what
// the application saw.
func (p *profile) landedAt(address string) seen {
	p.t.Helper()
	eventually(p.t, 10*time.Second, func() error {
		if at := p.location(); at != address {
			return fmt.Errorf("the tab is at %s, want %s", p.where(), address)
		}
		return nil
	})
	return p.seen()
}

// cookieAt is the value of our session cookie at one host.
func (p *profile) cookieAt(host string) string {
	p.t.Helper()
	res, err := chromedp.CallBrowser(p.ctx, storage.GetCookies, storage.GetCookiesParams{
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range res.Cookies {
		if c.Name == "__Host-gh_corp" && c.Domain == host {
			note("cookie "+c.Name, c.Value)
			return c.Value
		}
	}
	return ""
}

// narrow gives the tab the width of a phone while act runs.
func (p *profile) narrow(act func()) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(360, 740))
	act()
	p.do(chromedp.EmulateViewport(900, 700))
}

// A person with two applications and two devices, in a real browser: the second
// application opens by itself, the page shows both sign-ins, ends the other one, hands
// out the data, signs out everywhere.
func TestBrowserHandOver(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	p, other := newProfile(t), newProfile(t)
	p.open(s.url(appHost, "/one?x=1"))
	p.pick("alice")
	if got := p.landedAt(s.url(appHost, "/one?x=1")).values("x-auth-request-user"); len(got) != 1 || got[0] != "alice" {
		t.Errorf("first application: user %q", got)
	}
	hits := s.idp.Hits(oidctest.Authorize) + s.idp.Hits(oidctest.Token)
	p.open(s.url(otherHost, "/two?y=2"))
	if got := p.landedAt(s.url(otherHost, "/two?y=2")).values("x-auth-request-user"); len(got) != 1 || got[0] != "alice" {
		t.Errorf("second application: user %q", got)
	}
	if n := s.idp.Hits(oidctest.Authorize) + s.idp.Hits(oidctest.Token); n != hits {
		t.Errorf("the second application asked the provider %d times", n-hits)
	}
	other.open(s.url(appHost, "/elsewhere"))
	other.pick("alice")
	other.landedAt(s.url(appHost, "/elsewhere"))

	page := s.url(loginHost, "/oauth2/sessions")
	if status := p.open(page); status != http.StatusOK || p.location() != page {
		t.Fatalf("page of sign-ins: %d at %s", status, p.where())
	}
	s.showsSignIns(t, p, 2)
	s.handsOutData(t, p)
	p.press(`form[action*="end_others"] button`)
	s.showsSignIns(t, p, 1)
	time.Sleep(100 * time.Millisecond)
	if other.open(s.url(appHost, "/refused")); !strings.HasPrefix(other.location(), s.issuer()) {
		t.Errorf("the other device, after its end: %s", other.where())
	}
	p.open(s.url(otherHost, "/still"))
	p.landedAt(s.url(otherHost, "/still"))

	p.open(page)
	p.press(`tr:has(.mark) button`)
	p.fit()
	p.picture("sessions-signed-out")
	for _, host := range []string{appHost, otherHost} {
		if p.open(s.url(host, "/refused")); !strings.HasPrefix(p.location(), s.issuer()) {
			t.Errorf("%s after the sign-out: %s", host, p.where())
		}
	}
	if keys := s.redis.sessions(t); len(keys) != 0 {
		t.Errorf("%d records are left", len(keys))
	}
	neverArrived(t, s.app, "/refused")
	neverArrived(t, s.app, "/oauth2/")
}

// showsSignIns looks at the page as a person does, on a desk and on a phone.
func (s *stack) showsSignIns(t *testing.T, p *profile, rows int) {
	t.Helper()
	if n := value(p, chromedp.Evaluate[int](`document.querySelectorAll("tbody tr").length`)); n != rows {
		t.Errorf("%d sign-ins are shown, want %d: %s", n, rows, p.where())
	}
	if n := value(p, chromedp.Evaluate[int](`document.querySelectorAll("tbody tr .mark").length`)); n != 1 {
		t.Errorf("%d rows are marked as this browser, want 1", n)
	}
	if text := p.text(); !strings.Contains(text, "alice") && !strings.Contains(text, "Alice") {
		t.Errorf("the page does not say whose sign-ins these are: %s", p.where())
	}
	p.fit()
	p.picture(fmt.Sprintf("sessions-%d", rows))
	p.narrow(func() {
		p.fit()
		p.picture(fmt.Sprintf("sessions-%d-phone", rows))
	})
}

// handsOutData downloads what is stored, which is about alice and holds no token.
func (s *stack) handsOutData(t *testing.T, p *profile) {
	t.Helper()
	href := value(p, chromedp.Evaluate[string](`document.querySelector("a[href*='sessions/data']").href`))
	path := strings.TrimPrefix(href, s.origin(loginHost))
	a := get(t, s.port, strings.TrimPrefix(s.origin(loginHost), "http://"), path, append(navigation, "cookie: __Host-gh_corp="+p.cookieAt(loginHost))...)
	text := string(a.Body)
	if a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("content-type"), "application/json") || !strings.Contains(a.Header.Get("content-disposition"), "attachment") {
		t.Errorf("data: %v, want JSON to save", a)
	}
	if !strings.Contains(text, "alice@good.test") || strings.Contains(text, "eyJ") || strings.Contains(text, "mallory") {
		t.Errorf("data: %.500s; want alice's, no token, nobody else's", text)
	}
	if b := get(t, s.port, strings.TrimPrefix(s.origin(loginHost), "http://"), path); b.Status == http.StatusOK {
		t.Errorf("data without a session: %v", b)
	}
}

// Erasing leaves nothing of a user in the store, asks first, and obeys no other site (C12).
func TestBrowserErase(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	p := newProfile(t)
	p.open(s.url(appHost, "/one"))
	p.pick("alice")
	p.landedAt(s.url(appHost, "/one"))
	s.session(t, otherHost, "alice")
	root := "cookie: " + s.session(t, appHost, "root")
	p.open(s.url(loginHost, "/oauth2/sessions"))
	s.foreignForms(t, p)
	p.press(`a[href*="erase"]`)
	if n := len(s.redis.sessions(t)); n != 3 {
		t.Errorf("%d records after the question, want all 3", n)
	}
	p.fit()
	p.picture("sessions-erase")
	p.press(`form[action*="erase"] button`)
	p.fit()
	p.picture("sessions-erased")
	if n := len(s.redis.sessions(t)); n != 1 {
		t.Errorf("%d records after erasing, want root's alone: %s", n, p.where())
	}
	if keys := s.redis.do(t, "KEYS", "gh:u:*"); len(keys) != 1 {
		t.Errorf("index of users after erasing: %q, want root's alone", keys)
	}
	if p.open(s.url(appHost, "/refused")); !strings.HasPrefix(p.location(), s.issuer()) {
		t.Errorf("after erasing: %s", p.where())
	}
	if v := s.gatehouse.checks.get(t.Context(), appHost, "/root", root); v.user() != "root" {
		t.Errorf("root afterwards: %v", v)
	}
	neverArrived(t, s.app, "/refused")
}

// foreignForms posts what the page's forms post, from elsewhere.
func (s *stack) foreignForms(t *testing.T, p *profile) {
	t.Helper()
	host, cookie := strings.TrimPrefix(s.origin(loginHost), "http://"), "cookie: __Host-gh_corp="+p.cookieAt(loginHost)
	actions := value(p, chromedp.Evaluate[[]string](`[...document.forms].map(f => f.action)`))
	if len(actions) == 0 {
		t.Fatalf("no forms: %s", p.where())
	}
	for _, action := range append(actions, s.url(loginHost, "/oauth2/sessions/erase")) {
		path := strings.TrimPrefix(action, s.origin(loginHost))
		for _, lines := range [][]string{
			{"origin: https://evil.test", "sec-fetch-site: cross-site"},
			{"origin: " + s.origin(appHost), "sec-fetch-site: same-site"},
			{"origin: null"},
			{},
		} {
			a := raw(t, s.port, append([]string{"POST " + path + " HTTP/1.1", "host: " + host, cookie, "content-length: 0"}, lines...)...)
			if a.Status != http.StatusForbidden || a.Header["Set-Cookie"] != nil {
				t.Errorf("POST %s with %q: %v, want 403", path, lines, a)
			}
		}
	}
	if n := len(s.redis.sessions(t)); n != 3 {
		t.Errorf("%d records after forms of other sites, want all 3", n)
	}
}
