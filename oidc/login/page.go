package login

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Page is what we say to whoever sent a request: to a person as HTML, to a
// program as problem+json (RFC 9457), to a gRPC client as one line. It says what
// happened and what to do, and never holds the text of an error.
type Page struct {
	Status      int // of the answer
	Title       string
	Text        []string      // paragraphs
	Causes      []string      // a list below them
	Quote       string        // somebody else's words, bounded by the caller
	Body        template.HTML // more of the page, made by a template of the caller's
	Wide        bool          // Body needs room
	Actions     []Action
	FormTargets []string      // origins that a form may end up at, besides our own
	Referrer    string        // referrer policy; default no-referrer
	Header      []authz.Field // more headers; cookies and addresses are withheld from gRPC
}

// Action is a link, or a button that posts nothing to Address.
type Action struct {
	Label, Address string
	Post           bool
}

var (
	//go:embed page.css
	pageStyle string
	//go:embed page.html
	pageText string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"style": func() template.HTML { return template.HTML("<style>" + pageStyle + "</style>") }, //nolint:gosec // our own constant
	}).Parse(pageText))

	pagePolicy = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; style-src 'sha256-" + styleHash() + "'; form-action 'self'"
)

func styleHash() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Response shows the page to the sender of r.
func (p Page) Response(r *authz.Request) authz.Response {
	switch {
	case r.Caller == authz.GRPC:
		return authz.Response{
			Status: p.Status,
			Header: []authz.Field{{Name: "content-type", Value: "text/plain; charset=utf-8"}, {Name: "cache-control", Value: "no-store"}},
			Body:   []byte(p.Title),
		}
	case ByPerson(r):
		return p.html(r)
	default:
		return p.problem(r)
	}
}

func (p Page) html(r *authz.Request) authz.Response {
	policy := strings.Join(append([]string{pagePolicy}, p.FormTargets...), " ") // it ends with form-action
	referrer := p.Referrer
	if referrer == "" {
		referrer = "no-referrer"
	}
	var body bytes.Buffer
	err := pageTemplate.Execute(&body, struct {
		Page
		ID string
	}{p, r.ID})
	if err != nil { // the template is ours and fixed: only a test can see this
		body.Reset()
		body.WriteString("<!doctype html><title>Error</title>")
	}
	return authz.Response{Status: p.Status, Body: body.Bytes(), Header: append([]authz.Field{
		{Name: "content-type", Value: "text/html; charset=utf-8"},
		{Name: "content-security-policy", Value: policy},
		{Name: "x-frame-options", Value: "DENY"},
		{Name: "referrer-policy", Value: referrer},
		{Name: "x-content-type-options", Value: "nosniff"},
		{Name: "cache-control", Value: "no-store"},
	}, p.Header...)}
}

func (p Page) problem(r *authz.Request) authz.Response {
	problem := struct {
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail,omitempty"`
		RequestID string `json:"request_id,omitempty"`
	}{p.Title, p.Status, strings.Join(p.Text, " "), r.ID}
	return jsonResponse(p.Status, "application/problem+json", problem, p.Header...)
}

// JSON answers a program.
func JSON(status int, value any, header ...authz.Field) authz.Response {
	return jsonResponse(status, "application/json", value, header...)
}

func jsonResponse(status int, contentType string, value any, header ...authz.Field) authz.Response {
	body, err := json.Marshal(value)
	if err != nil { // our own structs of strings always encode
		body = []byte(`{"title":"Internal error","status":500}`)
		status, contentType = http.StatusInternalServerError, "application/problem+json"
	}
	return authz.Response{Status: status, Body: append(body, '\n'), Header: append([]authz.Field{
		{Name: "content-type", Value: contentType},
		{Name: "referrer-policy", Value: "no-referrer"},
		{Name: "x-content-type-options", Value: "nosniff"},
		{Name: "cache-control", Value: "no-store"},
	}, header...)}
}

// Redirect sends a browser on. Status is 302 or 303, never 307: that would
// repeat a request with its body elsewhere (RFC 9700 section 4.12).
func Redirect(status int, location string, header ...authz.Field) authz.Response {
	return authz.Response{Status: status, Header: append([]authz.Field{
		{Name: "location", Value: location},
		{Name: "referrer-policy", Value: "no-referrer"},
		{Name: "x-content-type-options", Value: "nosniff"},
		{Name: "cache-control", Value: "no-store"},
	}, header...)}
}

// ByPerson reports whether a person will read the answer: a navigation, also one
// that posts a form. It decides the form of an answer, never its content.
func ByPerson(r *authz.Request) bool {
	if r.Caller != authz.Fetch {
		return r.Caller == authz.Navigation
	}
	if mode, n := r.Header.Get("sec-fetch-mode"); n > 0 {
		return n == 1 && mode == "navigate"
	}
	accept, _ := r.Header.Get("accept")
	return strings.Contains(accept, "text/html")
}
