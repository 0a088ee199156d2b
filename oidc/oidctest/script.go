package oidctest

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Endpoint names one of the Provider's addresses.
type Endpoint string

const (
	Discovery  Endpoint = "discovery"
	JWKS       Endpoint = "jwks"
	Authorize  Endpoint = "authorize"
	Token      Endpoint = "token"
	Userinfo   Endpoint = "userinfo"
	EndSession Endpoint = "end_session"
	Revocation Endpoint = "revocation"
)

var endpoints = map[string]Endpoint{
	"/.well-known/openid-configuration": Discovery,
	"/jwks":                             JWKS,
	"/authorize":                        Authorize,
	"/token":                            Token,
	"/userinfo":                         Userinfo,
	"/end_session":                      EndSession,
	"/revoke":                           Revocation,
}

// Answer is what the Provider is about to say. A Script may change all of it;
// tokens are signed afterwards.
type Answer struct {
	Endpoint Endpoint
	Request  *http.Request // its form has been parsed

	Status int
	Header http.Header
	// JSON are the members of the body (discovery, jwks, token, userinfo). The
	// token endpoint adds access_token and id_token when it signs them.
	JSON map[string]any
	// Body replaces JSON when it is not nil.
	Body []byte
	// Redirect is where a browser is sent, with these parameters in its query:
	// authorize and end_session. Empty: nowhere.
	Redirect string
	Params   map[string]string
	// IDToken and AccessToken are about to be signed; nil: there is none.
	// AccessToken is nil as well when the access token is opaque (JSON["access_token"]).
	IDToken, AccessToken *JWT

	// Delay is waited for before the answer is written, Drip between its bytes.
	Delay, Drip time.Duration
	// Lost closes the connection instead of answering; what was done stays done.
	Lost bool
	// Undo takes back what the request did: a code or refresh token it spent
	// may be used again, what it minted is void.
	Undo bool

	undo  func() // nil: the request changed nothing
	same  func() // refresh: the refresh token that came is good again; nil: there is none
	grant *grant // token: whom the access token belongs to; nil for machines
}

// Script changes an Answer. It runs without any lock held, so it may block to
// hold the answer back, and may call the Provider.
type Script func(*Answer)

// Next runs the scripts in turn, each on one coming request to ep. Scripts of
// earlier calls come first.
func (p *Provider) Next(ep Endpoint, scripts ...Script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next[ep] = append(p.next[ep], scripts...)
}

// Always runs s on every request to ep for which Next has none; nil ends that.
func (p *Provider) Always(ep Endpoint, s Script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.always[ep] = s
}

// AlwaysAll does Always on every endpoint: idp.AlwaysAll(oidctest.Down).
func (p *Provider) AlwaysAll(s Script) {
	for _, ep := range endpoints {
		p.Always(ep, s)
	}
}

// Hits returns how many requests ep has had, answered or not.
func (p *Provider) Hits(ep Endpoint) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[ep]
}

// Grants returns how many token requests of a grant_type there were, answered or not:
// Grants("refresh_token").
func (p *Provider) Grants(grantType string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grants[grantType]
}

// Reused returns how often a refresh token came that had been used before. Each time
// ended its grant, with every token of it.
func (p *Provider) Reused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reused
}

// ResetHits starts all counts and Requests again.
func (p *Provider) ResetHits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.hits)
	clear(p.grants)
	p.reused = 0
	clear(p.requests)
}

const maxRequests = 1000

// Requests returns the last 1,000 requests to ep, oldest first, with their
// forms parsed and their bodies consumed. They must not be changed.
func (p *Provider) Requests(ep Endpoint) []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests[ep])
}

// arrive counts a request and returns the script for it, or nil.
func (p *Provider) arrive(ep Endpoint, r *http.Request) Script {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits[ep]++
	if ep == Token {
		p.grants[r.PostForm.Get("grant_type")]++
	}
	if p.requests[ep] = append(p.requests[ep], r); len(p.requests[ep]) > maxRequests {
		p.requests[ep] = slices.Delete(p.requests[ep], 0, maxRequests/2)
	}
	if q := p.next[ep]; len(q) > 0 {
		p.next[ep] = q[1:]
		return q[0]
	}
	return p.always[ep]
}

// Scripts joins several into one, run in order.
func Scripts(all ...Script) Script {
	return func(a *Answer) {
		for _, s := range all {
			s(a)
		}
	}
}

// Down closes the connection without an answer and without having done anything.
func Down(a *Answer) { a.Lost, a.Undo = true, true }

// Lost does the work and closes the connection before the answer: the ambiguous outage.
func Lost(a *Answer) { a.Lost = true }

// Status answers with status and an empty body, and without having done anything.
func Status(status int) Script {
	return func(a *Answer) {
		a.Status, a.Body, a.Undo, a.Redirect = status, []byte{}, true, ""
		a.IDToken, a.AccessToken = nil, nil
	}
}

// OAuthError answers 400 with an error object (RFC 6749 section 5.2), for
// example invalid_grant, without having done anything.
func OAuthError(code string) Script {
	return func(a *Answer) {
		a.Undo = true
		a.fail(http.StatusBadRequest, code, "scripted")
	}
}

// Slow waits before it answers.
func Slow(d time.Duration) Script { return func(a *Answer) { a.Delay = d } }

// Drip writes one byte, waits, writes the next.
func Drip(d time.Duration) Script { return func(a *Answer) { a.Drip = d } }

// Garbage answers 200 with text that is not JSON.
func Garbage(a *Answer) {
	a.raw("text/html; charset=utf-8", []byte("<!doctype html><p>Under construction"))
}

// Huge answers 200 with 10 MB of valid JSON.
func Huge(a *Answer) {
	a.raw("application/json", slices.Concat([]byte(`{"pad":"`), bytes.Repeat([]byte("x"), 10<<20), []byte(`"}`)))
}

// Redirect answers 302 to target, which no JSON endpoint should ever do.
func Redirect(target string) Script {
	return func(a *Answer) {
		a.raw("text/plain", []byte{})
		a.Status, a.Undo = http.StatusFound, true
		a.Header.Set("Location", target)
	}
}

// NoIDToken leaves id_token out of a token answer.
func NoIDToken(a *Answer) { a.IDToken = nil }

// NoRefreshToken leaves refresh_token out of a token answer. At a refresh the one that
// came goes on being good.
func NoRefreshToken(a *Answer) {
	delete(a.JSON, "refresh_token")
	if a.same != nil {
		a.same()
	}
}

// OnGrant runs s for token requests of one grant_type and leaves the others alone:
// Always(Token, OnGrant("refresh_token", Status(503))).
func OnGrant(grantType string, s Script) Script {
	return func(a *Answer) {
		if a.Endpoint == Token && a.Request.PostForm.Get("grant_type") == grantType {
			s(a)
		}
	}
}

// Claim sets a claim of the ID token, or removes it when value is nil:
// Claim("nonce", "other"), Claim("aud", []string{"x"}), Claim("iss", nil).
// On userinfo it does the same to the answer's members.
func Claim(name string, value any) Script {
	return func(a *Answer) {
		if a.IDToken != nil {
			merge(a.IDToken.Claims, map[string]any{name: value})
		}
		if a.Endpoint == Userinfo {
			merge(a.JSON, map[string]any{name: value})
		}
	}
}

// Member sets a member of a JSON answer, or removes it when value is nil.
func Member(name string, value any) Script {
	return func(a *Answer) { merge(a.JSON, map[string]any{name: value}) }
}

// Param sets a parameter of the redirect back to the client, or removes it when
// value is empty: Param("iss", "https://other.example").
func Param(name, value string) Script {
	return func(a *Answer) {
		if a.Params == nil {
			a.Params = map[string]string{}
		}
		a.Params[name] = value
		if value == "" {
			delete(a.Params, name)
		}
	}
}

// Alg signs the ID token with another algorithm: "none", "ES256", or "HS256"
// keyed with secret.
func Alg(alg, secret string) Script {
	return func(a *Answer) {
		if a.IDToken != nil {
			a.IDToken.Alg, a.IDToken.Secret = alg, []byte(secret)
		}
	}
}

// BadSignature breaks the signature of the ID token.
func BadSignature(a *Answer) {
	if a.IDToken != nil {
		a.IDToken.Mangle = FlipSignature
	}
}

// FlipSignature changes one character in the middle of a compact token's signature.
func FlipSignature(compact string) string {
	i := strings.LastIndexByte(compact, '.') + 1
	i += (len(compact) - i) / 2
	if i >= len(compact) {
		return compact
	}
	b := []byte(compact)
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func (a *Answer) raw(contentType string, body []byte) {
	a.Status, a.Body, a.Redirect = http.StatusOK, body, ""
	a.IDToken, a.AccessToken = nil, nil
	a.Header.Set("Content-Type", contentType)
}

// fail makes a the error object of RFC 6749 section 5.2.
func (a *Answer) fail(status int, code, description string) {
	a.Status, a.Body, a.Redirect = status, nil, ""
	a.IDToken, a.AccessToken = nil, nil
	a.JSON = map[string]any{"error": code, "error_description": description}
}

// send signs what is to be signed and writes the answer.
func (p *Provider) send(w http.ResponseWriter, a *Answer) {
	if a.Undo && a.undo != nil {
		a.undo()
	}
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-a.Request.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if a.Lost {
		panic(http.ErrAbortHandler)
	}
	body := p.finish(a)
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.Status)
	if a.Drip > 0 {
		drip(w, a, body)
		return
	}
	_, _ = w.Write(body) // the client may be gone; nobody is left to tell
}

func drip(w http.ResponseWriter, a *Answer, body []byte) {
	for i := range body {
		if _, err := w.Write(body[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(a.Drip):
		case <-a.Request.Context().Done():
			return
		}
	}
}

// finish turns the answer into status, header and body.
func (p *Provider) finish(a *Answer) []byte {
	if a.Redirect != "" {
		a.Status = http.StatusFound
		a.Header.Set("Location", withParams(a.Redirect, a.Params))
		return nil
	}
	if a.Body != nil {
		return a.Body
	}
	if a.Header.Get("Content-Type") == "" {
		a.Header.Set("Content-Type", "application/json")
	}
	if a.AccessToken != nil {
		a.JSON["access_token"] = p.Sign(*a.AccessToken)
		p.adopt(a)
	}
	if a.IDToken != nil {
		a.JSON["id_token"] = p.Sign(*a.IDToken)
	}
	return encode(a.JSON)
}
