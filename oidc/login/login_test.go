package login_test

import (
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser()
	b.signIn("/a/deep%20link?with=query&and=%2Fmore")
	if d := b.get("/x"); d.Outcome != authz.Allow || d.Identity.Subject != "alice" || d.Identity.Session == "" {
		t.Errorf("after the login: %v, identity %+v", d.Outcome, d.Identity)
	}
	if d := b.get("/admin/"); d.Response.Status != 403 {
		t.Errorf("alice at /admin/ = %d, want 403", d.Response.Status)
	}
	if names := b.names("__Host-gh_p_"); len(names) != 0 {
		t.Errorf("pending cookies are left: %q", names)
	}
}
