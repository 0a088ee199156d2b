package oidctest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

type refresh struct {
	grant *grant
	used  bool
}

type access struct {
	grant   *grant
	expires time.Time
}

// token is the token endpoint (RFC 6749 section 3.2).
func (p *Provider) token(a *Answer) {
	if a.Request.Method != http.MethodPost {
		a.fail(http.StatusMethodNotAllowed, "invalid_request", "POST only")
		return
	}
	for name, values := range a.Request.PostForm {
		if len(values) > 1 {
			a.fail(http.StatusBadRequest, "invalid_request", "repeated parameter "+name)
			return
		}
	}
	c, ok := p.authenticate(a)
	if !ok {
		return
	}
	f := a.Request.PostForm
	grantType := f.Get("grant_type")
	switch {
	case grantType == "client_credentials" && c.Secret != "":
		p.clientCredentials(a, c, f.Get("scope"))
	case c.MachineOnly || grantType == "client_credentials":
		a.fail(http.StatusBadRequest, "unauthorized_client", "not for this client")
	case grantType == "authorization_code":
		p.redeem(a, c, f)
	case grantType == "refresh_token":
		p.renew(a, c, f.Get("refresh_token"))
	default:
		a.fail(http.StatusBadRequest, "unsupported_grant_type", grantType)
	}
}

// authenticate finds the client of a form request (RFC 6749 section 2.3).
func (p *Provider) authenticate(a *Answer) (Client, bool) {
	f := a.Request.PostForm
	id, secret, basic := a.Request.BasicAuth()
	if basic {
		// Both halves are form-encoded before they are joined (section 2.3.1).
		var err1, err2 error
		id, err1 = url.QueryUnescape(id)
		secret, err2 = url.QueryUnescape(secret)
		if err1 != nil || err2 != nil || f.Has("client_secret") || f.Has("client_id") && f.Get("client_id") != id {
			a.fail(http.StatusBadRequest, "invalid_request", "two kinds of client authentication, or a broken one")
			return Client{}, false
		}
	} else {
		id, secret = f.Get("client_id"), f.Get("client_secret")
	}
	c, ok := p.client(id)
	if !ok || subtle.ConstantTimeCompare([]byte(secret), []byte(c.Secret)) != 1 {
		a.fail(http.StatusUnauthorized, "invalid_client", "unknown client or wrong secret")
		a.Header.Set("WWW-Authenticate", `Basic realm="oidctest"`)
		return Client{}, false
	}
	return c, true
}

func (p *Provider) clientCredentials(a *Answer, c Client, scope string) {
	a.AccessToken = p.accessToken(p.Issuer(), c, c.ID, scope, c.Claims)
	a.JSON["token_type"], a.JSON["expires_in"] = "Bearer", int(p.ttl(c)/time.Second)
}

// redeem exchanges a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6).
func (p *Provider) redeem(a *Answer, c Client, f url.Values) {
	sum := sha256.Sum256([]byte(f.Get("code_verifier")))
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := f.Get("code_verifier"); v != "" {
		p.secret(v)
	}
	k := p.codes[f.Get("code")]
	why := ""
	switch {
	case k == nil || k.grant.clientID != c.ID:
		why = "unknown code"
	case k.used: // somebody has it twice: void what it gave (section 4.1.2)
		k.grant.revoked = true
		why = "the code was used before"
	case k.grant.revoked:
		why = "the sign-in was ended"
	case p.cfg.Now().After(k.expires):
		why = "the code is too old"
	case k.redirectURI != f.Get("redirect_uri"):
		why = "another redirect_uri"
	case base64.RawURLEncoding.EncodeToString(sum[:]) != k.challenge:
		why = "the code_verifier does not fit"
	}
	if why != "" {
		a.fail(http.StatusBadRequest, "invalid_grant", why)
		return
	}
	k.used = true
	undo := p.grantTokens(a, c, k.grant, nil)
	a.undo = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		k.used = false
		undo()
	}
}

// renew answers a refresh request (RFC 6749 section 6). A refresh token that was
// used before revokes the whole grant (RFC 9700 section 4.14.2).
func (p *Provider) renew(a *Answer, c Client, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.refresh[text]
	why := ""
	switch {
	case old == nil || old.grant.clientID != c.ID:
		why = "unknown refresh token"
	case old.grant.revoked:
		why = "revoked"
	case old.used:
		old.grant.revoked = true
		p.reused++
		why = "the refresh token was used before"
	case p.user(old.grant.subject) == nil:
		why = "the user is gone"
	}
	if why != "" {
		a.fail(http.StatusBadRequest, "invalid_grant", why)
		return
	}
	old.used = !p.cfg.KeepRefreshTokens
	undo := p.grantTokens(a, c, old.grant, old)
	a.same = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		old.used = false
	}
	a.undo = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		old.used = false
		undo()
	}
}

// grantTokens fills a with new tokens for g and returns what takes them back.
// Both run with mu held. old is nil at the first exchange.
func (p *Provider) grantTokens(a *Answer, c Client, g *grant, old *refresh) (undo func()) {
	u := p.user(g.subject)
	if u == nil {
		a.fail(http.StatusBadRequest, "invalid_grant", "the user is gone")
		return func() {}
	}
	a.grant = g
	a.JSON["token_type"], a.JSON["expires_in"], a.JSON["scope"] = "Bearer", int(p.ttl(c)/time.Second), g.scope
	opaque, renewed := "", ""
	if len(c.Audience) > 0 {
		a.AccessToken = p.accessToken(p.issuer, c, g.subject, g.scope, nil)
	} else {
		opaque = p.secret("at-" + rand.Text())
		p.access[opaque] = &access{grant: g, expires: p.cfg.Now().Add(p.ttl(c))}
		a.JSON["access_token"] = opaque
	}
	wanted := p.cfg.AlwaysRefresh || slices.Contains(strings.Fields(g.scope), "offline_access")
	if old != nil && p.cfg.KeepRefreshTokens {
		wanted = false
	}
	if wanted {
		renewed = p.secret("rt-" + rand.Text())
		p.refresh[renewed] = &refresh{grant: g}
		a.JSON["refresh_token"] = renewed
	}
	a.IDToken = p.idToken(p.issuer, g, *u, p.ttl(c))
	if old != nil { // OpenID Connect Core 1.0 section 12.2: need carry none
		delete(a.IDToken.Claims, "nonce")
	}
	return func() {
		delete(p.access, opaque)
		delete(p.refresh, renewed)
	}
}
