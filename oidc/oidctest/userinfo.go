package oidctest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// userinfo is the UserInfo endpoint (OpenID Connect Core 1.0 section 5.3).
func (p *Provider) userinfo(a *Answer) {
	scheme, text, _ := strings.Cut(a.Request.Header.Get("Authorization"), " ")
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.access[text]
	var u *User
	if t != nil && strings.EqualFold(scheme, "Bearer") && !t.grant.revoked && !p.cfg.Now().After(t.expires) {
		u = p.user(t.grant.subject)
	}
	if u == nil {
		a.fail(http.StatusUnauthorized, "invalid_token", "unknown, expired or revoked")
		a.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		return
	}
	a.JSON = u.claims(t.grant.scope, nil)
}

// adopt makes a signed JWT access token good for userinfo.
func (p *Provider) adopt(a *Answer) {
	text, ok := a.JSON["access_token"].(string)
	if a.grant == nil || !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.access[text] = &access{grant: a.grant, expires: p.cfg.Now().Add(p.ttl(p.clients[a.grant.clientID]))}
}

// revocation is the endpoint of RFC 7009: an unknown token is no error.
func (p *Provider) revocation(a *Answer) {
	if a.Request.Method != http.MethodPost {
		a.fail(http.StatusMethodNotAllowed, "invalid_request", "POST only")
		return
	}
	c, ok := p.authenticate(a)
	if !ok {
		return
	}
	text := a.Request.PostForm.Get("token")
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.refresh[text]; r != nil && r.grant.clientID == c.ID {
		r.grant.revoked = true
	}
	if t := p.access[text]; t != nil && t.grant.clientID == c.ID {
		delete(p.access, text)
	}
	a.Body = []byte{}
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
	p.revokeSession(sid)
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

// revokeSession ends the grants of one sign-in.
func (p *Provider) revokeSession(sid string) {
	if sid == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.refresh {
		if r.grant.sid == sid {
			r.grant.revoked = true
		}
	}
	for _, t := range p.access {
		if t.grant.sid == sid {
			t.grant.revoked = true
		}
	}
}

// Revoke ends every grant of a user: refreshing answers invalid_grant, userinfo 401.
func (p *Provider) Revoke(subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.refresh {
		if r.grant.subject == subject {
			r.grant.revoked = true
		}
	}
	for _, t := range p.access {
		if t.grant.subject == subject {
			t.grant.revoked = true
		}
	}
}
