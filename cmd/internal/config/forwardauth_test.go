package config_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

func TestForwardAuth(t *testing.T) {
	c, err := config.Load("testdata/good/forward-auth.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		trusted []string
		proven  bool
	}{
		{[]string{"10.0.0.0/8", "fd00::/8"}, false},
		{[]string{"10.1.2.3/32"}, false},
		{[]string{"::1/128"}, true},
		{[]string{"127.0.0.1/32"}, false},
		{[]string{"10.0.0.0/8"}, false},
	} {
		f := &c.Listen.ForwardAuth[i]
		same := slices.EqualFunc(f.Trusted(), want.trusted, func(p netip.Prefix, s string) bool { return p.String() == s })
		if !same || f.Proven() != want.proven {
			t.Errorf("listener %d: trusted %v, proven %v, want %v", i, f.Trusted(), f.Proven(), want)
		}
	}
	var files []string
	for _, f := range c.Files() {
		files = append(files, f.Key)
	}
	for _, key := range []string{"listen.forward_auth[2].tls.client_ca_file", "listen.forward_auth[3].secret_file"} {
		if !slices.Contains(files, key) {
			t.Errorf("%s is not among the files %q", key, files)
		}
	}
	if ms := c.Warnings(); len(ms) != 1 { // the memory store
		t.Errorf("warnings: %v", ms)
	}
}

// A1 and N10: what works and is dangerous all the same is said at start.
func TestForwardAuthWarnings(t *testing.T) {
	c := parse(t, `
listen:
  grpc: {address: ":9000"}
  forward_auth:
  - {address: ":1", profile: caddy, trusted_proxies: [0.0.0.0/0]}
  - {address: ":2", profile: caddy, trusted_proxies: ["::/0"], secret_file: s}
providers: [{name: corp, issuer: https://idp.example.com, client: {id: mesh, secret_file: secret}}]
sessions: {store: {redis: {addresses: ["r:6379"]}}, key_files: [k]}
rules: [{name: a, hosts: [a.example.com], login: corp, require: any_user, forward: {access_token: true}}]
`)
	var got []string
	for _, m := range c.Warnings() {
		got = append(got, m.Key)
	}
	want := []string{
		"listen.forward_auth[0].trusted_proxies[0]", "listen.forward_auth[0]",
		"listen.forward_auth[1].trusted_proxies[0]", "listen.forward_auth[1].secret_file",
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings at\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
