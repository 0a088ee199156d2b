package login_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
)

func problem(status int) authz.Problem {
	return authz.Problem{Status: status, RetryAfter: 2 * time.Second, Challenge: authz.Challenge{
		Location: "/oauth2/start?rd=/x", WWWAuthenticate: "Bearer", Clear: []authz.Field{{Name: "set-cookie", Value: "__Host-gh_corp=; Max-Age=0"}},
	}}
}

func TestRender(t *testing.T) {
	t.Parallel()
	for _, status := range []int{302, 400, 401, 403, 404, 405, 429, 500, 503} {
		for caller, contentType := range map[authz.Caller]string{
			authz.Navigation: "text/html; charset=utf-8", authz.Fetch: "application/problem+json", authz.GRPC: "text/plain; charset=utf-8",
			authz.Upgrade: "application/problem+json", authz.Preflight: "application/problem+json",
		} {
			r := login.Render(&authz.Request{Caller: caller, ID: "id-1"}, problem(status))
			if field(r, "cache-control") != "no-store" {
				t.Errorf("%d for %v may be cached", status, caller)
			}
			if status == 302 && caller == authz.Navigation {
				if r.Status != 302 || field(r, "location") != "/oauth2/start?rd=/x" {
					t.Errorf("sign in = %d %v", r.Status, r.Header)
				}
				continue
			}
			want := status
			if status == 302 {
				want = 401
			}
			if r.Status != want || field(r, "content-type") != contentType || field(r, "location") != "" || len(r.Body) == 0 {
				t.Errorf("%d for %v = %d %v", status, caller, r.Status, r.Header)
			}
			if caller == authz.GRPC && (field(r, "set-cookie") != "" || len(r.Body) > 100) {
				t.Errorf("%d for gRPC = %v %q", status, r.Header, r.Body)
			}
			if caller == authz.Fetch {
				var p map[string]any
				if err := json.Unmarshal(r.Body, &p); err != nil || p["status"] != float64(want) || p["title"] == "" || p["request_id"] != "id-1" {
					t.Errorf("%d as problem+json: %s", status, r.Body)
				}
				if want == 401 && field(r, "www-authenticate") != "Bearer" {
					t.Errorf("401 without a challenge: %v", r.Header)
				}
				if field(r, "retry-after") != "2" {
					t.Errorf("%d without retry-after: %v", status, r.Header)
				}
			}
		}
	}
}

func TestRenderWithoutAddress(t *testing.T) {
	t.Parallel()
	r := login.Render(&authz.Request{Caller: authz.Navigation}, authz.Problem{Status: 302})
	if r.Status != 401 || field(r, "location") != "" {
		t.Errorf("302 without an address = %d", r.Status)
	}
}

func TestForbiddenOffersAnotherAccount(t *testing.T) {
	t.Parallel()
	r := login.Render(&authz.Request{Caller: authz.Navigation}, problem(403))
	if !strings.Contains(string(r.Body), `href="/oauth2/start?rd=/x&amp;prompt=login"`) {
		t.Errorf("no way out of a 403:\n%s", r.Body)
	}
}

// W1, W2: the policy names the hash of the very style that the page carries.
func TestPagePolicy(t *testing.T) {
	t.Parallel()
	p := login.Page{
		Status: 400, Title: `"><script>alert(1)</script>`, Text: []string{"<b>"}, Causes: []string{"<i>"}, Quote: "<svg>",
		Actions: []login.Action{{Label: "<u>", Address: "javascript:alert(1)"}, {Label: "x", Address: `"><img src=x>`, Post: true}},
	}
	r := p.Response(&authz.Request{Caller: authz.Navigation, ID: "<id>"})
	body := string(r.Body)
	for _, bad := range []string{"<script", "<b>", "<i>", "<svg", "<u>", "<img", "<id>", "javascript:alert"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page holds %q:\n%s", bad, body)
		}
	}
	_, rest, _ := strings.Cut(body, "<style>")
	style, _, ok := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	if hash := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !ok || !strings.Contains(field(r, "content-security-policy"), "style-src "+hash) {
		t.Errorf("style %q is not what %q allows", hash, field(r, "content-security-policy"))
	}
	for _, want := range []string{`<html lang="en">`, "<main>", "<h1>", "<title>", `name="viewport"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %s", want)
		}
	}
}
