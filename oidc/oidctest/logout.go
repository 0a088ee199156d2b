package oidctest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Session is a sign-in that has not ended.
type Session struct{ ID, Subject, ClientID string } // ID is the sid of its ID tokens

// Sessions returns the sign-ins that have not ended, oldest first.
func (p *Provider) Sessions() []Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	var live []Session
	for _, g := range p.signIns {
		if !g.revoked {
			live = append(live, Session{g.sid, g.subject, g.clientID})
		}
	}
	return live
}

// End ends a sign-in with all that it gave, and tells its client, when that has a
// BackchannelLogoutURI, by a logout token with sub and sid. It waits for the client's
// answer, which Notices has too. An unknown sid, or one that has ended, is nothing to
// do. The end_session endpoint does the same.
func (p *Provider) End(sid string) {
	if s, told := p.end(sid); told {
		p.Notify(s.ClientID, p.LogoutToken(s.ClientID, s.Subject, sid))
	}
}

// end reports whom a sign-in was of, and whether its client wants to know of its end.
func (p *Provider) end(sid string) (s Session, told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.signIns, func(g *grant) bool { return g.sid == sid && !g.revoked })
	if i < 0 {
		return Session{}, false
	}
	g := p.signIns[i]
	g.revoked = true
	return Session{g.sid, g.subject, g.clientID}, p.clients[g.clientID].BackchannelLogoutURI != ""
}

// Revoke ends every sign-in of a user and tells nobody: refreshing answers
// invalid_grant, userinfo 401.
func (p *Provider) Revoke(subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.signIns {
		if g.subject == subject {
			g.revoked = true
		}
	}
}

// LogoutToken mints a logout token for a client (OpenID Connect Back-Channel Logout
// 1.0 section 2.4). An empty subject or sid is left out; edit may change the rest.
func (p *Provider) LogoutToken(clientID, subject, sid string, edit ...func(*JWT)) string {
	now := p.cfg.Now()
	t := JWT{Header: map[string]any{"typ": "logout+jwt"}, Claims: map[string]any{
		"iss": p.Issuer(), "aud": clientID, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}}
	put(t.Claims, "sub", subject)
	put(t.Claims, "sid", sid)
	return p.signEdited(t, edit)
}

// Notice is a logout token that was sent to a client.
type Notice struct {
	ClientID, Token string
	Status          int // of the answer; zero: there was none
	Header          http.Header
	Body            string // of the answer, up to 64 KiB
	Err             error  // why there was no answer
}

// notifyTimeout bounds how long a client may take.
const notifyTimeout = 10 * time.Second

// Notify sends a logout token, or what a test wants to pass for one, to the client's
// BackchannelLogoutURI (section 2.5).
func (p *Provider) Notify(clientID, token string) Notice {
	c, _ := p.client(clientID)
	n := Notice{ClientID: clientID, Token: token}
	n.Err = n.send(c.BackchannelLogoutURI)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notices = append(p.notices, n)
	return n
}

// Notices returns what End and Notify have sent so far, in the order of the answers.
func (p *Provider) Notices() []Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.notices)
}

// send posts the token and reads the answer. Redirects are not followed.
func (n *Notice) send(uri string) error {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	form := url.Values{"logout_token": {n.Token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("logout token for client %q: %w", n.ClientID, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("logout token for client %q: %w", n.ClientID, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("logout token for client %q: %w", n.ClientID, err)
	}
	n.Status, n.Header, n.Body = res.StatusCode, res.Header, string(body)
	return nil
}

// endSession is RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0
// section 2). It asks nobody: there is no session of the browser here to protect.
func (p *Provider) endSession(a *Answer) {
	f := a.Request.Form
	clientID, sid := f.Get("client_id"), ""
	if hint := f.Get("id_token_hint"); hint != "" {
		claims, ok := p.minted(hint)
		aud, _ := claims["aud"].(string)
		if !ok || clientID != "" && clientID != aud {
			a.page(http.StatusBadRequest, "Not signed out", "The id_token_hint is not from here, or for another application.")
			return
		}
		clientID = aud
		sid, _ = claims["sid"].(string)
	}
	p.End(sid)
	target := f.Get("post_logout_redirect_uri")
	if target == "" {
		a.page(http.StatusOK, "Signed out", "You are signed out of the demo provider.")
		return
	}
	c, ok := p.client(clientID)
	if !ok || !registered(target, c.PostLogoutRedirectURIs) {
		a.page(http.StatusBadRequest, "Unknown address", "The post_logout_redirect_uri "+target+" is not registered for this client.")
		return
	}
	a.Redirect = target
	if s := f.Get("state"); s != "" {
		a.Params = map[string]string{"state": s}
	}
}

// minted returns the claims of a token that this Provider signed, expired or not.
// Having recorded every token, it need not verify a signature.
func (p *Provider) minted(compact string) (map[string]any, bool) {
	p.mu.Lock()
	known := slices.Contains(p.secrets, compact)
	p.mu.Unlock()
	parts := strings.Split(compact, ".")
	if !known || len(parts) != 3 {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, false
	}
	var claims map[string]any
	return claims, json.Unmarshal(payload, &claims) == nil
}
