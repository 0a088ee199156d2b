package oidctest

import (
	"net/http"
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
