package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// maxListed bounds an answer; nobody reads further.
const maxListed = 1000

// Longest names, in bytes. OpenID Connect Core, section 2, gives sub 255.
const (
	maxIssuer  = 2048
	maxSubject = 1024
)

// sessions is the service of the same name.
type sessions struct {
	adminv1.UnimplementedSessionsServer
	current func() Current
}

// user is who a request is about.
type user struct {
	manager         *session.Manager
	issuer, subject string
	unknown         bool // no provider has this issuer
}

// List returns the live sessions of a user.
func (s *sessions) List(ctx context.Context, req *adminv1.ListRequest) (*adminv1.ListResponse, error) {
	u, err := s.user(req.GetUser())
	if err != nil {
		return nil, err
	}
	all, err := u.manager.List(ctx, u.issuer, u.subject)
	if err != nil {
		return nil, failed("cannot tell which sessions the user has", err, nil)
	}
	resp := &adminv1.ListResponse{Total: int32(min(len(all), 1<<30)), Issuer: u.issuer, IssuerUnknown: u.unknown}
	for _, l := range all[:min(len(all), maxListed)] {
		resp.Sessions = append(resp.Sessions, listed(l))
	}
	return resp, nil
}

// listed leaves out what could not be read: such a session can still be ended.
func listed(l session.Listed) *adminv1.Session {
	s := &adminv1.Session{Name: l.Handle.Name(), Device: l.Summary.Device, Address: l.Summary.Address, Seen: timestamppb.New(l.Seen)}
	if !l.Created.IsZero() {
		s.Created = timestamppb.New(l.Created)
	}
	return s
}

// Revoke ends all sessions of a user, or one.
func (s *sessions) Revoke(ctx context.Context, req *adminv1.RevokeRequest) (*adminv1.RevokeResponse, error) {
	u, err := s.user(req.GetUser())
	if err != nil {
		return nil, err
	}
	resp := &adminv1.RevokeResponse{Issuer: u.issuer, IssuerUnknown: u.unknown}
	if req.GetSession() != "" {
		err = u.end(ctx, req.GetSession(), resp)
	} else {
		err = u.endAll(ctx, resp)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// endAll counts in resp what it ended.
func (u *user) endAll(ctx context.Context, resp *adminv1.RevokeResponse) error {
	n, err := u.manager.EndUser(ctx, u.issuer, u.subject)
	resp.Ended = int32(min(n, 1<<30)) //nolint:gosec // bounded
	if err != nil {
		return failed(fmt.Sprintf("the user may still be signed in (sessions ended so far: %d): try again", n), err, resp)
	}
	return nil
}

// end ends one session, which has to be the user's.
func (u *user) end(ctx context.Context, name string, resp *adminv1.RevokeResponse) error {
	if !plainName(name) {
		return status.Error(codes.InvalidArgument, "session: not the name of a session; take it from the list, 16 characters of base64url")
	}
	all, err := u.manager.List(ctx, u.issuer, u.subject)
	if err != nil {
		return failed("nothing was ended, and the user may still be signed in: try again", err, resp)
	}
	for _, l := range all {
		if l.Handle.Name() != name {
			continue
		}
		if err := u.manager.EndHandle(ctx, l.Handle); err != nil {
			return failed("the session may not have ended, and the user may still be signed in: try again", err, resp)
		}
		resp.Ended = 1
		return nil
	}
	return status.Error(codes.NotFound, "nothing was ended: the user has no live session of this name; it may have ended already")
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// plainName reports whether name can be what session.Handle.Name returns.
func plainName(name string) bool {
	return len(name) == len(session.Handle{}.Name()) && !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune(base64url, r)
	})
}

// user finds out who is meant.
func (s *sessions) user(u *adminv1.User) (*user, error) {
	current := s.current()
	found := &user{manager: current.Sessions, subject: u.GetSubject()}
	switch at := u.GetAt().(type) {
	case *adminv1.User_Provider:
		issuer, ok := current.Issuers[at.Provider]
		if !ok {
			return nil, status.Errorf(codes.InvalidArgument, "user.provider: no provider in the configuration is called %q", clip(at.Provider))
		}
		found.issuer = issuer
	case *adminv1.User_Issuer:
		if !clean(at.Issuer, maxIssuer) {
			return nil, status.Error(codes.InvalidArgument, "user.issuer: not an issuer; copy it from the provider's discovery document")
		}
		found.issuer, found.unknown = at.Issuer, true
		for _, issuer := range current.Issuers {
			found.unknown = found.unknown && issuer != at.Issuer
		}
	default:
		return nil, status.Error(codes.InvalidArgument, "user: name a provider (as in the configuration) or an issuer")
	}
	if !clean(found.subject, maxSubject) {
		return nil, status.Error(codes.InvalidArgument, "user.subject: missing or not a subject; it is the claim sub, as the access log writes it")
	}
	if found.manager == nil {
		return nil, status.Error(codes.FailedPrecondition, "no rule has a login, so nobody is signed in here")
	}
	return found, nil
}

// clean reports whether s can be the text of a claim; protobuf has made sure of UTF-8.
func clean(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, unicode.IsControl)
}

// failure is a status with its cause, which only the log gets to see.
type failure struct {
	status *status.Status
	cause  error
}

// failed says that the store did not do what was asked; resp, when there is one, what it did.
func failed(message string, err error, resp *adminv1.RevokeResponse) error {
	st := status.New(codes.Unavailable, message)
	if resp != nil {
		if with, err := st.WithDetails(protoadapt.MessageV1Of(resp)); err == nil {
			st = with
		}
	}
	return &failure{st, err}
}

// Error is for the log.
func (f *failure) Error() string { return f.status.Message() + ": " + f.cause.Error() }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

// GRPCStatus is what the caller gets to see.
func (f *failure) GRPCStatus() *status.Status { return f.status }

// cause is what the log says beyond the message.
func cause(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.cause.Error()
	}
	return ""
}
