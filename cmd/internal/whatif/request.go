package whatif

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Request is a request that nobody has sent.
type Request struct {
	Method string        // empty: GET
	URL    string        // https://host[:port]/path?query, as a browser would ask for it
	Header []authz.Field // names in lower case
	Peer   string        // SPIFFE id of the caller; empty: none
}

var errURL = errors.New("write a whole address such as https://app.example.com/path")

// Check says what is wrong with the address, if anything. Whether the request would be
// refused is another matter.
func (r Request) Check() error {
	if _, _, ok := r.split(); !ok {
		return fmt.Errorf("%q is not a request: %w", r.URL, errURL)
	}
	return nil
}

// split takes the address apart by hand: what is odd about it has to reach the code
// that judges it.
func (r Request) split() (authority, target string, ok bool) {
	scheme, rest, ok := strings.Cut(r.URL, "://")
	if !ok || scheme != "https" && scheme != "http" || rest == "" {
		return "", "", false
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	} else {
		authority, target = rest, "/"
	}
	if strings.HasPrefix(target, "?") {
		target = "/" + target
	}
	return authority, target, authority != ""
}

// canonical is the request as an edge would have it.
func (r Request) canonical(who *Credential) (*authz.Request, error) {
	authority, target, _ := r.split()
	method := r.Method
	if method == "" {
		method = "GET"
	}
	header := append(authz.Header(nil), r.Header...)
	if len(r.Header) == 0 && method == "GET" {
		header = append(header, authz.Field{Name: "accept", Value: "text/html"}) // a person in front of a browser
	}
	if who != nil && who.Bearer {
		header = append(header, authz.Field{Name: "authorization", Value: "Bearer whatif"})
	}
	return authz.NewRequest(authz.Raw{Method: method, Authority: authority, Target: target, Header: header, Peer: authz.Peer{Principal: r.Peer}})
}
