package login_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// withPartner is a mesh whose second provider answers.
func withPartner(t *testing.T) (*mesh, *oidctest.Server) {
	t.Helper()
	m := newMesh(t)
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "bob"})
	m.partners = m.newProvider("partner", idp.Issuer())
	m.build([]func(*login.Config){m.hosts})
	return m, idp
}

// links returns the addresses that a page links to.
func links(d authz.Decision) []string {
	var all []string
	for _, part := range strings.Split(string(d.Response.Body), `<a href="`)[1:] {
		address, _, _ := strings.Cut(part, `"`)
		all = append(all, strings.ReplaceAll(address, "&amp;", "&"))
	}
	return all
}

// Who may sign in with several providers chooses, and comes back where he wanted to go.
func TestChooser(t *testing.T) {
	t.Parallel()
	m, _ := withPartner(t)
	v := m.visitor()
	end, d := v.follow(choice + "/deep?x=1&y=2")
	if d.Response.Status != 200 || len(links(d)) != 2 || len(v.at(choice).jar) != 0 {
		t.Fatalf("the way to %s = %d with links %q and cookies %q\n%s", end, d.Response.Status, links(d), v.at(choice).jar, d.Response.Body)
	}
	for i, want := range []string{"alice", "bob"} {
		v := m.visitor()
		_, page := v.follow(choice + "/deep?x=1&y=2")
		if end, d := v.follow(choice + links(page)[i]); end != choice+"/deep?x=1&y=2" || d.Identity == nil || d.Identity.Subject != want {
			t.Errorf("choice %d ended at %s as %+v, want %s", i, end, d.Identity, want)
		}
	}
}

// One cookie and one record per provider; the first identity that may pass counts.
func TestSeveralProviders(t *testing.T) {
	t.Parallel()
	m, _ := withPartner(t)
	v := m.visitor()
	_, page := v.follow(choice + "/x")
	v.follow(choice + links(page)[1])
	if d := v.load(choice + "/x"); d.Identity == nil || d.Identity.Provider != "partner" {
		t.Errorf("signed in with the partner: %+v", d.Identity)
	}
	v.follow(choice + "/oauth2/start?provider=corp&rd=/x")
	if d := v.load(choice + "/x"); d.Identity == nil || d.Identity.Provider != "corp" {
		t.Errorf("signed in with both: %+v", d.Identity)
	}
	for _, origin := range []string{choice, auth} {
		if names := v.at(origin).names("__Host-gh_"); len(names) != 2 {
			t.Errorf("cookies at %s: %q", origin, names)
		}
	}
	if n := m.store.creates.Load(); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	v.signIn(one + "/x") // corp, without a choice and without the provider
	if n := m.idp.Hits(oidctest.Authorize); n != 1 {
		t.Errorf("%d authorization requests at corp, want 1", n)
	}
}

func TestChooserRefuses(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, names := range []string{"other", "corp,other", "corp,", ",", "Corp", "p"} {
		v := m.visitor()
		if d := v.load(choice + "/oauth2/start?rd=/x&provider=" + names); d.Response.Status != 400 || len(v.at(choice).jar) != 0 {
			t.Errorf("provider=%s = %d", names, d.Response.Status)
		}
	}
	if n := m.reasons("unknown_provider"); n != 6 {
		t.Errorf("%d refusals in the log, want 6", n)
	}
	d := m.visitor().load(choice + "/oauth2/start?rd=//evil.test&again=9.9%22%3E&provider=corp,corp,partner&prompt=login")
	for _, link := range links(d) {
		if !strings.HasPrefix(link, "/oauth2/start?provider=") || strings.Contains(link, "evil") || !strings.HasSuffix(link, "&prompt=login") {
			t.Errorf("link %q", link)
		}
	}
	if len(links(d)) != 2 {
		t.Errorf("links %q, want one per provider", links(d))
	}
	script := authz.Header{{Name: "sec-fetch-mode", Value: "cors"}}
	r := check(authz.NewRequest(authz.Raw{Method: "GET", Authority: "choice.example.com", Target: "/x", Header: script}))(t)
	got := m.gate.Authorize(t.Context(), r).Response
	if challenge := field(got, "www-authenticate"); got.Status != 401 || !strings.Contains(challenge, "__Host-gh_corp") || !strings.Contains(challenge, "__Host-gh_partner") {
		t.Errorf("a script gets %d %q, want 401 and both challenges", got.Status, challenge)
	}
}
