package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// A whole login over both doors: applications are answered by Check, the login host over
// HTTP, where Check lets its prefix, cookies and all, through.
func TestLoginHostOverBothDoors(t *testing.T) {
	idp := oidctest.Start(t, oidctest.Config{AutoLogin: "alice"})
	text := strings.Replace(fmt.Sprintf(base, idp.Issuer()), "providers:", "login_url: http://auth.localhost:10000\nproviders:", 1)
	g := start(t, text)
	conn := g.dial()
	navigation := func(cookie string) map[string]string {
		h := map[string]string{"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
		if cookie != "" {
			h["cookie"] = cookie
		}
		return h
	}
	const app, auth = "app.localhost:10000", "auth.localhost:10000"

	r := check(t, conn, app, "/x", navigation(""))
	r = check(t, conn, app, denied(r, "location"), navigation(""))
	errand, _, _ := strings.Cut(denied(r, "set-cookie"), ";")
	ask, ok := strings.CutPrefix(denied(r, "location"), "http://"+auth)
	if !ok || !strings.HasPrefix(errand, "__Host-gh_p_") {
		t.Fatalf("the application's start leads to %q with cookie %q", denied(r, "location"), errand)
	}
	for path, want := range map[string]codes.Code{
		ask: codes.OK, "/oauth2": codes.OK, "/": codes.PermissionDenied, "/oauth2x": codes.PermissionDenied, "/oauth2/..%2fx": codes.InvalidArgument,
	} {
		r := check(t, conn, auth, path, navigation("__Host-gh_corp=x; other=1"))
		ok := r.GetOkResponse()
		if got := codes.Code(r.GetStatus().GetCode()); (got == codes.OK) != (want == codes.OK) || len(ok.GetHeaders()) != 0 || slices.Contains(ok.GetHeadersToRemove(), "cookie") {
			t.Errorf("%.20s at the login host = %v, sets %v, removes %q; want %v and the cookies left alone", path, got, ok.GetHeaders(), ok.GetHeadersToRemove(), want)
		}
	}

	_, header, _ := g.get("http", auth, ask)
	attempt, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	callback, ok := strings.CutPrefix(away(t, header.Get("Location")), "http://"+auth)
	if !ok {
		t.Fatalf("the login host leads to %q", header.Get("Location"))
	}
	header = g.visit(auth, callback, attempt)
	handoff, ok := strings.CutPrefix(header.Get("Location"), "http://"+app)
	if !ok || !strings.HasPrefix(header.Get("Set-Cookie"), "__Host-gh_corp=") {
		t.Fatalf("the callback leads to %q", header.Get("Location"))
	}
	r = check(t, conn, app, handoff, navigation(errand))
	cookie, _, _ := strings.Cut(denied(r, "set-cookie"), ";")
	if denied(r, "location") != "/x" {
		t.Fatalf("the hand-over leads to %q", denied(r, "location"))
	}
	if r := check(t, conn, app, "/x", navigation(cookie)); codes.Code(r.GetStatus().GetCode()) != codes.OK {
		t.Errorf("after the login: %v", r)
	}
	g.await(`"msg":"handed_over","provider":"corp"`)
	g.await(`"reason":"passage"`)
	for _, secret := range append(idp.Secrets(), handoff[strings.Index(handoff, "code=")+5:][:26]) {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("a secret is in the log")
		}
	}
}

// denied returns the first header of that name in our own answer.
func denied(r *authv3.CheckResponse, name string) string {
	for _, h := range r.GetDeniedResponse().GetHeaders() {
		if h.GetHeader().GetKey() == name {
			return h.GetHeader().GetValue()
		}
	}
	return ""
}

// visit is get with a cookie.
func (g *gate) visit(host, path, cookie string) http.Header {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.address("http")+path, http.NoBody)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Cookie", cookie)
	return roundTrip(g.t, r)
}

// away opens an address of the provider and returns where that sends the browser.
func away(t *testing.T, address string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return roundTrip(t, r).Get("Location")
}

func roundTrip(t *testing.T, r *http.Request) http.Header {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Header
}
