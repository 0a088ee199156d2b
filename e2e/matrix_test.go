package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// place is the part of the fixture's rules that a request belongs to.
type place string

const (
	anonymous place = "anonymous" // anybody
	whoever   place = "app"       // anybody who is signed in
	admins    place = "admin"     // the group admins
	composed  place = "composed"  // GET, and an e-mail address in good.test
	goodMail  place = "good"      // an e-mail address in good.test
	either    place = "both"      // whoever is signed in or has a token
	oneToken  place = "api"       // the token of one subject
	nowhere   place = "no rule"   // nobody
	several   place = "ambiguous" // upstreams differ about it: nobody
	malformed place = "malformed" // no request at all: nobody
)

// spelling is a path and the place on appHost that upstreams find under it.
type spelling struct {
	path  string
	place place
}

var spellings = []spelling{
	{"/", whoever},
	{"/x", whoever},
	{"/x?next=/static/a", whoever},
	{"/static", anonymous},
	{"/static/a.js", anonymous},
	{"/static/a?to=/admin/x", anonymous},
	{"/static//a", anonymous},
	{"/staticx", whoever},
	{"/STATIC/a", whoever},
	{"/admin", admins},
	{"/admin/x", admins},
	{"/admin//x", admins},
	{"/admin/a%2fb", admins},
	{"/adminx", whoever},
	{"/Admin/x", whoever},
	{"/a%2fb", whoever},
	{"/composed/x", composed},
	{"//admin/x", several},
	{"/./admin/x", several},
	{"/%61dmin/x", several},
	{"/admin%2fx", several},
	{"/admin%5cx", several},
	{"/admin;v=1/x", several},
	{"/admin/..", several},
	{"/static/../admin/x", several},
	{"/static/%2e%2e/admin/x", several},
	{"/static/.%2E/admin/x", several},
	{"/static%2f..%2fadmin/x", several},
	{"/static/%252e%252e/admin/x", several},
	{"/static/..;/admin/x", several},
	{"/static/..%5cadmin/x", several},
	{"/x#/static/a", malformed},
	{"/static/%zz", malformed},
	{"/static/%00", malformed},
}

// at is the place of a request.
func at(host, method string, s spelling) place {
	if s.place == malformed {
		return malformed
	}
	switch host {
	case appHost:
		if s.place == anonymous && method != http.MethodGet {
			return whoever // the rule is about GET and HEAD
		}
		return s.place
	case goodHost:
		return goodMail
	case bothHost:
		return either
	case apiHost:
		return oneToken
	case openHost:
		return anonymous
	}
	return nowhere
}

// credential is what a request carries, as the rules of the fixture know it.
type credential struct {
	name   string
	user   string // of a good cookie; empty: none
	token  string // subject of a good token; "bad": one that is not accepted; empty: none
	cookie map[string]string
	bearer string
}

func (c credential) lines(host string) []string {
	var lines []string
	if c.cookie != nil {
		value := c.cookie[host]
		if value == "" {
			value = c.cookie[appHost] // another host's
		}
		lines = append(lines, "cookie: "+value)
	}
	if c.bearer != "" {
		lines = append(lines, "authorization: Bearer "+c.bearer)
	}
	return lines
}

// wanted says by hand what a request must be answered: 200, 400, 401 (or the way to a
// login), 403.
func wanted(p place, method string, c credential) int {
	signedIn := func(ok bool) int {
		switch {
		case c.user == "":
			return 401
		case !ok:
			return 403
		}
		return 200
	}
	good := c.user == "alice" || c.user == "root"
	switch p {
	case anonymous:
		return 200
	case whoever:
		return signedIn(true)
	case admins:
		return signedIn(c.user == "root")
	case composed:
		return signedIn(good && method == http.MethodGet)
	case goodMail:
		return signedIn(good)
	case either:
		// A token is judged alone.
		switch c.token {
		case "":
			return signedIn(true)
		case "bad":
			return 401
		}
		return 200
	case oneToken:
		switch c.token {
		case "", "bad":
			return 401
		case "machine":
			return 200
		}
		return 403
	case nowhere:
		return 403
	case several, malformed:
		return 400
	}
	return 0
}

// class folds the two ways to say "sign in".
func class(status int) int {
	switch status {
	case 0:
		return 200
	case http.StatusFound, http.StatusSeeOther:
		return 401
	case http.StatusNotFound:
		return 403
	}
	return status
}

// headerSets never change a decision: they are words of whoever asks.
var headerSets = [][]string{
	nil,
	navigation,
	{"x-auth-request-user: root", "x-auth-request-groups: admins", "x-auth-request-email: root@good.test"},
	{"x_auth_request_user: root", "x-forwarded-user: root", "remote-user: root"},
	{"x-original-url: /static/a.js", "x-rewrite-url: /static/a.js", "x-forwarded-uri: /static/a.js", "x-envoy-original-path: /static/a.js"},
	{"x-forwarded-host: " + openHost, "x-original-host: " + openHost, "forwarded: host=" + openHost},
	{"x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "x-envoy-internal: true"},
	{"x-http-method-override: GET", "x-forwarded-method: GET", "x-original-method: GET"},
}

// TestMatrix asks about every combination of host, path, header, method and credential,
// and a part of them again through a real Envoy, with and without normalisation. What
// is expected is said above by hand, place by place.
func TestMatrix(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{access: "none", listeners: []listener{{rawHeaders: true}, {normalise: true, rawHeaders: true}}})
	hosts := []string{appHost, goodHost, bothHost, apiHost, openHost, "unknown.test"}
	credentials := []credential{
		{name: "nothing"},
		{name: "alice", user: "alice"},
		{name: "root", user: "root"},
		{name: "mallory", user: "mallory"},
		{name: "a cookie of nobody", cookie: map[string]string{appHost: "__Host-gh_corp=" + random()}},
		{name: "a token", token: "machine", bearer: s.idp.Bearer(nil)},
		{name: "another's token", token: "other", bearer: s.idp.Bearer(map[string]any{"sub": "other"})},
		{name: "a token for another audience", token: "bad", bearer: s.idp.Bearer(map[string]any{"aud": "other"})},
		{name: "alice and a bad token", user: "alice", token: "bad", bearer: "a.b.c"},
		{name: "mallory and a token", user: "mallory", token: "machine", bearer: s.idp.Bearer(nil)},
	}
	for i, c := range credentials {
		if c.user == "" {
			continue
		}
		credentials[i].cookie = map[string]string{}
		for _, h := range hosts[:3] {
			a := newAgent(t)
			a.signIn(s.url(h, "/hello"), c.user) // which may end in a 403
			credentials[i].cookie[h] = a.cookie(s.url(h, "/"))
		}
	}
	rows, counts := 0, map[int]int{}
	for _, host := range hosts {
		for _, path := range spellings {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				for _, c := range credentials {
					want := wanted(at(host, method, path), method, c)
					for _, extra := range headerSets {
						rows++
						v := s.gatehouse.checks.ask(t.Context(), method, host, path.path, slices.Concat(c.lines(host), extra))
						if got := class(v.Status); got != want || v.Err != nil {
							t.Errorf("%s %s%s with %s and %q: %v, want %d", method, host, path.path, c.name, extra, v, want)
						}
						counts[want]++
						if rows%37 != 0 && (host != appHost || extra != nil) {
							continue
						}
						for _, l := range s.listeners {
							s.throughEnvoy(t, l, host, method, path, c, extra, want)
						}
					}
					if t.Failed() && rows > 5000 {
						t.FailNow()
					}
				}
			}
		}
	}
	t.Logf("%d rows: %v", rows, counts)
	if rows < 2000 || counts[200] < 500 || counts[400] < 500 || counts[401] < 500 || counts[403] < 500 {
		t.Error("the matrix is too small to mean anything")
	}
}

func (s *stack) throughEnvoy(t *testing.T, l listener, host, method string, path spelling, c credential, extra []string, want int) {
	t.Helper()
	// The application says what arrived in JSON to whoever does not ask for a page.
	extra = slices.DeleteFunc(slices.Clone(extra), func(line string) bool { return strings.HasPrefix(line, "accept: ") })
	head := append([]string{method + " " + path.path + " HTTP/1.1", "host: " + host, "content-length: 0"}, slices.Concat(c.lines(host), extra)...)
	a := raw(t, l.port, head...)
	row := fmt.Sprintf("%v: %s %s%s with %s and %q", l, method, host, path.path, c.name, extra)
	if !l.normalise && class(a.Status) != want {
		t.Errorf("%s: %v, want %d", row, a, want)
	}
	if a.Status != http.StatusOK {
		return
	}
	// Whatever Envoy made of the path, what arrived is what was judged.
	arrived := a.seen(t)
	if got := wanted(at(host, method, spellingOf(arrived.Target)), method, c); got != 200 {
		t.Errorf("%s: arrived as %s, which is %d", row, arrived.Target, got)
	}
}

// spellingOf is the place of a path that arrived.
func spellingOf(target string) spelling {
	for _, s := range spellings {
		if s.path == target {
			return s
		}
	}
	path, _, _ := strings.Cut(target, "?")
	if strings.ContainsAny(path, `%;\#`) || strings.Contains(path, "/.") || strings.Contains(path, "//") {
		return spelling{target, several}
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "static":
		return spelling{target, anonymous}
	case "admin":
		return spelling{target, admins}
	case "composed":
		return spelling{target, composed}
	}
	return spelling{target, whoever}
}
