package logout_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/oidc/logout"
)

// FuzzForm: what is accepted is what every other reader of forms finds, once.
func FuzzForm(f *testing.F) {
	for _, s := range []string{
		"", "logout_token=a", "logout_token=a&logout_token=b", "logout_token=a%2Eb&x=y", "logout%5ftoken=a", "logout_token=a+b", "logout_token=%zz",
		"logout_token", "&&logout_token=a&", "a;logout_token=b", "logout_token=a&x=%", strings.Repeat("a=b&", 63) + "logout_token=a", "=&==&logout_token==",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := logout.Only(text, "logout_token")
		if err != nil {
			return
		}
		if strings.Contains(text, ";") { // the library takes it for an old separator and refuses
			return
		}
		q, err := url.ParseQuery(text)
		if err != nil || len(q["logout_token"]) != 1 || q.Get("logout_token") != got {
			t.Errorf("only(%q) = %q, the library finds %q, %v", text, got, q["logout_token"], err)
		}
	})
}

func TestDevice(t *testing.T) {
	t.Parallel()
	const webkit = "AppleWebKit/537.36 (KHTML, like Gecko) "
	for agent, want := range map[string]string{
		firefox: "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/140.0.0.0 Safari/537.36":                             "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/140.0.0.0 Safari/537.36 Edg/140.0":                   "Edge on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/140.0.0.0 Safari/537.36 OPR/120":                     "Opera on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1": "Safari on Mac",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/18.0 Mobile/15E148 Safari/604.1":   "Safari on iPhone",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 CriOS/140.0 Mobile/15E148 Safari/604.1":    "Chrome on iPhone",
		"Mozilla/5.0 (Linux; Android 15; SM-S921B) " + webkit + "SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36":      "Samsung Internet on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) " + webkit + "Chrome/140.0.0.0 Safari/537.36":                              "Chrome on ChromeOS",
		"curl/8.5.0":                      "curl",
		"":                                "Unknown device",
		"/":                               "Unknown device",
		"Mozilla/5.0 (X11; FreeBSD)":      "FreeBSD",
		strings.Repeat("x", 200) + "/1.0": strings.Repeat("x", 40),
		"x" + strings.Repeat("é", 40):     "x" + strings.Repeat("é", 19),
	} {
		if got := logout.Device(agent); got != want {
			t.Errorf("device(%q) = %q, want %q", agent, got, want)
		}
	}
}

// What a provider says of itself ends up in a header of ours.
func TestOrigin(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://idp.test/end?x=1":         "https://idp.test",
		"https://idp.test:8443":            "https://idp.test:8443",
		"https://idp.test?client_id=a":     "https://idp.test",
		"https://idp.test#top":             "https://idp.test",
		"https://[::1]:8443/end":           "https://[::1]:8443",
		"https://idp.test;script-src/end":  "",
		"https://idp.test 'unsafe-inline'": "",
		"https://idp.test,default-src/end": "",
		"https://user@idp.test/end":        "",
		"https:///end":                     "",
		"idp.test/end":                     "",
		"":                                 "",
	} {
		if got := logout.Origin(address); got != want {
			t.Errorf("origin of %q = %q, want %q", address, got, want)
		}
	}
}
