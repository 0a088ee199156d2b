package main

import (
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// endpoints serves the HTTP listener: logout tokens, whose bodies no endpoint sees, and
// all that an Authorizer answers.
func (p *program) endpoints() http.Handler {
	others := authz.Handler(p.authorizer, p.client)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g := p.current.Load(); g != nil && g.logout != nil && g.logout.TakesBackChannel(r) {
			g.logout.BackChannel().ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}
