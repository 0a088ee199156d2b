package config_test

import (
	"context"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// known recognises everybody as one identity.
type known struct{ identity *authz.Identity }

func (k known) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	return k.identity, nil
}

func (known) Challenge(*authz.Request, error) authz.Challenge { return authz.Challenge{} }

// J11, J28: a rule's audience narrows the provider's for bearer tokens, and for
// them only: the audience of a session is the login client.
func TestRuleAudienceNarrows(t *testing.T) {
	t.Parallel()
	c := parse(t, `
listen: {grpc: {address: ":9000"}}
providers: [{name: api, issuer: https://idp.example.com, bearer: {audiences: [read, write]}}]
rules:
- {name: any, hosts: [a.example.com], bearer: [api], require: any_user}
- {name: write, hosts: [a.example.com], paths: [/write/**], bearer: [api], audience: [write], require: any_user}
`)
	for _, tt := range []struct {
		target   string
		audience []string
		session  string
		want     authz.Outcome
	}{
		{"/", []string{"read"}, "", authz.Allow},
		{"/write/x", []string{"read"}, "", authz.Deny},
		{"/write/x", nil, "", authz.Deny},
		{"/write/x", []string{"read", "write"}, "", authz.Allow},
		{"/write/x", []string{"mesh"}, "s1", authz.Allow},
	} {
		k := known{&authz.Identity{Provider: "api", Issuer: "https://idp.example.com", Subject: "m", User: "m", Audience: tt.audience, Session: tt.session}}
		policy, err := c.Policy(config.Sources{Bearer: func(string) authz.Authenticator { return k }})
		if err != nil {
			t.Fatal(err)
		}
		a, err := authz.New(authz.Config{Policy: policy})
		if err != nil {
			t.Fatal(err)
		}
		r, err := authz.NewRequest(authz.Raw{Method: "GET", Authority: "a.example.com", Target: tt.target, Header: authz.Header{{Name: "authorization", Value: "Bearer x"}}})
		if err != nil {
			t.Fatal(err)
		}
		if d := a.Authorize(t.Context(), r); d.Outcome != tt.want {
			t.Errorf("%s with aud %q, session %q = %v (%s), want %v", tt.target, tt.audience, tt.session, d.Outcome, d.Detail, tt.want)
		}
	}
}
