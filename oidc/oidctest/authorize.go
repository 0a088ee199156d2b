package oidctest

import (
	"crypto/rand"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// grant is one sign-in of a user to a client. Its tokens live and die with it.
type grant struct {
	clientID, subject, scope, nonce, sid string
	authTime                             time.Time
	revoked                              bool // guarded by Provider.mu
}

type code struct {
	grant                  *grant
	redirectURI, challenge string
	expires                time.Time
	used                   bool
}

// authorize is the authorization endpoint (OpenID Connect Core 1.0 section 3.1.2).
// GET shows the page (or signs AutoLogin in), the page POSTs back to the same address.
func (p *Provider) authorize(a *Answer) {
	q := a.Request.URL.Query()
	c, ok := p.client(q.Get("client_id"))
	redirect := q.Get("redirect_uri")
	switch {
	case !ok || c.MachineOnly:
		a.page(http.StatusBadRequest, "Unknown application", "No client "+q.Get("client_id")+" is registered for logins.")
		return
	case !registered(redirect, c.RedirectURIs):
		a.page(http.StatusBadRequest, "Unknown address", "The redirect_uri "+redirect+" is not registered for this client.")
		return
	}
	a.Redirect, a.Params = redirect, map[string]string{}
	if !p.cfg.OmitIssParameter {
		a.Params["iss"] = p.Issuer() // RFC 9207, on errors too
	}
	if s := q.Get("state"); s != "" {
		a.Params["state"] = s
	}
	if e, why := refusal(q); e != "" {
		a.Params["error"], a.Params["error_description"] = e, why
		return
	}
	p.login(a, c, q)
}

// refusal checks an authorization request whose client is known.
func refusal(q url.Values) (code, why string) {
	for name, values := range q {
		if len(values) > 1 { // RFC 6749 section 3.1
			return "invalid_request", "repeated parameter " + name
		}
	}
	switch {
	case q.Get("response_type") != "code":
		return "unsupported_response_type", "only code"
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return "invalid_scope", "openid is missing"
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		return "invalid_request", "PKCE with S256 is required"
	case strings.Contains(" "+q.Get("prompt")+" ", " none "):
		return "login_required", "nobody is signed in here"
	}
	return "", ""
}

// login decides who signs in: AutoLogin, the button that was pressed, or nobody yet.
func (p *Provider) login(a *Answer, c Client, q url.Values) {
	subject := p.cfg.AutoLogin
	if a.Request.Method == http.MethodPost {
		subject = a.Request.PostForm.Get("user")
		if subject == "" {
			a.Params["error"], a.Params["error_description"] = "access_denied", "the user said no"
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if subject == "" {
		a.pick(c, p.users)
		return
	}
	if p.user(subject) == nil {
		a.Params["error"], a.Params["error_description"] = "access_denied", "no such user"
		return
	}
	text := p.secret(rand.Text())
	now := p.cfg.Now()
	g := &grant{clientID: c.ID, subject: subject, scope: q.Get("scope"), nonce: q.Get("nonce"), sid: rand.Text(), authTime: now}
	p.signIns = append(p.signIns, g)
	p.codes[text] = &code{
		grant:       g,
		redirectURI: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), expires: now.Add(p.cfg.CodeTTL),
	}
	a.Params["code"] = text
	a.undo = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.codes, text)
		g.revoked = true
	}
}

// As signs subject in without a page: idp.Next(oidctest.Authorize, idp.As("root")).
// It changes a page or another user's login into this one; errors stay errors.
func (p *Provider) As(subject string) Script {
	return func(a *Answer) {
		q := a.Request.URL.Query()
		c, ok := p.client(q.Get("client_id"))
		if a.Endpoint != Authorize || !ok || a.Params["error"] != "" {
			return
		}
		p.mu.Lock()
		if made := p.codes[a.Params["code"]]; made != nil {
			made.grant.subject = subject
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		r := a.Request.Clone(a.Request.Context())
		r.Method, r.PostForm = http.MethodPost, url.Values{"user": {subject}}
		b := &Answer{Request: r, Params: a.Params}
		p.login(b, c, q)
		a.Redirect, a.Params, a.Body, a.undo = q.Get("redirect_uri"), b.Params, nil, b.undo
		a.Header.Del("Content-Security-Policy")
	}
}

func (p *Provider) client(id string) (Client, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.clients[id]
	return c, ok
}

// registered compares addresses as strings (RFC 9700 section 2.1).
func registered(uri string, allowed []string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Fragment != "" {
		return false
	}
	return len(allowed) == 0 || slices.Contains(allowed, uri)
}

// withParams adds parameters to an address that may have some.
func withParams(uri string, params map[string]string) string {
	if len(params) == 0 {
		return uri
	}
	v := url.Values{}
	for name, value := range params {
		v.Set(name, value)
	}
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	return uri + sep + v.Encode()
}

type pageData struct {
	Title, Text, Action, Client string
	Users                       []User
}

// page shows a message.
func (a *Answer) page(status int, title, text string) {
	a.html(status, pageData{Title: title, Text: text})
}

// pick shows the users to choose from.
func (a *Answer) pick(c Client, users []User) {
	a.Redirect = ""
	a.html(http.StatusOK, pageData{Title: "Who are you?", Client: c.ID, Action: a.Request.URL.RequestURI(), Users: slices.Clone(users)})
}

func (a *Answer) html(status int, data pageData) {
	var b strings.Builder
	if err := pages.Execute(&b, data); err != nil {
		panic("oidctest: " + err.Error())
	}
	a.Status, a.Body = status, []byte(b.String())
	a.Header.Set("Content-Type", "text/html; charset=utf-8")
	// No form-action: browsers apply it to the redirect that follows as well.
	a.Header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	a.Header.Set("Referrer-Policy", "no-referrer")
}

var pages = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} · demo provider</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent) }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 28rem; margin: 12vh auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .25rem }
button { font: inherit; color: inherit; background: none; display: block; width: 100%; text-align: left; padding: .75rem 1rem; margin: .5rem 0; border: 1px solid var(--line); border-radius: .5rem; cursor: pointer }
button:hover { background: color-mix(in srgb, currentColor 8%, transparent) }
button:focus-visible { outline: 3px solid Highlight; outline-offset: 2px }
small { opacity: .75; display: block }
</style>
<main>
<h1>{{.Title}}</h1>
{{- if .Text}}
<p>{{.Text}}</p>
{{- end}}
{{- if .Action}}
<p>{{.Client}} asks you to sign in. This is a demo provider: there are no passwords.</p>
<form method="post" action="{{.Action}}">
{{- range .Users}}
<button name="user" value="{{.Subject}}">{{or .Name .Subject}}<small>{{.Email}}{{range .Groups}} · {{.}}{{end}}</small></button>
{{- end}}
<button name="user" value="">Nobody: cancel</button>
</form>
{{- end}}
</main>
</html>
`))
