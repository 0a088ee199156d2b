package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// logoutClaims are those of a good logout token (OIDC Back-Channel Logout 1.0 section
// 2.4) but for sub and sid, with changes; nil removes.
func (s *stack) logoutClaims(changes map[string]any) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": s.idp.Issuer(), "aud": s.client.id, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": random(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	return claims
}

func (s *stack) logoutToken(changes map[string]any, edit ...func(*oidctest.JWT)) string {
	token := oidctest.JWT{Header: map[string]any{"typ": "logout+jwt"}, Claims: s.logoutClaims(changes)}
	for _, e := range edit {
		e(&token)
	}
	text := s.idp.Sign(token)
	note("logout token", text)
	return text
}

// logout posts a logout token as a provider does.
func (s *stack) logout(t testing.TB, token string) answer {
	t.Helper()
	return s.post(t, loginHost, formType, url.Values{"logout_token": {token}}.Encode())
}

const formType = "application/x-www-form-urlencoded"

func (s *stack) post(t testing.TB, host, contentType, body string) answer {
	t.Helper()
	head := []string{
		"POST /oauth2/backchannel-logout HTTP/1.1", "host: " + host + ":" + portOf(s.origin(host)),
		"content-type: " + contentType, fmt.Sprintf("content-length: %d", len(body)),
	}
	a, err := rawTry(s.port, strings.Join(head, "\r\n")+"\r\n\r\n"+body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sids notes the provider's session of every login, by user.
type sids struct {
	mu  sync.Mutex
	all map[string]string // guarded by mu; the last of each user
}

func (c *sids) script(a *oidctest.Answer) {
	if a.IDToken == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sub, _ := a.IDToken.Claims["sub"].(string)
	c.all[sub], _ = a.IDToken.Claims["sid"].(string)
}

func (c *sids) of(user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[user]
}

// everywhere waits until a session has this outcome at every replica and says how long it took.
func (s *stack) everywhere(t testing.TB, cookie string, want outcome) {
	t.Helper()
	begin := time.Now()
	eventually(t, 5*time.Second, func() error {
		for i, g := range s.replicas {
			if v := g.checks.get(t.Context(), appHost, "/logout", "cookie: "+cookie); v.outcome() != want {
				return fmt.Errorf("replica %d: %v, want %s", i, v, want)
			}
		}
		return nil
	})
	t.Logf("%s everywhere after %v", want, time.Since(begin).Round(time.Millisecond))
}

// G3 to G6, G9: a logout token ends what it names, at every replica, once.
func TestBackChannelLogout(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	known := &sids{all: map[string]string{}}
	s.idp.Always(oidctest.Token, known.script)
	first := s.session(t, appHost, "alice")
	sid := known.of("alice")
	second := s.session(t, appHost, "alice")
	root := s.session(t, appHost, "root")
	for _, cookie := range []string{first, second, root} {
		s.everywhere(t, cookie, allowed)
	}
	token := s.logoutToken(map[string]any{"sid": sid, "sub": "alice"})
	if a := s.logout(t, token); a.Status != http.StatusOK || a.Header.Get("cache-control") != "no-store" {
		t.Fatalf("logout by sid: %v, want 200 and no-store", a)
	}
	s.everywhere(t, first, signedOut)
	s.everywhere(t, second, allowed)
	if a := s.logout(t, token); a.Status != http.StatusBadRequest {
		t.Errorf("the same token again: %v, want 400", a)
	}
	s.logged(t, "backchannel_refused", `"reason":"replayed"`)
	s.logoutRefusals(t, second)
	s.everywhere(t, second, allowed)
	if a := s.logout(t, s.logoutToken(map[string]any{"sub": "alice"})); a.Status != http.StatusOK {
		t.Fatalf("logout by sub: %v", a)
	}
	s.everywhere(t, second, signedOut)
	s.everywhere(t, root, allowed)
	time.Sleep(1200 * time.Millisecond) // within a second a login counts as under way: clocks differ
	s.session(t, appHost, "alice")      // whoever was logged out may come again
}

// logoutRefusals are tokens and requests that count for nothing.
func (s *stack) logoutRefusals(t *testing.T, alive string) {
	t.Helper()
	alice := map[string]any{"sub": "alice"}
	with := func(name string, value any) map[string]any { return map[string]any{"sub": "alice", name: value} }
	for name, token := range map[string]string{
		"G3 wrong aud": s.logoutToken(with("aud", "other")), "G3 wrong iss": s.logoutToken(with("iss", "https://evil.test")),
		"G3 old iat": s.logoutToken(with("iat", time.Now().Add(-time.Hour).Unix())), "G3 no iat": s.logoutToken(with("iat", nil)),
		"G3 old exp": s.logoutToken(with("exp", time.Now().Add(-time.Hour).Unix())), "G3 no jti": s.logoutToken(with("jti", nil)),
		"G3 nonce": s.logoutToken(with("nonce", "n")), "G3 nobody": s.logoutToken(nil),
		"G3 no events": s.logoutToken(with("events", nil)), "G3 wrong events": s.logoutToken(with("events", map[string]any{"x": map[string]any{}})),
		"G3 events is text":  s.logoutToken(with("events", "http://schemas.openid.net/event/backchannel-logout")),
		"G3 alg none":        s.logoutToken(alice, func(j *oidctest.JWT) { j.Alg = "none" }),
		"G3 HS256":           s.logoutToken(alice, func(j *oidctest.JWT) { j.Alg, j.Secret = "HS256", []byte(s.client.secret) }),
		"G3 signature":       s.logoutToken(alice, func(j *oidctest.JWT) { j.Mangle = oidctest.FlipSignature }),
		"G3 typ":             s.logoutToken(alice, func(j *oidctest.JWT) { j.Header["typ"] = "at+jwt" }),
		"G4 an ID token":     s.idp.IDToken("alice", s.client.id, ""),
		"G4 an access token": s.idp.Bearer(with("aud", s.client.id)),
		"junk":               "a.b.c", "empty": "",
	} {
		a := s.logout(t, token)
		if a.Status != http.StatusBadRequest || a.Header.Get("cache-control") != "no-store" || strings.Contains(string(a.Body), "alice") {
			t.Errorf("%s: %v, want 400 and no-store", name, a)
		}
	}
	s.logged(t, "backchannel_refused", `"reason":"rejected"`)
	good := url.Values{"logout_token": {s.logoutToken(alice)}}.Encode()
	for name, c := range map[string]struct {
		got  answer
		want int
	}{
		"two tokens":   {s.post(t, loginHost, formType, good+"&"+good), http.StatusBadRequest},
		"no form":      {s.post(t, loginHost, "application/json", good), http.StatusBadRequest},
		"G7 1 MB":      {s.post(t, loginHost, formType, "logout_token="+strings.Repeat("A", 1<<20)), http.StatusRequestEntityTooLarge},
		"G7 GET":       {get(t, s.port, loginHost+":"+portOf(s.origin(loginHost)), "/oauth2/backchannel-logout?"+good), http.StatusMethodNotAllowed},
		"G4 as bearer": {get(t, s.port, apiHost, "/refused", bearer(s.logoutToken(map[string]any{"sub": "machine", "aud": "api"}))...), http.StatusUnauthorized},
	} {
		if c.got.Status != c.want {
			t.Errorf("%s: %v, want %d", name, c.got, c.want)
		}
	}
	if a := s.post(t, appHost, formType, good); a.Status/100 != 4 {
		t.Errorf("at an application host: %v, want 4xx", a)
	}
	if v := s.gatehouse.checks.get(t.Context(), appHost, "/alive", "cookie: "+alive); v.outcome() != allowed {
		t.Errorf("after refused tokens: %v", v)
	}
}

// A logout that could not be written down is no success, and works when it comes again.
func TestBackChannelLogoutStoreDown(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	cookie := s.session(t, appHost, "alice")
	token := s.logoutToken(map[string]any{"sub": "alice"})
	s.redis.down()
	if a := s.logout(t, token); a.Status != http.StatusServiceUnavailable || a.Header.Get("retry-after") == "" {
		t.Errorf("store down: %v, want 503 with Retry-After", a)
	}
	s.redis.up(t)
	eventually(t, 10*time.Second, func() error {
		if a := s.logout(t, token); a.Status != http.StatusOK {
			return fmt.Errorf("the same token again: %v", a)
		}
		return nil
	})
	s.everywhere(t, cookie, signedOut)
}

// A login that was under way when its user was logged out does not survive.
func TestBackChannelLogoutDuringLogin(t *testing.T) {
	t.Parallel()
	s := newHandOvers(t)
	for _, by := range []string{"sub", "sid"} {
		t.Run(by, func(t *testing.T) {
			known := &sids{all: map[string]string{}}
			arrived := make(chan struct{})
			s.idp.Next(oidctest.Token, oidctest.Scripts(known.script, func(*oidctest.Answer) { close(arrived) }, oidctest.Slow(2*time.Second)))
			a := newAgent(t)
			at := a.open(s.url(appHost, "/refused"))
			ended := make(chan page, 1)
			go func() {
				p, err := a.send(http.MethodPost, at.url, url.Values{"user": {"alice"}})
				if err != nil {
					t.Error(err)
				}
				ended <- p
			}()
			<-arrived
			claims := map[string]any{"sub": "alice"}
			if by == "sid" {
				claims = map[string]any{"sid": known.of("alice")}
			}
			if a := s.logout(t, s.logoutToken(claims)); a.Status != http.StatusOK {
				t.Errorf("logout: %v", a)
			}
			p := <-ended
			if strings.HasPrefix(p.url, s.origin(appHost)+"/refused") {
				t.Errorf("the login survived: %s %v", p.url, p)
			}
			if p.Status >= 500 { // the store is well, and says what is certain
				t.Errorf("the login ended at %.80s with %d, want to be asked again or refused", p.url, p.Status)
			}
			if keys := s.redis.sessions(t); len(keys) != 0 {
				t.Errorf("records %q are left", keys)
			}
		})
	}
	neverArrived(t, s.app, "/refused")
	time.Sleep(1200 * time.Millisecond)
	s.session(t, appHost, "alice")
}

var xsrf = regexp.MustCompile(`name="xsrf" value="([^"]+)"`)

// Signing out at npm's oidc-provider ends the session at every replica, by the token
// that the provider itself sends.
func TestBackChannelLogoutCertified(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{certified: true, redis: true, login: true, replicas: 3})
	a := newAgent(t)
	a.signIn(s.url(appHost, "/hello"), "alice")
	cookie := a.cookie(s.url(appHost, "/"))
	elsewhere := s.session(t, appHost, "alice") // another browser, another session at the provider
	root := s.session(t, appHost, "root")
	for _, c := range []string{cookie, elsewhere, root} {
		s.everywhere(t, c, allowed)
	}
	form := a.open(s.issuer() + "/session/end")
	m := xsrf.FindSubmatch(form.Body)
	if m == nil {
		t.Fatalf("no form to sign out at the provider: %v", form)
	}
	p, err := a.send(http.MethodPost, s.issuer()+"/session/end/confirm", url.Values{"xsrf": {string(m[1])}, "logout": {"yes"}})
	if err != nil || p.Status >= 400 {
		t.Fatalf("sign-out at the provider: %v %v", p, err)
	}
	eventually(t, 5*time.Second, func() error {
		if s.certified.count("logout sent") != 1 {
			return fmt.Errorf("the provider's log: %s", s.certified.proc.tail(5))
		}
		return nil
	})
	s.everywhere(t, cookie, signedOut)
	s.everywhere(t, elsewhere, allowed)
	s.everywhere(t, root, allowed)
}
