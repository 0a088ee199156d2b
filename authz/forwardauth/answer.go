package forwardauth

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// tokenNames are the headers that carry a user's token.
var tokenNames = []string{"authorization", "x-auth-request-access-token"}

// withholdTokens moves tokens from what is set to what is removed, unless who asks has
// proven to be the proxy: whoever may connect from its address could collect them.
func (h *Handler) withholdTokens(d *authz.Decision) {
	isToken := func(f authz.Field) bool { return slices.Contains(tokenNames, f.Name) }
	if h.cfg.Proven || h.cfg.Secret != nil || !slices.ContainsFunc(d.Set, isToken) {
		return
	}
	d.Remove = slices.Clone(d.Remove)
	for _, f := range d.Set {
		if isToken(f) {
			d.Remove = append(d.Remove, f.Name)
		}
	}
	d.Set = slices.DeleteFunc(slices.Clone(d.Set), isToken)
	h.cfg.Miswired(faultOf(UnprovenCaller, "the rule %q forwards a token, which was left out: who asks has not proven to be the proxy; give this listener client_ca_file or secret_file", d.Rule))
}

// irremovable returns a name that only a proxy that is told so can take away: no list of
// names in a proxy's configuration holds every spelling that an application folds into one
// of ours.
func irremovable(names []string) string {
	for _, name := range names {
		if strings.ContainsFunc(name, func(c rune) bool { return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') }) {
			return name
		}
	}
	return ""
}

// allow says what the application shall receive: each name once, and what it shall not
// receive not at all. A proxy that copies names from an answer removes a client's header
// for one that is not there; Envoy has to be told. false: a line must not leave.
func (h *Handler) allow(out http.Header, r *authz.Request, d *authz.Decision) bool {
	p := profiles[h.cfg.Profile]
	set := d.Set
	if !p.asIs {
		set = append(slices.Clip(set), authz.Field{Name: "cookie", Value: cookies(r, d)}) // the last one counts
	}
	for _, f := range set {
		switch {
		case !f.Valid():
			return false
		case f.Value != "":
			out.Set(f.Name, f.Value)
		}
	}
	if p.removes && len(d.Remove) > 0 {
		if slices.ContainsFunc(d.Remove, func(name string) bool { return !authz.ValidName(name) }) {
			return false
		}
		out.Set("X-Envoy-Auth-Headers-To-Remove", strings.Join(d.Remove, ","))
	}
	out.Set("Cache-Control", "no-store")
	out.Set("Content-Length", "0")
	return true
}

// cookies are what the application receives of the client's: all but ours. Our own pages
// on the login host receive those, too.
func cookies(r *authz.Request, d *authz.Decision) string {
	if d.Reason != authz.ReasonPassage {
		return r.Header.ForeignCookies()
	}
	var lines []string
	for _, f := range r.Header {
		if f.Name == "cookie" {
			lines = append(lines, f.Value)
		}
	}
	return strings.Join(lines, "; ")
}

// refuse writes an answer that is no allow to this proxy. origin is how browsers see the
// host: some proxies complete a relative address with the name they call us by.
func (h *Handler) refuse(w http.ResponseWriter, resp authz.Response, origin string) {
	out := w.Header()
	for _, f := range resp.Header {
		switch {
		case !f.Valid():
			continue // authz checked it
		case f.Name == "location" && local(f.Value):
			out.Add(f.Name, origin+f.Value)
		default:
			out.Add(f.Name, f.Value)
		}
	}
	out.Set("Cache-Control", "no-store")
	out.Set("X-Content-Type-Options", "nosniff")
	out.Set("Content-Length", strconv.Itoa(len(resp.Body)))
	w.WriteHeader(profiles[h.cfg.Profile].status(resp.Status))
	_, _ = w.Write(resp.Body) // for HEAD net/http keeps it; a proxy that has gone away needs no word
}

func local(location string) bool {
	return len(location) > 0 && location[0] == '/' && !strings.HasPrefix(location, "//")
}

// status is the refusal that this proxy understands; never a success, whatever is asked
// for, since to a proxy that is an allow.
func (p *profile) status(want int) int {
	switch {
	case want == http.StatusOK: // a page of ours: browsers show it all the same
		return http.StatusForbidden
	case p.statusOnly && want < 400: // Location says where to; the proxy is told to go there
		return http.StatusUnauthorized
	case p.statusOnly && want < 500 && want != http.StatusUnauthorized:
		return http.StatusForbidden
	case p.open && want == http.StatusServiceUnavailable:
		return http.StatusTooManyRequests // come back later, and no error that lets pass
	case p.open && want >= 500:
		return http.StatusForbidden
	case want < 302:
		return http.StatusForbidden
	}
	return want
}
