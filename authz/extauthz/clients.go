package extauthz

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// AllowClients returns a copy of base that completes a handshake only with a
// client whose verified certificate carries one of the SPIFFE IDs. The check is
// made once per connection, resumed ones included, so that an unlisted peer
// reaches no service. Ids that are none, and a base that verifies no client, are errors.
func AllowClients(base *tls.Config, ids []string) (*tls.Config, error) {
	for _, id := range ids {
		if trustDomain, ok := strings.CutPrefix(id, "spiffe://"); !ok || trustDomain == "" || strings.ContainsAny(id, "*?# ") {
			return nil, fmt.Errorf("client id %q is not a SPIFFE ID: write it whole, as in spiffe://cluster.local/ns/istio-ingress/sa/gateway", id)
		}
	}
	if base == nil {
		return nil, errors.New("client ids need TLS: without it nobody proves who is calling")
	}
	if base.ClientAuth != tls.RequireAndVerifyClientCert && base.GetConfigForClient == nil {
		return nil, errors.New("client ids need TLS that requires and verifies client certificates: give it a client CA")
	}
	return restrict(base, slices.Clone(ids)), nil
}

// restrict also wraps the configurations that base chooses per connection
// (certificates that are read again while running), or they would not be checked.
func restrict(base *tls.Config, ids []string) *tls.Config {
	c := base.Clone()
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if base.VerifyConnection != nil {
			if err := base.VerifyConnection(state); err != nil {
				return err
			}
		}
		return checkClient(state, ids)
	}
	if choose := base.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err != nil || chosen == nil {
				return chosen, err
			}
			return restrict(chosen, ids), nil
		}
	}
	return c
}

// checkClient follows the X509-SVID specification, section 5.2: the identity is
// the only URI in the certificate.
func checkClient(state tls.ConnectionState, ids []string) error {
	if len(state.VerifiedChains) == 0 {
		return errors.New("client certificate is missing or not verified")
	}
	uris := state.PeerCertificates[0].URIs
	if len(uris) != 1 {
		return fmt.Errorf("client certificate has %d URI names, want exactly one SPIFFE ID", len(uris))
	}
	if id := uris[0].String(); !slices.Contains(ids, id) {
		return fmt.Errorf("client %q may not call this server", id)
	}
	return nil
}
