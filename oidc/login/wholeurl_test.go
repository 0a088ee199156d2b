package login_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// C2: ingress-nginx sends browsers to start with the whole URL that they asked for, on
// their own host or on the login host.
func TestC2WholeURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.lands(b.start("/oauth2/start?rd=http://app.localhost:8000%2Fdeep%3Fa%3D1"), "/deep?a=1")
	b = w.browser()
	b.lands(b.start("/oauth2/start?rd=http://app.localhost:8000.evil.test%2Fx"), "/")

	m := newMesh(t)
	for _, app := range []string{one, two} {
		v := m.visitor()
		end, d := v.follow(auth + "/oauth2/start?rd=" + url.QueryEscape(app+"/deep?a=1&b=%2F"))
		if end != app+"/deep?a=1&b=%2F" || d.Outcome != authz.Allow {
			t.Errorf("%s: ended at %s: %v", app, end, d.Outcome)
		}
	}
}

// O1: whole URLs lead to hosts where people sign in, and to nothing else there but
// applications.
func TestO1WholeURLOfStrangers(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, rd := range []string{
		"https://evil.test/x", two + ".evil.test/x", two + "@evil.test/x", two + ":8443/x", "HTTPS://two.example.net/x", two, "https:/two.example.net/x",
	} {
		if to, _ := m.visitor().follow(auth+"/oauth2/start?rd="+url.QueryEscape(rd), m.idp.Issuer()); !strings.HasPrefix(to, m.idp.Issuer()) && !strings.HasPrefix(to, auth) {
			t.Errorf("rd=%s leads to %s", rd, to)
		}
	}
	for _, path := range []string{"//evil.test", `/\evil.test`, "/oauth2/sign_out", "/%2f%2fevil.test"} {
		end, _ := m.visitor().follow(auth + "/oauth2/start?rd=" + url.QueryEscape(two+path))
		if end != two+"/" {
			t.Errorf("path %s ended at %s, want the application's first page", path, end)
		}
	}
}

// C2: the header of proxies that lead to start by themselves says the same; a parameter wins.
func TestC2RedirectHeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		query, want string
		lines       []string
	}{
		{"", "/deep?a=1", []string{"/deep?a=1"}},
		{"", "/deep", []string{"http://app.localhost:8000/deep"}},
		{"?rd=/other", "/other", []string{"/deep"}},
		{"", "/", []string{"//evil.test"}},
		{"", "/", []string{"https://evil.test/x"}},
		{"", "/", []string{"/a", "/b"}},
	} {
		b := w.browser()
		var header []authz.Field
		for _, line := range c.lines {
			header = append(header, authz.Field{Name: "x-auth-request-redirect", Value: line})
		}
		d := b.get("/oauth2/start"+c.query, header...)
		b.lands(b.atProvider(field(d.Response, "location")), c.want)
	}
}
