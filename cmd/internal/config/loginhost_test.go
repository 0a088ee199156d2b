package config_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

func TestLoginHost(t *testing.T) {
	c, err := config.Load("testdata/good/login-host.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Host{
		{Name: "app.example.org", Origin: "https://app.example.org", Providers: []string{"corp", "partners"}},
		{Name: "a.wide.example.com", Origin: "https://a.wide.example.com", Providers: []string{"partners", "corp"}},
		{Name: "b.wide.example.com", Origin: "https://b.wide.example.com:8443", Providers: []string{"partners", "corp"}},
	}
	if diff := cmp.Diff(want, c.LoginHosts()); diff != "" {
		t.Errorf("LoginHosts (-want +got):\n%s", diff)
	}
	host := &config.Host{Name: "auth.example.com", Origin: "https://auth.example.com", Providers: []string{"own", "corp", "partners"}}
	if diff := cmp.Diff(host, c.LoginHost()); diff != "" {
		t.Errorf("LoginHost (-want +got):\n%s", diff)
	}
	if parse(t, smallest).LoginHost() != nil {
		t.Error("a login host without login_url")
	}
}

// Each provider of a rule is a source of its own, and knows the others to choose from.
func TestSeveralLogins(t *testing.T) {
	c, err := config.Load("testdata/good/login-host.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var choices [][]string
	policy, err := c.Policy(config.Sources{Login: func(_ string, _ bool, choice []string) authz.Authenticator {
		choices = append(choices, choice)
		return source{}
	}})
	if err != nil {
		t.Fatal(err)
	}
	app := policy.Rules()[1]
	var names []string
	for _, s := range app.Sources {
		names = append(names, s.Provider)
	}
	if want := []string{"corp", "partners"}; !slices.Equal(names, want) || !slices.Equal(choices[1], want) || !slices.Equal(choices[2], want) || len(choices[0]) != 1 {
		t.Errorf("sources %q with the choices %q", names, choices)
	}
}

// source recognises nobody.
type source struct{}

func (source) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	return nil, authz.ErrNoCredentials
}
func (source) Challenge(*authz.Request, error) authz.Challenge { return authz.Challenge{} }
