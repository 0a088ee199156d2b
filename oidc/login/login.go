// Package login signs browsers in: start, callback, and the session cookie.
package login

import (
	"log/slog"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// Host is an application host that signs in by itself.
type Host struct {
	Name      string   // as in authz.Request.Host
	Origin    string   // https://app.example.com, or http://app.localhost:10000
	Providers []string // names of providers that its rules use, in order
}

// Config is what a Login works with.
type Config struct {
	Prefix       string // "/oauth2"
	Hosts        []Host
	Providers    []*oidc.Provider
	Sessions     *session.Manager
	Ring         *seal.Ring
	CheckTimeout time.Duration // how long an answer may take before the "still working" page; default 800 ms
	Log          *slog.Logger  // events such as signed_in, signed_out, login_refused: named scalars, never a secret
	Now          func() time.Time
}

// Login serves the endpoints and recognises sessions.
type Login struct{ cfg Config }

func New(cfg Config) (*Login, error) { panic("contract") }

// Authenticator recognises the sessions of one provider; with tokens it loads them too.
func (l *Login) Authenticator(provider string, tokens bool) authz.Authenticator { panic("contract") }

// Endpoint returns the endpoint at host and path, or nil. Anything below Prefix on a known host is ours (404 page when unknown).
func (l *Login) Endpoint(host, path string) authz.Endpoint { panic("contract") }

// Render shows problems to people and programs.
func Render(r *authz.Request, p authz.Problem) authz.Response { panic("contract") }

// Wait returns when detached work (code exchanges) is done or the deadline passes.
func (l *Login) Wait(timeout time.Duration) { panic("contract") }
