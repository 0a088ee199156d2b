package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
)

// adminWait is how long a call may take: a bit more than the server gives itself.
const adminWait = 35 * time.Second

// adminCall are the flags of a call to the admin API.
type adminCall struct {
	config, address, ca, cert, key, serverName, token *string
	provider, issuer, subject                         *string
	asJSON                                            *bool
}

func newAdminCall(c *cobra.Command) *adminCall {
	f := c.Flags()
	a := &adminCall{
		config:     f.StringP("config", "c", "", "configuration file, for listen.admin's address and token_file"),
		address:    f.String("address", "", "address of the admin API: unix:///run/gatehouse/admin.sock or host:port"),
		ca:         f.String("ca-file", "", "authorities of the server's certificate, PEM; those of the system when left out"),
		cert:       f.String("cert-file", "", "client certificate, PEM"),
		key:        f.String("key-file", "", "its private key, PEM"),
		serverName: f.String("server-name", "", "name in the server's certificate, when it is not the host of the address"),
		token:      f.String("token-file", "", "file with the token"),
		provider:   f.String("provider", "", "name of the provider in Gatehouse's configuration"),
		issuer:     f.String("issuer", "", "issuer instead of a provider's name, exactly as tokens write it"),
		subject:    f.String("subject", "", "the user: the claim sub, as the access log writes it"),
		asJSON:     f.Bool("json", false, "print JSON"),
	}
	_ = c.MarkFlagRequired("subject") // fails only without such a flag
	c.MarkFlagsOneRequired("provider", "issuer")
	c.MarkFlagsMutuallyExclusive("provider", "issuer")
	c.MarkFlagsOneRequired("config", "address")
	c.MarkFlagsRequiredTogether("cert-file", "key-file")
	return a
}

func (a *adminCall) user() *adminv1.User {
	u := &adminv1.User{Subject: *a.subject, At: &adminv1.User_Provider{Provider: *a.provider}}
	if *a.issuer != "" {
		u.At = &adminv1.User_Issuer{Issuer: *a.issuer}
	}
	return u
}

// do connects and calls once.
func (a *adminCall) do(ctx context.Context, call func(context.Context, adminv1.SessionsClient) error) error {
	encrypted, err := a.complete()
	if err != nil {
		return err
	}
	opts, err := a.options(encrypted)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(a.target(), opts...)
	if err != nil {
		return fmt.Errorf("--address %q: %w", *a.address, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	return call(ctx, adminv1.NewSessionsClient(conn))
}

// complete takes from the configuration what no flag says, and finds out whether to encrypt.
func (a *adminCall) complete() (encrypted bool, err error) {
	if *a.address == "" {
		cfg, err := config.Load(*a.config)
		if err != nil {
			return false, err
		}
		listen := cfg.Listen.Admin
		if listen == nil {
			return false, cfg.Mistake("listen.admin", "missing: this Gatehouse has no admin API", "", "add admin: {address: unix:///run/gatehouse/admin.sock} to listen and restart, or name another one's --address")
		}
		*a.address, encrypted = listen.Address, listen.TLS != nil
		if *a.token == "" {
			*a.token = cfg.Path(listen.TokenFile)
		}
	}
	if path, ok := strings.CutPrefix(*a.address, "unix://"); ok {
		if !filepath.IsAbs(path) {
			return false, fmt.Errorf("--address %q: write three slashes: unix:///run/gatehouse/admin.sock", *a.address)
		}
		if *a.ca+*a.cert+*a.token != "" {
			return false, errors.New("a unix socket takes neither certificates nor a token: leave --ca-file, --cert-file and --token-file out")
		}
		return false, nil
	}
	host, port, err := net.SplitHostPort(*a.address)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		return false, fmt.Errorf("--address %q: write host:port or unix:///run/gatehouse/admin.sock", *a.address)
	}
	if host == "" { // as a listener writes it
		host, *a.address = "localhost", net.JoinHostPort("localhost", port)
	}
	return encrypted || *a.ca+*a.cert != "" || !thisMachine(host), nil
}

// thisMachine reports whether host can only be this machine; plain text goes nowhere else.
func thisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// target keeps grpc from looking for schemes in an address, and from proxies.
func (a *adminCall) target() string {
	if strings.HasPrefix(*a.address, "unix://") {
		return *a.address
	}
	return "passthrough:///" + *a.address
}

func (a *adminCall) options(encrypted bool) ([]grpc.DialOption, error) {
	opts := []grpc.DialOption{grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials())}
	if encrypted {
		t, err := a.tls()
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(t)))
	}
	if *a.token != "" {
		token, err := config.ReadSecret(*a.token)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		opts = append(opts, grpc.WithPerRPCCredentials(bearerToken{token, encrypted}))
	}
	return opts, nil
}

func (a *adminCall) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: *a.serverName}
	var err error
	if *a.ca != "" {
		if t.RootCAs, err = readCAs(*a.ca); err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
	}
	if *a.cert != "" {
		pair, err := tls.LoadX509KeyPair(*a.cert, *a.key)
		if err != nil {
			return nil, fmt.Errorf("--cert-file, --key-file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// bearerToken goes with every call. Unencrypted it goes to this machine only.
type bearerToken struct {
	token     string
	encrypted bool
}

// GetRequestMetadata writes the header (RFC 6750, section 2.1).
func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity is false for plain text to this machine.
func (b bearerToken) RequireTransportSecurity() bool { return b.encrypted }
