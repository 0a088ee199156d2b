package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// check does what the welcome text proposes and prints one line per thing.
func (d *demo) check(ctx context.Context) error {
	alice := newBrowser()
	failed := 0
	for _, thing := range []struct {
		name string
		do   func(context.Context, *browser) error
	}{
		{"sign in: alice arrives where she wanted to go, as alice", d.checkSignIn},
		{"spoofed headers do not arrive", d.checkSpoofed},
		{"jwt: a machine passes with its token, nobody without", d.checkJWT},
		{"admin page: refused to alice, open to root", d.checkAdmin},
		{"sign out: the old cookie is dead", d.checkSignOut},
	} {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := thing.do(ctx, alice)
		cancel()
		if err != nil {
			failed++
			fmt.Fprintf(d.out, "FAIL  %s: %v\n", thing.name, err)
			continue
		}
		fmt.Fprintf(d.out, "ok    %s\n", thing.name)
	}
	if failed > 0 {
		return fmt.Errorf("%d of 5 things do not work\n%s", failed, d.lastLines())
	}
	return nil
}

func (d *demo) checkSignIn(ctx context.Context, b *browser) error {
	got, err := d.signIn(ctx, b, "alice", d.App+"/deep/link?a=1&b=%2F")
	if err != nil {
		return err
	}
	if got.url != d.App+"/deep/link?a=1&b=%2F" || got.status != http.StatusOK || !strings.Contains(got.body, "Hello, alice") {
		return fmt.Errorf("arrived at %s with status %d", got.url, got.status)
	}
	saw, err := b.application(ctx, d.App+"/")
	if err != nil {
		return err
	}
	return saw.want(map[string]string{
		"x-auth-request-user": "alice", "x-auth-request-email": "alice@example.com", "x-auth-request-groups": "staff",
	})
}

func (d *demo) checkSpoofed(ctx context.Context, b *browser) error {
	saw, err := b.application(ctx, d.App+"/", "x-auth-request-user", "spoofed", "x-auth-request-groups", "spoofed",
		"x-auth-request-access-token", "spoofed", "x.auth.request.user", "spoofed", "x-forwarded-user", "spoofed", "cookie", "theme=dark")
	if err != nil {
		return err
	}
	for name, values := range saw.Headers {
		if slices.Contains(values, "spoofed") {
			return fmt.Errorf("%s arrived", name)
		}
	}
	// The application's own cookie passes, ours stays outside.
	if c := saw.Headers["cookie"]; len(c) != 1 || c[0] != "theme=dark" {
		return fmt.Errorf("the application received the cookies %s", names(c))
	}
	return saw.want(map[string]string{"x-auth-request-user": "alice", "x-auth-request-groups": "staff"})
}

// names are the names of cookies: their values stay out of messages.
func names(cookies []string) string {
	var out []string
	for _, pair := range strings.Split(strings.Join(cookies, ";"), ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

func (d *demo) checkJWT(ctx context.Context, _ *browser) error {
	curl := newBrowser()
	got, err := curl.fetch(ctx, http.MethodPost, d.Issuer+"/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"machine"}, "client_secret": {"machine-secret"},
	})
	if err != nil {
		return err
	}
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(got.body), &token); err != nil || token.Access == "" {
		return fmt.Errorf("the provider gives no token: status %d", got.status)
	}
	saw, err := curl.application(ctx, d.API+"/", "authorization", "Bearer "+token.Access)
	if err != nil {
		return err
	}
	if err := saw.want(map[string]string{"x-auth-request-user": "machine"}); err != nil {
		return err
	}
	for what, header := range map[string][]string{
		"no token":        nil,
		"a changed token": {"authorization", "Bearer " + token.Access[:len(token.Access)-8] + "AAAAAAAA"},
	} {
		if got, err := curl.fetch(ctx, http.MethodGet, d.API+"/", nil, header...); err != nil || got.status != http.StatusUnauthorized {
			return fmt.Errorf("%s: %s, want status 401", what, describe(got, err))
		}
	}
	return nil
}

func (d *demo) checkAdmin(ctx context.Context, alice *browser) error {
	got, err := alice.fetch(ctx, http.MethodGet, d.App+"/admin/", nil, "accept", "text/html")
	if err != nil || got.status != http.StatusForbidden {
		return fmt.Errorf("alice: %s, want status 403", describe(got, err))
	}
	got, err = d.signIn(ctx, newBrowser(), "root", d.App+"/admin/")
	if err != nil {
		return err
	}
	if got.status != http.StatusOK || !strings.Contains(got.body, "<h1>Admin page</h1>") {
		return fmt.Errorf("root: status %d, want 200", got.status)
	}
	return nil
}

func (d *demo) checkSignOut(ctx context.Context, alice *browser) error {
	old := alice.cookies(d.App)
	if old == "" {
		return errors.New("alice has no cookie to begin with")
	}
	if _, err := alice.application(ctx, d.App+"/"); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	// As a browser that follows the application's link.
	got, err := alice.follow(ctx, http.MethodGet, d.App+"/oauth2/sign_out", nil, "accept", "text/html",
		"sec-fetch-site", "same-origin", "sec-fetch-mode", "navigate", "sec-fetch-dest", "document")
	if err != nil || got.status != http.StatusOK {
		return fmt.Errorf("sign_out: %s, want status 200 in the end", describe(got, err))
	}
	if left := alice.cookies(d.App); left != "" {
		return fmt.Errorf("the browser keeps %s", names([]string{left}))
	}
	thief := newBrowser()
	got, err = thief.fetch(ctx, http.MethodGet, d.App+"/", nil, "cookie", old)
	if err != nil || got.status != http.StatusUnauthorized {
		return fmt.Errorf("the old cookie: %s, want status 401", describe(got, err))
	}
	return nil
}

// signIn goes to address, presses the button of user at the provider, and returns where that ends.
func (d *demo) signIn(ctx context.Context, b *browser, user, address string) (*page, error) {
	got, err := b.follow(ctx, http.MethodGet, address, nil, "accept", "text/html")
	if err != nil {
		return nil, err
	}
	action := formAction.FindStringSubmatch(got.body)
	if action == nil || !strings.HasPrefix(got.url, d.Issuer) {
		return nil, fmt.Errorf("no login page: status %d at %s", got.status, pathOf(got.url))
	}
	return b.follow(ctx, http.MethodPost, d.Issuer+html.UnescapeString(action[1]), url.Values{"user": {user}}, "accept", "text/html")
}

var formAction = regexp.MustCompile(`<form method="post" action="([^"]+)"`)

// pathOf leaves out the query: it may hold a code.
func pathOf(address string) string {
	before, _, _ := strings.Cut(address, "?")
	return before
}

// want compares identity headers, each of which must have arrived exactly once.
func (r *received) want(headers map[string]string) error {
	for name, value := range headers {
		if got := r.Headers[name]; len(got) != 1 || got[0] != value {
			return fmt.Errorf("the application received %s %q, want %q once", name, got, value)
		}
	}
	return nil
}

// browser keeps cookies and finds *.localhost, which Go does not resolve.
type browser struct {
	client *http.Client
	jar    *cookiejar.Jar
}

// page is what a browser shows in the end.
type page struct {
	url    string
	status int
	body   string
}

func newBrowser() *browser {
	jar, _ := cookiejar.New(nil) // never fails
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &browser{jar: jar, client: &http.Client{
		Jar: jar,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if strings.HasSuffix(host, ".localhost") {
					address = net.JoinHostPort("127.0.0.1", port)
				}
				return dialer.DialContext(ctx, network, address)
			},
		},
	}}
}

// fetch makes one request and does not follow a redirect. header are names and values in turn.
func (b *browser) fetch(ctx context.Context, method, address string, form url.Values, header ...string) (*page, error) {
	c := *b.client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return send(ctx, &c, method, address, form, header)
}

// follow makes a request and goes on to where it is sent.
func (b *browser) follow(ctx context.Context, method, address string, form url.Values, header ...string) (*page, error) {
	return send(ctx, b.client, method, address, form, header)
}

func send(ctx context.Context, c *http.Client, method, address string, form url.Values, header []string) (*page, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok { // its URL may hold a code
			return nil, fmt.Errorf("%s %s: %w", ue.Op, pathOf(ue.URL), ue.Err)
		}
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return &page{url: res.Request.URL.String(), status: res.StatusCode, body: string(body)}, nil
}

// application asks the application what it receives.
func (b *browser) application(ctx context.Context, address string, header ...string) (*received, error) {
	got, err := b.fetch(ctx, http.MethodGet, address, nil, header...)
	if err != nil {
		return nil, err
	}
	var r received
	if err := json.Unmarshal([]byte(got.body), &r); err != nil || got.status != http.StatusOK || r.Headers == nil {
		return nil, fmt.Errorf("%s: status %d, want the application's answer", pathOf(address), got.status)
	}
	return &r, nil
}

// cookies are the cookies that go to address, as in a Cookie header.
func (b *browser) cookies(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	var pairs []string
	for _, c := range b.jar.Cookies(u) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}
