// Package oidctest is an OpenID Provider for tests and the demo, with faults that can be switched on.
package oidctest

import "net/http"

// User is somebody who can sign in.
type User struct {
	Subject, Email, Name, PreferredUsername string
	EmailVerified                           bool
	Groups                                  []string
	Claims                                  map[string]any // extra, or replacing
}

// Client is a registered relying party.
type Client struct {
	ID, Secret             string // empty secret: public
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
}

// Config describes a Provider. The oidctest helper owns its shape.
type Config struct {
	Issuer    string // "" : taken from the first request's listener (use New + httptest)
	Users     []User
	Clients   []Client
	AutoLogin string // subject that is signed in without a page; "": a page to pick a user
}

// Provider is an http.Handler.
type Provider struct{ _ int }

func New(cfg Config) (*Provider, error)                              { panic("contract") }
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("contract") }
