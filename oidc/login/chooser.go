package login

import (
	"net/http"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// chooser lets a person choose among several providers. It sets no cookie: a login
// begins only with the choice.
func chooser(r *authz.Request, gates []*gate, st state, again bool) authz.Response {
	p := Page{Status: http.StatusOK, Title: "Choose how to sign in", Text: []string{"There are several ways to sign in here. Choose the one where you have an account."}}
	rest := escape(st.address) + "&again=" + st.trail.String()
	if again {
		rest += "&prompt=login"
	}
	for _, g := range gates {
		p.Actions = append(p.Actions, Action{Label: "Sign in with " + g.provider.Name(), Address: g.start + rest})
	}
	return p.Response(r)
}
