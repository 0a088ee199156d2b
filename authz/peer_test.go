package authz_test

import (
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

func TestPeers(t *testing.T) {
	t.Parallel()
	c := must(t)(authz.Peers("spiffe://cluster.local/ns/web/sa/front", "spiffe://cluster.local/ns/ops-*/sa/*"))
	for principal, want := range map[string]bool{
		"spiffe://cluster.local/ns/web/sa/front":        true,
		"spiffe://cluster.local/ns/ops-a/sa/x":          true,
		"spiffe://cluster.local/ns/ops-/sa/x":           true,
		"spiffe://cluster.local/ns/ops-a/b/sa/x":        false,
		"spiffe://cluster.local/ns/ops-a/sa/x/y":        false,
		"spiffe://cluster.local/ns/ops-a/sa/":           false,
		"spiffe://cluster.local/ns/ops-a/sa":            false,
		"spiffe://cluster.local/ns/web/sa/front2":       false,
		"spiffe://cluster.local/ns/web/sa/front/":       false,
		"spiffe://cluster.local/ns/web/sa/Front":        false,
		"spiffe://cluster.local//ns/web/sa/front":       false,
		"spiffe://cluster.local/ns/web/../web/sa/front": false,
		"spiffe://cluster.local/ns/ops-a/sa/..":         false,
		"spiffe://cluster.local/ns/ops-a/sa/%2e":        false,
		"spiffe://cluster.local/ns/ops-a/sa/x?y":        false,
		"spiffe://cluster.local/ns/ops-a/sa/x#y":        false,
		"spiffe://cluster.local/ns/ops-*/sa/*":          false,
		"spiffe://cluster.local:8080/ns/web/sa/front":   false,
		"spiffe://x@cluster.local/ns/web/sa/front":      false,
		"spiffe://cluster.local.evil/ns/web/sa/front":   false,
		"spiffe://evil/ns/web/sa/front":                 false,
		"spiffe:///ns/web/sa/front":                     false,
		"SPIFFE://cluster.local/ns/web/sa/front":        false,
		"https://cluster.local/ns/web/sa/front":         false,
		"CN=front,O=cluster.local":                      false,
		"spiffe://cluster.local":                        false,
		"":                                              false,
	} {
		r := &authz.Request{Peer: authz.Peer{Principal: principal}}
		if got := c.Check(r, &authz.Identity{}) == nil; got != want {
			t.Errorf("%q: %v, want %v", principal, got, want)
		}
	}
	for _, bad := range []string{
		"", "*", "spiffe://*", "spiffe://*/ns/a", "spiffe://td", "spiffe://td/", "spiffe://TD/a", "spiffe://td*/a", "spiffe://td/a//b",
		"spiffe://td/../a", "cluster.local/ns/a/sa/b", "spiffe://td/a b", "spiffe://td/[a]",
	} {
		if _, err := authz.Peers(bad); err == nil {
			t.Errorf("Peers(%q) is accepted", bad)
		}
	}
}
