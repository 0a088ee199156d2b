package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// Without a login host logout tokens are taken on every host of the HTTP listener, and
// on no other listener.
func TestBackChannelLogout(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{})
	g := start(t, fmt.Sprintf(base, idp.Issuer()))
	post := func(listener, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address(listener)+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	const address = "/oauth2/backchannel-logout"
	now := time.Now()
	token := idp.Sign(oidctest.JWT{Header: map[string]any{"typ": "logout+jwt"}, Claims: map[string]any{
		"iss": idp.Issuer(), "aud": "mesh", "sub": "alice", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "1",
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}})
	form := url.Values{"logout_token": {token}}.Encode()
	var status int
	for range 200 { // 503 until the provider has been read
		if status, _ = post("http", address, form); status != http.StatusServiceUnavailable {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if status != http.StatusOK {
		t.Errorf("a good token = %d, want 200\n%s", status, g.log)
	}
	if status, body := post("http", address, form); status != http.StatusBadRequest || body != `{"error":"invalid_request"}`+"\n" {
		t.Errorf("the same again = %d %q, want 400", status, body)
	}
	if status, _, _ := g.get("http", "any.example.com", address); status != http.StatusMethodNotAllowed {
		t.Errorf("GET = %d, want 405", status)
	}
	for listener, path := range map[string]string{"http": address + "/x", "ops": address} {
		if status, _ := post(listener, path, form); status != http.StatusNotFound {
			t.Errorf("%s on the %s listener = %d, want 404", path, listener, status)
		}
	}
	g.await(`"msg":"backchannel_logout","provider":"corp".*"client":"127.0.0.1"`)
	if strings.Contains(g.log.String(), token) { // V2
		t.Error("the token is in the log")
	}
}
