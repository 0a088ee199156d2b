package login_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
)

// The hosts of a mesh: a login host, two applications on different domains, one with a
// choice of providers, and one below a wildcard.
const (
	auth   = "https://auth.example.com"
	one    = "http://one.localhost:8000"
	two    = "https://two.example.net"
	choice = "https://choice.example.com"
	wild   = "https://x.wild.example.com"
)

// mesh is a world with a login host.
type mesh struct {
	*world
	partners *oidc.Provider
	handler  http.Handler
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{world: newWorld(t)}
	m.partners = m.newProvider("partner", "https://partner.example.net")
	m.build([]func(*login.Config){m.hosts})
	return m
}

func (m *mesh) hosts(cfg *login.Config) {
	cfg.Hosts = []login.Host{
		{Name: "one.localhost", Origin: one, Providers: []string{"corp"}},
		{Name: "two.example.net", Origin: two, Providers: []string{"corp"}},
		{Name: "choice.example.com", Origin: choice, Providers: []string{"corp", "partner"}},
		{Name: "x.wild.example.com", Origin: wild, Providers: []string{"corp"}},
	}
	cfg.LoginHost = &login.Host{Name: "auth.example.com", Origin: auth, Providers: []string{"corp", "partner"}}
	cfg.Providers = []*oidc.Provider{m.provider, m.partners}
}

// build makes one replica of the mesh anew, over the same store and keys.
func (m *mesh) build(change []func(*login.Config)) {
	m.t.Helper()
	cfg := m.config()
	for _, f := range change {
		f(&cfg)
	}
	m.assemble(cfg)
	source := func(provider string, choice ...string) authz.Source {
		return authz.Source{Provider: provider, Login: true, Authenticator: m.login.Authenticator(provider, false, choice...)}
	}
	policy := check(authz.NewPolicy([]authz.Rule{
		{Name: "apps", Hosts: []string{"one.localhost", "two.example.net", "*.wild.example.com"}, Sources: []authz.Source{source("corp")}, Require: authz.AnyUser()},
		{Name: "admin", Hosts: []string{"one.localhost"}, Paths: []string{"/admin/**"}, Sources: []authz.Source{source("corp")}, Require: authz.Groups("admins")},
		{Name: "choice", Hosts: []string{"choice.example.com"}, Require: authz.AnyUser(), Sources: []authz.Source{
			source("corp", "corp", "partner"), source("partner", "corp", "partner"),
		}},
	}))(m.t)
	m.gate = check(authz.New(authz.Config{
		Passage: authz.Passage{Authority: "auth.example.com", Prefix: "/oauth2"}, Policy: policy, Endpoints: m.endpoint, Render: login.Render,
	}))(m.t)
	m.handler = authz.Handler(func() *authz.Authorizer { return m.gate }, nil)
}

// visitor is a browser that goes from host to host.
type visitor struct {
	m    *mesh
	jars map[string]*browser // by origin
	hops []string            // addresses that were loaded
}

func (m *mesh) visitor() *visitor { return &visitor{m: m, jars: make(map[string]*browser)} }

func (v *visitor) at(origin string) *browser {
	if v.jars[origin] == nil {
		v.jars[origin] = v.m.browser()
	}
	return v.jars[origin]
}

// load opens one address as a navigation.
func (v *visitor) load(address string, more ...authz.Field) authz.Decision {
	v.m.t.Helper()
	v.hops = append(v.hops, address)
	u := check(url.Parse(address))(v.m.t)
	b := v.at(u.Scheme + "://" + u.Host)
	header := append(append(authz.Header{}, navigate...), more...)
	if c := b.cookies(); c != "" {
		header = append(header, authz.Field{Name: "cookie", Value: c})
	}
	r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: u.Host, Target: u.RequestURI(), Header: header, ID: "req-1"})
	if err != nil {
		return v.m.gate.Reject(r, err)
	}
	d := v.m.gate.Authorize(v.m.t.Context(), r)
	if d.Reason == authz.ReasonPassage {
		d = authz.Decision{Outcome: authz.Answer, Response: v.m.serve(address, header)}
	}
	if d.Outcome != authz.Allow {
		b.store(d.Response)
		v.m.checkResponse(address, d.Response)
	}
	return d
}

// serve is our HTTP listener, behind the passage.
func (m *mesh) serve(address string, header authz.Header) authz.Response {
	in := httptest.NewRequestWithContext(m.t.Context(), http.MethodGet, address, http.NoBody)
	in.RequestURI = in.URL.RequestURI()
	for _, f := range header {
		in.Header.Add(f.Name, f.Value)
	}
	rec := httptest.NewRecorder()
	m.handler.ServeHTTP(rec, in)
	out := authz.Response{Status: rec.Code, Body: check(io.ReadAll(rec.Body))(m.t)}
	for name, values := range rec.Header() {
		for _, value := range values {
			out.Header = append(out.Header, authz.Field{Name: strings.ToLower(name), Value: value})
		}
	}
	return out
}

// follow opens an address and goes where it is sent until nobody sends it on, or until
// the address holds one of the texts in until: that one is returned, not opened.
func (v *visitor) follow(address string, until ...string) (string, authz.Decision) {
	v.m.t.Helper()
	for range 30 {
		var to string
		if strings.HasPrefix(address, v.m.idp.Issuer()) || strings.HasPrefix(address, v.m.partners.Issuer()) {
			v.hops = append(v.hops, address)
			to = v.m.atProvider(address)
		} else {
			d := v.load(address)
			if to = field(d.Response, "location"); to == "" {
				return address, d
			}
			if strings.Contains(to, "/oauth2/handoff?") && field(d.Response, "referrer-policy") != "no-referrer" {
				v.m.t.Errorf("a hand-over may leak by the referrer: %v", d.Response.Header)
			}
			if len(to) > 2048 {
				v.m.t.Errorf("an address of %d bytes: %.100s", len(to), to)
			}
		}
		base := check(url.Parse(address))(v.m.t)
		address = check(base.Parse(to))(v.m.t).String()
		for _, text := range until {
			if strings.Contains(address, text) {
				return address, authz.Decision{}
			}
		}
	}
	v.m.t.Fatalf("redirected without end: %q", v.hops[len(v.hops)-6:])
	return "", authz.Decision{}
}

// signIn opens an address and ends up there, signed in.
func (v *visitor) signIn(address string) *authz.Identity {
	v.m.t.Helper()
	end, d := v.follow(address)
	if end != address || d.Outcome != authz.Allow {
		v.m.t.Fatalf("opening %s ended at %s: %v %d %s\n%s", address, end, d.Outcome, d.Response.Status, d.Reason, d.Response.Body)
	}
	return d.Identity
}

// atProvider is one navigation to a provider: it returns where that sends the browser.
func (w *world) atProvider(address string) string {
	w.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req := check(http.NewRequestWithContext(w.t.Context(), http.MethodGet, address, http.NoBody))(w.t)
	res := check(client.Do(req))(w.t)
	defer res.Body.Close()
	return res.Header.Get("Location")
}

// reasons returns how often a refusal was logged with a reason.
func (w *world) reasons(reason string) int {
	return strings.Count(w.log.String(), `"reason":"`+reason+`"`)
}
