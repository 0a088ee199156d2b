package forwardauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/authz/forwardauth"
)

// Whatever a client makes a proxy say, nobody passes without a credential but where the
// rules let everybody, and what is said of the host and the path is what is judged.
func FuzzQuestion(f *testing.F) {
	f.Add(uint8(0), "GET", "app.test", "/public/x?y", "", "")
	f.Add(uint8(1), "POST", "app.test:443", "/public/../x", "x-forwarded-host", "b.test")
	f.Add(uint8(2), "GET", "https://app.test", "//public/x", "x-original-url", "https://app.test/public/")
	f.Add(uint8(3), "get", "app.test\r\n", "/public%2f..%2fx", "x-forwarded-uri", "/public/x")
	f.Add(uint8(4), "GET", "[::1]:80", "/public;x", "x_auth_request_user", "root")
	f.Fuzz(func(t *testing.T, which uint8, method, host, target, name, value string) {
		all := forwardauth.Profiles()
		p := all[int(which)%len(all)]
		w := newWorld(t, p, nil)
		in := httptest.NewRequest("GET", "/", nil)
		in.RemoteAddr = proxy + ":1"
		m, at, lines := question(p, method, host, target)
		in.Method, in.RequestURI = m, at
		for _, line := range lines {
			key, text, _ := strings.Cut(line, ": ")
			if key == "host" {
				in.Host = text
			} else {
				in.Header.Add(key, text)
			}
		}
		if name != "" && !strings.EqualFold(name, "cookie") {
			in.Header.Add(name, value)
		}
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, in)
		r, d := w.last()
		switch path, _, _ := strings.Cut(target, "?"); {
		case d.Reason == authz.ReasonPanic:
			t.Fatalf("something panicked: %s", d.Detail)
		case rec.Code != http.StatusOK:
			if rec.Code < 302 {
				t.Fatalf("refused with %d", rec.Code)
			}
		case d.Reason == authz.ReasonPassage:
		case d.Reason != authz.ReasonAnonymous || r.Method != method || r.Path != path:
			t.Fatalf("allowed for %q: %s %q, judged as %s %q", d.Reason, method, target, r.Method, r.Path)
		}
		for _, values := range rec.Header() {
			if len(values) > 1 && rec.Code == http.StatusOK {
				t.Fatalf("several values: %v", rec.Header())
			}
		}
	})
}
