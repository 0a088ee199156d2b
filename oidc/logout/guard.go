package logout

import (
	"net/http"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// sameOrigin reports whether the browser itself says that a page of this origin sent
// the request. Every witness that speaks must agree, and one must speak. "Origin:
// null" is what a page without referrer sends: it proves nothing either way.
func sameOrigin(r *authz.Request, origin string) bool {
	site, sites := r.Header.Get("sec-fetch-site")
	from, froms := r.Header.Get("origin")
	if sites > 1 || froms > 1 || sites == 1 && site != "same-origin" || froms == 1 && from != origin && from != "null" {
		return false
	}
	return sites == 1 || froms == 1 && from == origin
}

// clicked: a page can be made to load an address of its own origin without
// anybody's will, by an image in a comment or a link that is fetched ahead. A GET
// counts only when a person goes there; scripts can POST.
func clicked(r *authz.Request) bool {
	return r.Method == http.MethodPost || r.Caller == authz.Navigation
}

// originOf cuts an address of the provider's metadata down to scheme://host:port.
func originOf(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if rest == "" || strings.ContainsAny(rest, " ;,'\"@") {
		return ""
	}
	return scheme + "://" + rest
}
