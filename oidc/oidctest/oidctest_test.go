package oidctest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

const callback = "http://127.0.0.1:1/callback"

// client is a relying party made of go-oidc and x/oauth2, nothing of ours.
type client struct {
	t    *testing.T
	idp  *oidctest.Server
	op   *gooidc.Provider
	conf oauth2.Config
}

func newClient(t *testing.T, cfg oidctest.Config) *client {
	t.Helper()
	idp := oidctest.Start(t, cfg)
	op, err := gooidc.NewProvider(t.Context(), idp.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	endpoint := op.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // else a refusal is asked for twice
	return &client{t: t, idp: idp, op: op, conf: oauth2.Config{
		ClientID: "mesh", ClientSecret: "mesh-secret", Endpoint: endpoint, RedirectURL: callback,
		Scopes: []string{"openid", "email", "profile", "offline_access"},
	}}
}

// stop is an HTTP client that shows redirects instead of following them.
var stop = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func do(t *testing.T, method, address string, form url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := stop.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	return res, string(body)
}

// authorize asks for a code and returns the parameters of the callback.
func (c *client) authorize(verifier, nonce string) url.Values {
	c.t.Helper()
	res, body := do(c.t, "GET", c.conf.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier), gooidc.Nonce(nonce)), nil)
	if res.StatusCode != http.StatusFound {
		c.t.Fatalf("authorize = %d %s, want 302", res.StatusCode, body)
	}
	return callbackParams(c.t, res)
}

func callbackParams(t *testing.T, res *http.Response) url.Values {
	t.Helper()
	to := res.Header.Get("Location")
	if !strings.HasPrefix(to, callback+"?") {
		t.Fatalf("redirect to %q, want %s?…", to, callback)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// login runs the whole code flow and returns the verified ID token.
func (c *client) login(ctx context.Context) (*oauth2.Token, *gooidc.IDToken, error) {
	verifier := oauth2.GenerateVerifier()
	tok, err := c.conf.Exchange(ctx, c.authorize(verifier, "the-nonce").Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, nil, err
	}
	raw, _ := tok.Extra("id_token").(string)
	id, err := c.op.Verifier(&gooidc.Config{ClientID: "mesh"}).Verify(ctx, raw)
	return tok, id, err
}

func TestCodeFlow(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "bob"})
	tok, id, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Email  string   `json:"email"`
		Groups []string `json:"groups"`
		Sid    string   `json:"sid"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Subject != "bob" || id.Nonce != "the-nonce" || claims.Email != "bob@example.com" || !slices.Equal(claims.Groups, []string{"staff", "on-call"}) || claims.Sid == "" {
		t.Errorf("ID token = %+v %+v", id, claims)
	}
	info, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok))
	if err != nil || info.Subject != "bob" || !info.EmailVerified {
		t.Errorf("userinfo = %+v, %v", info, err)
	}
	for _, ep := range []oidctest.Endpoint{oidctest.Discovery, oidctest.Authorize, oidctest.Token, oidctest.Userinfo, oidctest.JWKS} {
		if n := c.idp.Hits(ep); n != 1 {
			t.Errorf("Hits(%s) = %d, want 1", ep, n)
		}
	}
	code := c.idp.Requests(oidctest.Token)[0].PostForm
	for _, s := range []string{tok.AccessToken, tok.RefreshToken, tok.Extra("id_token").(string), code.Get("code"), code.Get("code_verifier"), "mesh-secret"} {
		if !slices.Contains(c.idp.Secrets(), s) {
			t.Errorf("Secrets() lacks %q", s)
		}
	}
}

func TestES256AndLocalhost(t *testing.T) {
	t.Parallel()
	p, err := oidctest.New(oidctest.Config{AutoLogin: "alice", Alg: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Serve("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.HasPrefix(p.Issuer(), "http://localhost:") {
		t.Errorf("issuer %q, want http://localhost:PORT", p.Issuer())
	}
	op, err := gooidc.NewProvider(t.Context(), p.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	raw := p.IDToken("alice", "mesh", "n")
	if _, err := op.Verifier(&gooidc.Config{ClientID: "mesh"}).Verify(t.Context(), raw); err != nil {
		t.Error(err)
	}
}

// The issuer is taken from the first request where nobody named it, also over TLS.
func TestIssuerFromRequest(t *testing.T) {
	t.Parallel()
	p, err := oidctest.New(oidctest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "https://idp.test/.well-known/openid-configuration", nil)
	p.ServeHTTP(w, r)
	if p.Issuer() != "https://idp.test" || !strings.Contains(w.Body.String(), `"https://idp.test/token"`) {
		t.Errorf("issuer %q, body %s", p.Issuer(), w.Body)
	}
}

func TestAuthorizationCallback(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	got := c.authorize(oauth2.GenerateVerifier(), "n")
	if got.Get("state") != "the-state" || got.Get("iss") != c.idp.Issuer() || got.Get("code") == "" {
		t.Errorf("callback = %v, want state, iss, code", got)
	}
	// Every refusal that has an address to go to carries iss and state too (RFC 9207).
	base, err := url.Parse(c.conf.AuthCodeURL("the-state", oauth2.S256ChallengeOption("v")))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ key, value, want string }{
		"response_type":  {"response_type", "token", "unsupported_response_type"},
		"no openid":      {"scope", "email", "invalid_scope"},
		"no PKCE":        {"code_challenge", "", "invalid_request"},
		"plain PKCE":     {"code_challenge_method", "plain", "invalid_request"},
		"prompt is none": {"prompt", "none", "login_required"},
	} {
		q := base.Query()
		q.Set(tt.key, tt.value)
		res, _ := do(t, "GET", c.conf.Endpoint.AuthURL+"?"+q.Encode(), nil)
		if p := callbackParams(t, res); p.Get("error") != tt.want || p.Get("iss") == "" || p.Get("state") != "the-state" || p.Has("code") {
			t.Errorf("%s: callback = %v, want %s", name, p, tt.want)
		}
	}
	if p := c.authorize("v", "n"); p.Get("code") == "" {
		t.Error("the unchanged request was refused too: the rows above prove nothing")
	}
}

func TestAuthorizeKeepsBrowserAtUnknownAddress(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice", Clients: []oidctest.Client{
		{ID: "mesh", Secret: "mesh-secret", RedirectURIs: []string{callback}}, {ID: "robot", Secret: "s", MachineOnly: true},
	}})
	c.authorize("v", "n")
	for _, change := range [][2]string{{"client_id", "other"}, {"client_id", "robot"}, {"redirect_uri", callback + "/"}, {"redirect_uri", "javascript:x"}} {
		u, err := url.Parse(c.conf.AuthCodeURL("s", oauth2.S256ChallengeOption("v")))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set(change[0], change[1])
		res, _ := do(t, "GET", c.conf.Endpoint.AuthURL+"?"+q.Encode(), nil)
		if res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" {
			t.Errorf("%v: %d to %q, want 400 and no redirect", change, res.StatusCode, res.Header.Get("Location"))
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{Users: append(oidctest.DefaultUsers(), oidctest.User{Subject: "x", Name: "<b>X"})})
	verifier := oauth2.GenerateVerifier()
	address := c.conf.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier))
	res, body := do(t, "GET", address, nil)
	if res.StatusCode != 200 || !strings.Contains(body, `value="alice"`) || !strings.Contains(body, `value="root"`) || strings.Contains(body, "<b>X") {
		t.Fatalf("page = %d %s", res.StatusCode, body)
	}
	res, _ = do(t, "POST", address, url.Values{"user": {"root"}})
	tok, err := c.conf.Exchange(t.Context(), callbackParams(t, res).Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.op.Verifier(&gooidc.Config{ClientID: "mesh"}).Verify(t.Context(), tok.Extra("id_token").(string))
	if err != nil || id.Subject != "root" {
		t.Errorf("signed in as %+v, %v, want root", id, err)
	}
	res, _ = do(t, "POST", address, url.Values{"user": {""}})
	if p := callbackParams(t, res); p.Get("error") != "access_denied" {
		t.Errorf("cancel = %v, want access_denied", p)
	}
	c.idp.Next(oidctest.Authorize, c.idp.As("bob"))
	if p := callbackParams(t, first(do(t, "GET", address, nil))); p.Get("code") == "" {
		t.Errorf("As: callback = %v, want a code", p)
	}
}

func first(res *http.Response, _ string) *http.Response { return res }

func TestCodeIsRedeemedOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newClient(t, oidctest.Config{AutoLogin: "alice", Now: func() time.Time { return now }})
	redeem := func(code, verifier string, edit func(*oauth2.Config)) error {
		conf := c.conf
		if edit != nil {
			edit(&conf)
		}
		_, err := conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
		return err
	}
	refused := func(what string, err error, code string) {
		t.Helper()
		if re, ok := err.(*oauth2.RetrieveError); !ok || re.ErrorCode != code { //nolint:errorlint // x/oauth2 returns it bare
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	code := c.authorize("verifier", "n").Get("code")
	refused("wrong verifier", redeem(code, "other", nil), "invalid_grant")
	refused("no verifier", redeem(code, "", nil), "invalid_grant")
	refused("wrong address", redeem(code, "verifier", func(o *oauth2.Config) { o.RedirectURL += "x" }), "invalid_grant")
	refused("wrong secret", redeem(code, "verifier", func(o *oauth2.Config) { o.ClientSecret = "x" }), "invalid_client")
	tok, err := c.conf.Exchange(t.Context(), code, oauth2.VerifierOption("verifier"))
	if err != nil {
		t.Fatal(err)
	}
	refused("second use", redeem(code, "verifier", nil), "invalid_grant")
	if _, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(tok)); err == nil {
		t.Error("tokens of a code that was used twice still work (RFC 6749 section 4.1.2)")
	}
	code = c.authorize("verifier", "n").Get("code")
	now = now.Add(2 * time.Minute)
	refused("after two minutes", redeem(code, "verifier", nil), "invalid_grant")
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice", Clients: []oidctest.Client{{ID: "odd:id", Secret: "s %+:é"}, {ID: "spa"}}})
	for _, tt := range []struct {
		id, secret string
		style      oauth2.AuthStyle
		ok         bool
	}{
		{"odd:id", "s %+:é", oauth2.AuthStyleInHeader, true},
		{"odd:id", "s %+:é", oauth2.AuthStyleInParams, true},
		{"odd:id", "", oauth2.AuthStyleInParams, false},
		{"spa", "", oauth2.AuthStyleInParams, true},
		{"spa", "x", oauth2.AuthStyleInParams, false},
		{"nobody", "", oauth2.AuthStyleInParams, false},
	} {
		c.conf.ClientID, c.conf.ClientSecret, c.conf.Endpoint.AuthStyle = "odd:id", tt.secret, tt.style
		if tt.id == "spa" {
			c.conf.ClientID = "spa"
		}
		code := c.authorize("v", "n").Get("code")
		c.conf.ClientID = tt.id
		if _, err := c.conf.Exchange(t.Context(), code, oauth2.VerifierOption("v")); (err == nil) != tt.ok {
			t.Errorf("%q %q style %d: %v, want ok %v", tt.id, tt.secret, tt.style, err, tt.ok)
		}
	}
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	renew := func(rt string) (*oauth2.Token, error) {
		return c.conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: rt}).Token()
	}
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.idp.SetUser(oidctest.User{Subject: "alice", Groups: []string{"moved"}})
	second, err := renew(tok.RefreshToken)
	if err != nil || second.RefreshToken == tok.RefreshToken {
		t.Fatalf("refresh = %v, %v, want a new refresh token", second, err)
	}
	id, err := c.op.Verifier(&gooidc.Config{ClientID: "mesh"}).Verify(t.Context(), second.Extra("id_token").(string))
	var claims struct{ Groups []string }
	if err != nil || id.Claims(&claims) != nil || !slices.Equal(claims.Groups, []string{"moved"}) || id.Nonce != "" {
		t.Errorf("refreshed ID token = %+v %+v, %v", id, claims, err)
	}
	// Nothing was done under Down, so the token still works afterwards.
	c.idp.Next(oidctest.Token, oidctest.Down, oidctest.Status(503))
	for range 2 {
		if _, err := renew(second.RefreshToken); err == nil {
			t.Fatal("refresh answered while the endpoint was down")
		}
	}
	third, err := renew(second.RefreshToken)
	if err != nil {
		t.Fatalf("after the outage: %v", err)
	}
	// Under Lost the work was done: using the token again looks like theft and ends the grant.
	c.idp.Next(oidctest.Token, oidctest.Lost)
	if _, err := renew(third.RefreshToken); err == nil {
		t.Fatal("the lost answer arrived")
	}
	if _, err := renew(third.RefreshToken); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("reuse = %v, want invalid_grant", err)
	}
	if _, err := c.op.UserInfo(t.Context(), oauth2.StaticTokenSource(third)); err == nil {
		t.Error("the grant lives on after a reused refresh token")
	}
}

func TestOneOfManyRefreshesWins(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{AutoLogin: "alice"})
	tok, _, err := c.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			if _, err := c.conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token(); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 8 refreshes with one token succeeded, want 1", won)
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	c := newClient(t, oidctest.Config{})
	res, body := do(t, "POST", c.conf.Endpoint.TokenURL, url.Values{"grant_type": {"client_credentials"}, "client_id": {"machine"}, "client_secret": {"machine-secret"}, "scope": {"read"}})
	var answer struct {
		AccessToken string `json:"access_token"`
		IDToken     string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || res.StatusCode != 200 || answer.IDToken != "" {
		t.Fatalf("token = %d %s", res.StatusCode, body)
	}
	id, err := c.op.Verifier(&gooidc.Config{ClientID: "api"}).Verify(t.Context(), answer.AccessToken)
	if err != nil || id.Subject != "machine" {
		t.Errorf("access token = %+v, %v", id, err)
	}
	for _, form := range []url.Values{
		{"grant_type": {"authorization_code"}, "client_id": {"machine"}, "client_secret": {"machine-secret"}, "code": {"x"}},
		{"grant_type": {"password"}, "client_id": {"mesh"}, "client_secret": {"mesh-secret"}},
		{"grant_type": {"client_credentials", "client_credentials"}, "client_id": {"machine"}, "client_secret": {"machine-secret"}},
	} {
		if res, body := do(t, "POST", c.conf.Endpoint.TokenURL, form); res.StatusCode != 400 {
			t.Errorf("%v = %d %s, want 400", form, res.StatusCode, body)
		}
	}
}
