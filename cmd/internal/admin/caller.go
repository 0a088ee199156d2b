package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// MinToken is the least length of a token in bytes. It is guessed at over a network.
const MinToken = 32

// CheckToken says what is wrong with a token, without showing it.
func CheckToken(token string) error {
	if len(token) < MinToken {
		return fmt.Errorf("the token has %d characters, want at least %d; \"openssl rand -hex 32\" makes one", len(token), MinToken)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the token has a character that a header cannot hold; \"openssl rand -hex 32\" makes one")
	}
	return nil
}

// admit refuses a call without the token. Who came so far has shown his certificate,
// if the listener asks for one.
func (s *Server) admit(ctx context.Context) error {
	if s.cfg.Token == nil {
		return nil
	}
	want, err := s.cfg.Token()
	if err == nil {
		err = CheckToken(want)
	}
	if err != nil {
		s.cfg.Log.Error("the token of the admin listener cannot be read; nobody may call", "error", err.Error())
		return status.Error(codes.Unavailable, "the token cannot be checked; Gatehouse's log says why")
	}
	if got, ok := bearer(ctx); !ok || !same(got, want) {
		return status.Error(codes.Unauthenticated, "a valid token is needed: authorization: Bearer TOKEN (gatehouse sessions: --token-file)")
	}
	return nil
}

// bearer returns the one token of a call (RFC 6750, section 2.1).
func bearer(ctx context.Context) (string, bool) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}

// same compares in constant time, whatever the lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// caller names who is calling, for the log: by certificate, by user of this machine, or
// else by what all callers have in common.
func (s *Server) caller(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "unknown"
	}
	switch a := p.AuthInfo.(type) {
	case credentials.TLSInfo:
		if len(a.State.VerifiedChains) > 0 {
			return named(a.State.PeerCertificates[0])
		}
	case localUser:
		return a.String()
	}
	if s.cfg.Token != nil {
		return "token"
	}
	return "unknown"
}

// named prefers the SPIFFE ID, which is a certificate's only URI.
func named(c *x509.Certificate) string {
	if len(c.URIs) == 1 {
		return c.URIs[0].String()
	}
	return "certificate " + c.Subject.String()
}

// address is where a call comes from; a unix socket has none.
func address(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil && p.Addr.Network() != "unix" {
		return p.Addr.String()
	}
	return ""
}
