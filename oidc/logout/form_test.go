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
