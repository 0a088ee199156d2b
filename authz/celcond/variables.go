package celcond

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// variable is a name of an expression. find reports false for what is not known:
// then whatever needs it cannot be evaluated.
type variable struct {
	name string
	typ  *cel.Type
	find func(*authz.Request, *authz.Identity) (any, bool)
}

// Names with a dot are variables of their own: none has to be built, and an
// unknown one is found when the expression is checked.
var variables = []variable{
	{"request.method", cel.StringType, func(r *authz.Request, _ *authz.Identity) (any, bool) { return r.Method, true }},
	{"request.host", cel.StringType, func(r *authz.Request, _ *authz.Identity) (any, bool) { return r.Host, true }},
	{"request.path", cel.StringType, path},
	{"request.headers", cel.MapType(cel.StringType, cel.StringType), func(r *authz.Request, _ *authz.Identity) (any, bool) { return headers(r.Header), true }},
	{"identity.provider", cel.StringType, text(func(id *authz.Identity) string { return id.Provider })},
	{"identity.issuer", cel.StringType, text(func(id *authz.Identity) string { return id.Issuer })},
	{"identity.subject", cel.StringType, text(func(id *authz.Identity) string { return id.Subject })},
	{"identity.user", cel.StringType, text(func(id *authz.Identity) string { return id.User })},
	{"identity.email", cel.StringType, text(verifiedEmail)},
	{"identity.email_verified", cel.BoolType, func(_ *authz.Request, id *authz.Identity) (any, bool) { return id.EmailVerified, true }},
	{"identity.preferred_username", cel.StringType, text(func(id *authz.Identity) string { return id.PreferredUsername })},
	{"identity.groups", cel.ListType(cel.StringType), list(func(id *authz.Identity) []string { return id.Groups })},
	{"identity.audience", cel.ListType(cel.StringType), list(func(id *authz.Identity) []string { return id.Audience })},
	{"claims", cel.MapType(cel.StringType, cel.DynType), func(_ *authz.Request, id *authz.Identity) (any, bool) {
		return map[string]any(id.Claims), id.Claims != nil
	}},
	{"peer.principal", cel.StringType, func(r *authz.Request, _ *authz.Identity) (any, bool) {
		return r.Peer.Principal, r.Peer.Principal != ""
	}},
}

func known(name string) bool {
	return slices.ContainsFunc(variables, func(v variable) bool { return v.name == name })
}

// ofProvider reports whether a variable only means something together with the
// provider that gave it out.
func ofProvider(name string) bool {
	return name == "claims" || strings.HasPrefix(name, "identity.") && name != "identity.provider"
}

func text(of func(*authz.Identity) string) func(*authz.Request, *authz.Identity) (any, bool) {
	return func(_ *authz.Request, id *authz.Identity) (any, bool) {
		s := of(id)
		return s, s != ""
	}
}

func list(of func(*authz.Identity) []string) func(*authz.Request, *authz.Identity) (any, bool) {
	return func(_ *authz.Request, id *authz.Identity) (any, bool) {
		l := of(id)
		return l, len(l) > 0
	}
}

// verifiedEmail: an address that nobody verified is a claim, and no identity.
func verifiedEmail(id *authz.Identity) string {
	if !id.EmailVerified {
		return ""
	}
	return id.Email
}

// path has no value where an upstream may read it differently: an expression that
// shuts out /admin must not be passed by /%61dmin.
func path(r *authz.Request, _ *authz.Identity) (any, bool) { return r.Path, r.PlainPath() }

// headers are what the client sent, without credentials and without names that
// look like an identity. Several lines are joined with a comma (RFC 9110 section
// 5.3), as Envoy hands them over.
func headers(h authz.Header) map[string]string {
	m := make(map[string]string, len(h))
	for _, f := range h {
		switch f.Name {
		case "authorization", "proxy-authorization", "cookie":
			continue
		}
		if authz.Managed(f.Name) {
			continue
		}
		if before, again := m[f.Name]; again {
			f.Value = before + "," + f.Value
		}
		m[f.Name] = f.Value
	}
	return m
}

// input is what one evaluation looks at. It implements cel.Activation.
type input struct {
	request  *authz.Request
	identity *authz.Identity
}

// ResolveName implements cel.Activation.
func (in *input) ResolveName(name string) (any, bool) {
	for i := range variables {
		if variables[i].name == name {
			return variables[i].find(in.request, in.identity)
		}
	}
	return nil, false
}

// Parent implements cel.Activation.
func (in *input) Parent() cel.Activation { return nil }
