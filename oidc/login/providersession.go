package login

import "github.com/gatehouse-mesh/gatehouse/oidc"

// providerSession is what a session is filed under as its session at the provider:
// the sid of its ID token or, where that has none, Unnamed.
func providerSession(g *oidc.Grant) string {
	if g.ProviderSession != "" {
		return g.ProviderSession
	}
	return Unnamed(g.Identity.Subject)
}

// Unnamed stands for the sessions of a subject whose ID token had no sid. A logout
// token that names a sid nobody has may mean one of them (OpenID Connect Back-Channel
// Logout 1.0 section 2.7), and never one that came with another sid. No provider that
// means well sends a sid that begins with a zero byte.
func Unnamed(subject string) string { return "\x00" + subject }
