package extauthz_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

const gateway = "spiffe://cluster.local/ns/istio-ingress/sa/gateway"

// TestClientIDs S17: whoever may call Check may ask for identities.
func TestClientIDs(t *testing.T) {
	t.Parallel()
	mesh, stranger := newCA(t), newCA(t)
	fixedTLS := &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: mesh.pool(),
		Certificates: []tls.Certificate{mesh.issue(t, "spiffe://cluster.local/ns/sso/sa/gatehouse")},
	}
	chosen := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return fixedTLS, nil }}
	lax := fixedTLS.Clone()
	lax.ClientAuth = tls.RequestClientCert
	choosesLax := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return lax, nil }}
	tests := []struct {
		name   string
		server *tls.Config
		client []tls.Certificate
		want   codes.Code
	}{
		{"listed", fixedTLS, certs(mesh.issue(t, gateway)), codes.OK},
		{"second of the list", fixedTLS, certs(mesh.issue(t, "spiffe://cluster.local/ns/b/sa/c")), codes.OK},
		{"not listed", fixedTLS, certs(mesh.issue(t, "spiffe://cluster.local/ns/apps/sa/app")), codes.Unavailable},
		{"prefix of a listed one", fixedTLS, certs(mesh.issue(t, gateway[:len(gateway)-1])), codes.Unavailable},
		{"longer than a listed one", fixedTLS, certs(mesh.issue(t, gateway+"x")), codes.Unavailable},
		{"two names", fixedTLS, certs(mesh.issue(t, gateway, "spiffe://cluster.local/ns/apps/sa/app")), codes.Unavailable},
		{"no name", fixedTLS, certs(mesh.issue(t)), codes.Unavailable},
		{"another authority", fixedTLS, certs(stranger.issue(t, gateway)), codes.Unavailable},
		{"no certificate", fixedTLS, nil, codes.Unavailable},
		{"chosen per connection: listed", chosen, certs(mesh.issue(t, gateway)), codes.OK},
		{"chosen per connection: not listed", chosen, certs(mesh.issue(t, "spiffe://cluster.local/ns/apps/sa/app")), codes.Unavailable},
		{"chosen without verification: no certificate", choosesLax, nil, codes.Unavailable},
		{"chosen without verification: another authority", choosesLax, certs(stranger.issue(t, gateway)), codes.Unavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, extauthz.Config{Current: fixed(t, nil), TLS: test.server, ClientIDs: []string{gateway, "spiffe://cluster.local/ns/b/sa/c"}})
			conn := start(t, s, dialTLS(mesh, test.client))
			if _, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), request("/public/a")); status.Code(err) != test.want {
				t.Errorf("Check = %v, want %v", err, test.want)
			}
			if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != test.want {
				t.Errorf("health = %v, want %v", err, test.want)
			}
		})
	}
}

// A resumed session brings no certificate message, and is checked all the same.
func TestClientIDsResumed(t *testing.T) {
	t.Parallel()
	mesh := newCA(t)
	serverTLS := &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: mesh.pool(),
		Certificates: []tls.Certificate{mesh.issue(t, "spiffe://cluster.local/ns/sso/sa/gatehouse")},
	}
	cache := tls.NewLRUClientSessionCache(1)
	client := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: mesh.pool(), ServerName: "gatehouse.test", ClientSessionCache: cache,
		Certificates: certs(mesh.issue(t, gateway)),
	}
	// Both servers share ticket keys, as replicas may.
	serverTLS.SetSessionTicketKeys([][32]byte{{1}})
	first := start(t, newServer(t, extauthz.Config{Current: fixed(t, nil), TLS: serverTLS, ClientIDs: []string{gateway}}), grpc.WithTransportCredentials(credentials.NewTLS(client)))
	check(t, first, request("/public/a"))
	for _, test := range []struct {
		id   string
		want codes.Code
	}{{gateway, codes.OK}, {"spiffe://cluster.local/ns/b/sa/c", codes.Unavailable}} {
		s := newServer(t, extauthz.Config{Current: fixed(t, nil), TLS: serverTLS, ClientIDs: []string{test.id}})
		conn := start(t, s, grpc.WithTransportCredentials(credentials.NewTLS(client)))
		if _, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), request("/public/a")); status.Code(err) != test.want {
			t.Errorf("a server that wants %s: Check = %v, want %v", test.id, err, test.want)
		}
	}
}

func TestTLSWithoutClientIDs(t *testing.T) {
	t.Parallel()
	mesh := newCA(t)
	s := newServer(t, extauthz.Config{Current: fixed(t, nil), TLS: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: certs(mesh.issue(t, "spiffe://cluster.local/ns/sso/sa/gatehouse")),
	}})
	if out := check(t, start(t, s, dialTLS(mesh, nil)), request("/public/a")); out.GetOkResponse() == nil {
		t.Errorf("Check = %v, want an allow", out)
	}
}

func dialTLS(mesh *ca, client []tls.Certificate) grpc.DialOption {
	return grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: mesh.pool(), ServerName: "gatehouse.test", Certificates: client,
	}))
}

func certs(c ...tls.Certificate) []tls.Certificate { return c }

// ca issues certificates as a mesh does.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *ca {
	t.Helper()
	c := &ca{}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	_, c.key, c.cert = sign(t, template, nil)
	return c
}

func (c *ca) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

func (c *ca) issue(t *testing.T, uris ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"gatehouse.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, key, _ := sign(t, template, c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func sign(t *testing.T, template *x509.Certificate, issuer *ca) ([]byte, *ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return der, key, cert
}
