package forwardauth

import (
	"maps"
	"slices"
)

// Profile names a kind of proxy.
type Profile string

// The proxies that are known.
const (
	Nginx        Profile = "nginx"         // auth_request
	IngressNginx Profile = "ingress-nginx" // annotation auth-url
	Traefik      Profile = "traefik"       // forwardAuth
	Caddy        Profile = "caddy"         // forward_auth
	Envoy        Profile = "envoy"         // ext_authz with http_service
)

// Profiles lists the known profiles, sorted.
func Profiles() []Profile { return slices.Sorted(maps.Keys(profiles)) }

// profile is how a proxy asks, and what it makes of an answer.
type profile struct {
	method, host, target string // headers with the original request; empty: not in one
	url                  string // header with host and target in one URL; empty: there is none
	check                string // header that has to name the same host; empty: there is none

	// asIs: the question is the original request, its path behind that of questions, and
	// what is not said in the answer stays as the client sent it, cookies too.
	asIs bool

	// statusOnly: of a refusal nothing but its status counts, 401 or 403; the rest is an
	// error of the proxy's, 500.
	statusOnly bool

	keepsHost bool // the question comes under the name of the host that the client asked for
	removes   bool // the answer can have any header removed
	open      bool // a status of 5xx may open the door (failure_mode_allow)
}

// Each header named here is set by the proxy, never passed through: that is what
// manifests and documentation insist on.
var profiles = map[Profile]*profile{
	Nginx:        {method: "X-Forwarded-Method", host: "X-Forwarded-Host", target: "X-Forwarded-Uri", statusOnly: true},
	IngressNginx: {method: "X-Original-Method", url: "X-Original-Url", check: "X-Forwarded-Host", statusOnly: true},
	Traefik:      {method: "X-Forwarded-Method", host: "X-Forwarded-Host", target: "X-Forwarded-Uri"},
	Caddy:        {method: "X-Forwarded-Method", host: "X-Forwarded-Host", target: "X-Forwarded-Uri", keepsHost: true},
	Envoy:        {asIs: true, keepsHost: true, removes: true, open: true},
}
