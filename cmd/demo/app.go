package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// received is what the application tells about a request.
type received struct {
	Method  string              `json:"method"`
	Host    string              `json:"host"`
	Target  string              `json:"target"`
	Headers map[string][]string `json:"headers"`
}

//go:embed app.html
var appHTML string

var appPage = template.Must(template.New("app").Parse(appHTML))

type line struct {
	Name, Value string
	Identity    bool // set by Gatehouse
}

// application shows the headers that it received: a page for browsers, JSON for programs.
func application() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Vary", "Accept")
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(received{r.Method, r.Host, r.RequestURI, lowerNames(r.Header)}.json()) // the client may be gone
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		_ = appPage.Execute(w, map[string]any{
			"User": r.Header.Get("X-Auth-Request-User"), "Groups": r.Header.Get("X-Auth-Request-Groups"),
			"Admin":  strings.HasPrefix(r.URL.Path, "/admin/") || r.URL.Path == "/admin",
			"Target": r.RequestURI, "Host": r.Host, "Lines": lines(r.Header),
		})
	})
}

// json is r with one header per line, for people who read it in a terminal.
func (r received) json() []byte {
	text := func(v any) []byte {
		b, _ := json.Marshal(v) // strings always can be
		return b
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"method\": %s,\n  \"host\": %s,\n  \"target\": %s,\n  \"headers\": {", text(r.Method), text(r.Host), text(r.Target))
	sep := "\n"
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		fmt.Fprintf(&b, "%s    %s: %s", sep, text(name), text(r.Headers[name]))
		sep = ",\n"
	}
	b.WriteString("\n  }\n}\n")
	return b.Bytes()
}

func lowerNames(h http.Header) map[string][]string {
	out := make(map[string][]string, len(h))
	for name, values := range h {
		name = strings.ToLower(name)
		out[name] = append(out[name], values...)
	}
	return out
}

// lines are the headers, identity first.
func lines(h http.Header) []line {
	var out []line
	for name, values := range lowerNames(h) {
		for _, v := range values {
			out = append(out, line{name, v, strings.HasPrefix(name, "x-auth-request-")})
		}
	}
	slices.SortFunc(out, func(a, b line) int {
		if a.Identity != b.Identity {
			if a.Identity {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name+"\x00"+a.Value, b.Name+"\x00"+b.Value)
	})
	return out
}
