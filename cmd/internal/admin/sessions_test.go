package admin_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
	adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// C14: an operator sees the sessions of one user and ends one or all of them, nobody else's.
func TestListAndRevoke(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{})
	client := adminv1.NewSessionsClient(conn)
	laptop, phone := signIn(t, o.manager, "alice", "laptop"), signIn(t, o.manager, "alice", "phone")
	bob := signIn(t, o.manager, "bob", "desk")

	list, err := client.List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")})
	if err != nil {
		t.Fatal(err)
	}
	devices := map[string]string{}
	for _, s := range list.GetSessions() {
		devices[s.GetName()] = s.GetDevice()
		if s.GetAddress() != "192.0.2.7" || time.Since(s.GetCreated().AsTime()) > time.Minute || time.Since(s.GetSeen().AsTime()) > 2*time.Minute {
			t.Errorf("listed: %v", s)
		}
	}
	if list.GetTotal() != 2 || list.GetIssuer() != issuer || list.GetIssuerUnknown() ||
		devices[laptop.Handle().Name()] != "laptop" || devices[phone.Handle().Name()] != "phone" {
		t.Errorf("List = %v", list)
	}
	uid := fmt.Sprintf("uid %d", os.Getuid())
	if line := o.log.last(t, 1); line["caller"] != uid || line["method"] != "/gatehouse.admin.v1.Sessions/List" ||
		line["provider"] != "corp" || line["subject"] != "alice" || line["found"] != 2.0 || line["outcome"] != "OK" {
		t.Errorf("the log says %v", line)
	}

	one, err := client.Revoke(t.Context(), &adminv1.RevokeRequest{User: at("corp", "alice"), Session: phone.Handle().Name()})
	if err != nil || one.GetEnded() != 1 || alive(t, o.manager, phone) || !alive(t, o.manager, laptop) {
		t.Errorf("Revoke of one = %v, %v", one, err)
	}
	if line := o.log.last(t, 2); line["session"] != phone.Handle().Name() || line["ended"] != 1.0 || line["outcome"] != "OK" {
		t.Errorf("the log says %v", line)
	}
	all, err := client.Revoke(t.Context(), &adminv1.RevokeRequest{User: atIssuer(issuer, "alice")})
	if err != nil || all.GetEnded() != 1 || all.GetIssuerUnknown() || alive(t, o.manager, laptop) {
		t.Errorf("Revoke of all = %v, %v", all, err)
	}
	if !alive(t, o.manager, bob) {
		t.Error("somebody else was signed out")
	}
	for name, u := range map[string]*adminv1.User{"a slash too many": atIssuer(issuer+"/", "bob"), "another issuer": atIssuer("https://other.example.com", "bob")} {
		if r, err := client.Revoke(t.Context(), &adminv1.RevokeRequest{User: u}); err != nil || r.GetEnded() != 0 || !r.GetIssuerUnknown() {
			t.Errorf("%s: %v, %v, want a hint that nobody has this issuer", name, r, err)
		}
	}
	if !alive(t, o.manager, bob) {
		t.Error("an issuer is not compared exactly")
	}
}

// Somebody else's session cannot be ended in a user's name, and what is not there is no success.
func TestRevokeOneThatIsNot(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{})
	client := adminv1.NewSessionsClient(conn)
	bob := signIn(t, o.manager, "bob", "desk")
	signIn(t, o.manager, "alice", "laptop")
	for _, name := range []string{bob.Handle().Name(), strings.Repeat("A", 16)} {
		r, err := client.Revoke(t.Context(), &adminv1.RevokeRequest{User: at("corp", "alice"), Session: name})
		if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "nothing was ended") {
			t.Errorf("Revoke of %s = %v, %v", name, r, err)
		}
	}
	if !alive(t, o.manager, bob) {
		t.Error("somebody else was signed out")
	}
}

// Promise 6: a sign-out that could not be written says so. The cause is for the log.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{})
	client := adminv1.NewSessionsClient(conn)
	ids := []session.ID{signIn(t, o.manager, "alice", "a"), signIn(t, o.manager, "alice", "b"), signIn(t, o.manager, "alice", "c")}
	down := errors.New("dial tcp 10.1.2.3:6379: refused")
	all := &adminv1.RevokeRequest{User: at("corp", "alice")}
	one := &adminv1.RevokeRequest{User: at("corp", "alice"), Session: ids[0].Handle().Name()}
	for n, c := range []struct {
		name      string
		list, end error
		left      int
		req       *adminv1.RevokeRequest
		ended     int32
		want      string
	}{
		{"none ended", nil, down, 0, all, 0, "the user may still be signed in (sessions ended so far: 0)"},
		{"one not ended", nil, down, 0, one, 0, "may still be signed in"},
		{"not listed", down, nil, 0, one, 0, "nothing was ended, and the user may still be signed in"},
		{"half way", nil, down, 1, all, 1, "the user may still be signed in (sessions ended so far: 1)"},
	} {
		o.store.fail(c.list, c.end, c.left)
		r, err := client.Revoke(t.Context(), c.req)
		st := status.Convert(err)
		if st.Code() != codes.Unavailable || !strings.Contains(st.Message(), c.want) || strings.Contains(st.Message(), "10.1.2.3") {
			t.Errorf("%s: %v, %v", c.name, r, err)
		}
		if detail, ok := detail(st); !ok || detail.GetEnded() != c.ended {
			t.Errorf("%s: the status carries %v, want %d ended", c.name, detail, c.ended)
		}
		line := o.log.last(t, n+1)
		if line["level"] != "WARN" || line["outcome"] != "Unavailable" || line["ended"] != float64(c.ended) || !strings.Contains(fmt.Sprint(line["cause"]), "10.1.2.3") {
			t.Errorf("%s: the log says %v", c.name, line)
		}
	}
	o.store.fail(down, nil, 0)
	if r, err := client.List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("List = %v, %v", r, err)
	}
	if line := o.log.last(t, 5); line["found"] != nil || line["address"] != nil {
		t.Errorf("the log claims to know: %v", line)
	}
}

func detail(st *status.Status) (*adminv1.RevokeResponse, bool) {
	for _, d := range st.Details() {
		if r, ok := d.(*adminv1.RevokeResponse); ok {
			return r, true
		}
	}
	return nil, false
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{})
	client := adminv1.NewSessionsClient(conn)
	id := signIn(t, o.manager, "alice", "laptop")
	for _, c := range []struct {
		name, session, want string
		user                *adminv1.User
	}{
		{"no user", "", "user: name a provider", nil},
		{"neither provider nor issuer", "", "user: name a provider", &adminv1.User{Subject: "alice"}},
		{"unknown provider", "", `user.provider: no provider in the configuration is called "corq"`, at("corq", "alice")},
		{"empty provider", "", "user.provider: ", at("", "alice")},
		{"an issuer as provider", "", "user.provider: ", at(issuer, "alice")},
		{"empty issuer", "", "user.issuer: ", atIssuer("", "alice")},
		{"issuer with a zero byte", "", "user.issuer: ", atIssuer(issuer+"\x00alice", "x")},
		{"long issuer", "", "user.issuer: ", atIssuer("https://"+strings.Repeat("a", 2048), "alice")},
		{"no subject", "", "user.subject: missing", at("corp", "")},
		{"subject of two lines", "", "user.subject: ", at("corp", "alice\nbob")},
		{"long subject", "", "user.subject: ", at("corp", strings.Repeat("a", 1025))},
		{"a whole handle", id.Handle().String(), "session: not the name of a session", at("corp", "alice")},
		{"half a name", id.Handle().Name()[:8], "session: not the name of a session", at("corp", "alice")},
		{"a pattern", "***************?", "session: not the name of a session", at("corp", "alice")},
	} {
		r, err := client.Revoke(t.Context(), &adminv1.RevokeRequest{User: c.user, Session: c.session})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Revoke = %v, %v, want %q", c.name, r, err, c.want)
		}
		if c.session != "" {
			continue
		}
		if r, err := client.List(t.Context(), &adminv1.ListRequest{User: c.user}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: List = %v, %v, want %q", c.name, r, err, c.want)
		}
	}
	if !alive(t, o.manager, id) {
		t.Error("a refused call ended a session")
	}
	if _, err := client.List(t.Context(), &adminv1.ListRequest{User: at("corp", strings.Repeat("a", 100_000))}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 100 kB: %v", err)
	}
	for line := range strings.Lines(o.log.String()) {
		if len(line) > 2000 {
			t.Errorf("a line of %d bytes is in the log", len(line))
		}
	}
}

// A reload may take the last login away, or bring another manager.
func TestReloads(t *testing.T) {
	t.Parallel()
	now := make(chan admin.Current, 1)
	_, conn := onSocket(t, admin.Config{Current: func() admin.Current { return <-now }})
	client := adminv1.NewSessionsClient(conn)
	now <- admin.Current{Issuers: map[string]string{"corp": issuer}}
	if _, err := client.List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("without a login: %v", err)
	}
	m := manager(t, session.NewMemory(0))
	signIn(t, m, "alice", "laptop")
	now <- current(m)()
	if r, err := client.List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")}); err != nil || r.GetTotal() != 1 {
		t.Errorf("after a reload: %v, %v", r, err)
	}
}

// A mistake of ours must not end the process, which answers Checks, too.
func TestPanic(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{Current: func() admin.Current { panic("a mistake") }})
	for range 2 {
		if _, err := adminv1.NewSessionsClient(conn).List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")}); status.Code(err) != codes.Internal {
			t.Errorf("List = %v", err)
		}
	}
	if line := o.log.last(t, 2); line["outcome"] != "Internal" {
		t.Errorf("the log says %v", line)
	}
}

func TestLongList(t *testing.T) {
	t.Parallel()
	o, conn := onSocket(t, admin.Config{})
	for range 1001 {
		signIn(t, o.manager, "alice", strings.Repeat("x", 256))
	}
	r, err := adminv1.NewSessionsClient(conn).List(t.Context(), &adminv1.ListRequest{User: at("corp", "alice")})
	if err != nil || r.GetTotal() != 1001 || len(r.GetSessions()) != 1000 {
		t.Errorf("List = %d of %d, %v", len(r.GetSessions()), r.GetTotal(), err)
	}
}

// Whatever is asked is answered with one of the codes of the contract, and ends only what it names.
func FuzzRevoke(f *testing.F) {
	f.Add("corp", "", "alice", "")
	f.Add("", issuer, "alice", "AAAAAAAAAAAAAAAA")
	f.Add("", issuer+"\x00", "alice", "x")
	m := manager(f, session.NewMemory(0))
	bob := signIn(f, m, "bob", "desk")
	service := admin.NewSessions(current(m))
	f.Fuzz(func(t *testing.T, provider, issuer, subject, name string) {
		u := at(provider, subject)
		if provider == "" {
			u = atIssuer(issuer, subject)
		}
		_, err := service.Revoke(t.Context(), &adminv1.RevokeRequest{User: u, Session: name})
		switch status.Code(err) {
		case codes.OK, codes.InvalidArgument, codes.NotFound:
		default:
			t.Errorf("Revoke(%q, %q, %q, %q) = %v", provider, issuer, subject, name, err)
		}
		if subject != "bob" && !alive(t, m, bob) {
			t.Errorf("Revoke(%q, %q, %q, %q) ended somebody else's session", provider, issuer, subject, name)
		}
	})
}
