package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// signedIn is a program with an admin listener, in which tests sign users in by hand.
type signedIn struct {
	t       *testing.T
	program *program
	config  string // the file
	log     *sink
}

// adminConfig has a login; admin is the rest of listen.
func adminConfig(admin string) string {
	return `
listen: {grpc: {address: "127.0.0.1:0"}, admin: ` + admin + `}
providers:
- {name: corp, issuer: "https://idp.example.com", client: {id: mesh, secret_file: secret}}
- {name: other, issuer: "https://other.example.com", client: {id: mesh, secret_file: secret}}
sessions: {store: {memory: {}}}
shutdown: {pause: 0s, timeout: 5s}
rules: [{name: app, hosts: [app.example.com], login: corp, require: any_user}]
`
}

// operate builds what serve builds, and serves its admin listener only.
func operate(t *testing.T, admin string) *signedIn {
	t.Helper()
	dir, log := t.TempDir(), &sink{}
	name := filepath.Join(dir, "gatehouse.yaml")
	for file, text := range map[string]string{"gatehouse.yaml": adminConfig(admin), "secret": "s\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	lifetime, end := context.WithCancel(context.Background())
	p := &program{file: name, lifetime: lifetime}
	if err := p.prepare(cfg, log); err != nil {
		t.Fatal(err)
	}
	g, err := p.build(cfg, &graph{})
	if err != nil {
		t.Fatal(err)
	}
	p.current.Store(g)
	door, err := p.openAdmin(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- door.Serve(door.Listener) }()
	t.Cleanup(func() {
		p.closeAdmin(lifetime, door, 0)
		if err := <-served; err != nil {
			t.Error(err)
		}
		end()
		p.running.Wait()
	})
	return &signedIn{t, p, name, log}
}

func (s *signedIn) signIn(subject, device string) session.ID {
	s.t.Helper()
	id, _, err := s.program.current.Load().sessions.Create(s.t.Context(), rand.Text(), session.Session{
		Identity: &authz.Identity{Provider: "corp", Issuer: "https://idp.example.com", Subject: subject},
		Summary:  session.Summary{Device: device, Address: "192.0.2.7"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *signedIn) alive(id session.ID) bool {
	s.t.Helper()
	_, err := s.program.current.Load().sessions.Load(s.t.Context(), id, false)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		s.t.Fatal(err)
	}
	return err == nil
}

// C14: an operator lists and ends the sessions of a user from a terminal, and what a
// browser said of itself cannot play tricks on it.
func TestSessionsCommands(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	s := operate(t, "{address: 'unix://"+socket+"'}")
	laptop, phone := s.signIn("alice", "laptop \x1b[2J\u009b31m\u202eevil\nSESSION"), s.signIn("alice", "phone")
	bob := s.signIn("bob", "desk")
	by := []string{"--config", s.config, "--provider", "corp", "--subject", "alice"}
	list := append([]string{"sessions", "list"}, by...)
	revoke := append([]string{"sessions", "revoke"}, by...)

	code, stdout, stderr := runWith(list...)
	lines := strings.Split(stdout, "\n")
	if code != 0 || stderr != "" || len(lines) != 4 || !strings.HasPrefix(lines[0], "SESSION ") {
		t.Fatalf("list = %d %q %q", code, stdout, stderr)
	}
	for _, want := range []string{laptop.Handle().Name(), phone.Handle().Name(), "192.0.2.7", "phone", time.Now().Local().Format("2006-01-02T15:")} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	code, asJSON, _ := runWith(append(list, "--json")...)
	var answer struct {
		Total    int
		Issuer   string
		Sessions []struct {
			Name, Device, Address string
			Created, Seen         time.Time
		}
	}
	if err := json.Unmarshal([]byte(asJSON), &answer); code != 0 || err != nil || answer.Total != 2 || len(answer.Sessions) != 2 ||
		answer.Issuer != "https://idp.example.com" || time.Since(answer.Sessions[0].Created) > time.Minute {
		t.Errorf("list --json = %d %v\n%s", code, err, asJSON)
	}
	for _, text := range []string{stdout, asJSON} {
		if strings.ContainsAny(strings.ReplaceAll(text, "\n", ""), "\x1b\u009b\u202e\r\x00") || strings.Contains(text, `\u001b`) || strings.Contains(text, "evil\nSESSION") {
			t.Errorf("a terminal would obey %q", text)
		}
	}

	for _, c := range []struct {
		name     string
		args     []string
		code     int
		out, err string
		laptop   bool
	}{
		{"empty name", append(revoke, "--session="), exitUsage, "", "--session is empty", true},
		{"somebody else's", append(revoke, "--session", bob.Handle().Name()), exitFailure, "", "not ended: nothing was ended", true},
		{"not a name", append(revoke, "--session", "x"), exitUsage, "", "not the name of a session", true},
		{"one", append(revoke, "--session", phone.Handle().Name()), 0, "1 session of alice at corp has ended\n", "", true},
		{"that one again", append(revoke, "--session", phone.Handle().Name()), exitFailure, "", "may have ended already", true},
		{"all", append(revoke, "--json"), 0, `"complete": true`, "", false},
		{"all again", revoke, 0, "alice at corp had no live session; nothing to end\n", "", false},
		{"list of none", list, 0, "alice at corp has no live session\n", "", false},
	} {
		code, stdout, stderr := runWith(c.args...)
		if code != c.code || !strings.Contains(stdout, c.out) || !strings.Contains(stderr, c.err) || c.code == 0 && stderr != "" || c.code != 0 && stdout != "" {
			t.Errorf("%s: %d %q %q", c.name, code, stdout, stderr)
		}
		if s.alive(laptop) != c.laptop || !s.alive(bob) {
			t.Errorf("%s: the laptop lives %v, the desk of somebody else %v", c.name, s.alive(laptop), s.alive(bob))
		}
	}
	code, stdout, stderr = runWith("sessions", "revoke", "--address", "unix://"+socket, "--issuer", "https://idp.example.com/", "--subject", "bob")
	if code != 0 || !strings.Contains(stderr, "warning: no provider") || !strings.Contains(stdout, "bob at https://idp.example.com/ had no live session") || !s.alive(bob) {
		t.Errorf("an issuer with a slash too many: %d %q %q", code, stdout, stderr)
	}
	for _, want := range []string{`"method":"/gatehouse.admin.v1.Sessions/Revoke"`, fmt.Sprintf(`"caller":"uid %d"`, os.Getuid()), `"ended":1`, `"outcome":"NotFound"`} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, s.log)
		}
	}
}

// down is a store that cannot be asked.
type down struct{ session.Store }

func (down) List(context.Context, []string) ([]session.Handle, error) {
	return nil, errors.New("dial tcp 10.1.2.3:6379: refused")
}

// Promise 6: a sign-out that could not be written is none.
func TestSessionsRevokeWithoutStore(t *testing.T) {
	t.Parallel()
	s := operate(t, "{address: 'unix://"+filepath.Join(t.TempDir(), "s")+"'}")
	s.program.store = down{s.program.store}
	g, err := s.program.build(s.program.current.Load().config, &graph{}) // a reload
	if err != nil {
		t.Fatal(err)
	}
	s.program.current.Store(g)
	args := []string{"sessions", "revoke", "-c", s.config, "--provider", "corp", "--subject", "alice"}
	if code, stdout, stderr := runWith(args...); code != exitFailure || stdout != "" || !strings.Contains(stderr, "not ended: the user may still be signed in") || strings.Contains(stderr, "10.1.2.3") {
		t.Errorf("revoke = %d %q %q", code, stdout, stderr)
	}
	if code, stdout, stderr := runWith(append(args, "--json")...); code != exitFailure || !strings.Contains(stdout, `"complete": false`) || !strings.Contains(stdout, `"ended": 0`) || !strings.Contains(stderr, "may still be signed in") {
		t.Errorf("revoke --json = %d %q %q", code, stdout, stderr)
	}
	if code, _, stderr := runWith("sessions", "list", "-c", s.config, "--provider", "corp", "--subject", "alice"); code != exitFailure || !strings.Contains(stderr, "cannot tell") {
		t.Errorf("list = %d %q", code, stderr)
	}
	if !strings.Contains(s.log.String(), "10.1.2.3") {
		t.Error("the cause is not in the log")
	}
}

// spoiled is a store whose summaries were altered.
type spoiled struct{ session.Store }

func (s spoiled) Load(ctx context.Context, h session.Handle, f session.Fields) (session.Record, time.Duration, error) {
	r, left, err := s.Store.Load(ctx, h, f)
	r.Summary = []byte("altered")
	return r, left, err
}

// A session whose record was altered is listed, and can be ended.
func TestSessionsOfDamagedRecords(t *testing.T) {
	t.Parallel()
	s := operate(t, "{address: 'unix://"+filepath.Join(t.TempDir(), "s")+"'}")
	s.program.store = spoiled{s.program.store}
	g, err := s.program.build(s.program.current.Load().config, &graph{}) // a reload
	if err != nil {
		t.Fatal(err)
	}
	s.program.current.Store(g)
	id := s.signIn("alice", "laptop")
	user := []string{"-c", s.config, "--provider", "corp", "--subject", "alice"}
	code, stdout, stderr := runWith(append([]string{"sessions", "list"}, user...)...)
	if code != 0 || stderr != "" || !strings.Contains(stdout, id.Handle().Name()) || !strings.Contains(stdout, "cannot be read") {
		t.Errorf("list = %d %q %q", code, stdout, stderr)
	}
	if code, stdout, _ := runWith(append([]string{"sessions", "list", "--json"}, user...)...); code != 0 || strings.Contains(stdout, `"created"`) || !strings.Contains(stdout, `"total": 1`) {
		t.Errorf("list --json = %d %q", code, stdout)
	}
	code, stdout, stderr = runWith(append([]string{"sessions", "revoke", "--session", id.Handle().Name()}, user...)...)
	if code != 0 || s.alive(id) {
		t.Errorf("revoke = %d %q %q", code, stdout, stderr)
	}
}

func TestSessionsUsage(t *testing.T) {
	t.Parallel()
	user := " --provider corp --subject alice"
	missing := filepath.Join(t.TempDir(), "s")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"sessions list" + user, exitUsage, "at least one of the flags in the group [config address] is required"},
		{"sessions list --address unix:///x --subject alice", exitUsage, "[provider issuer]"},
		{"sessions list --address unix:///x --provider a --issuer b --subject alice", exitUsage, "[provider issuer]"},
		{"sessions list --address unix:///x --provider a", exitUsage, `"subject" not set`},
		{"sessions list --address unix:/x" + user, exitUsage, "write host:port or unix:///"},
		{"sessions list --address unix://x" + user, exitUsage, "three slashes"},
		{"sessions list --address gatehouse" + user, exitUsage, "write host:port or unix:///"},
		{"sessions list --address unix:///x --token-file t" + user, exitUsage, "takes neither certificates nor a token"},
		{"sessions list --address h:1 --cert-file c" + user, exitUsage, "[cert-file key-file]"},
		{"sessions list --address h:1 --ca-file /does/not/exist" + user, exitUsage, "--ca-file: "},
		{"sessions list --address h:1 --token-file /does/not/exist" + user, exitUsage, "--token-file: "},
		{"sessions list -c " + file(t, open0) + user, exitUsage, "listen.admin: missing: this Gatehouse has no admin API"},
		{"sessions list --address unix://" + missing + user, exitFailure, "cannot list: "},
		{"sessions revoke --address unix://" + missing + user, exitFailure, "the user may still be signed in: "},
		{"sessions list --address 127.0.0.1:1" + user, exitFailure, "(asked 127.0.0.1:1)"},
	} {
		if code, stdout, stderr := runWith(strings.Fields(c.args)...); code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("gatehouse %s = %d %q %q, want %d %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}

// S17: on the network the admin API is for those who show a listed certificate, and the token beside it.
func TestAdminOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writePair(t, dir, "localhost")
	operator := identify(t, dir, "operator.pem", "spiffe://mesh/ns/ops/sa/oncall")
	other := identify(t, dir, "other.pem", "spiffe://mesh/ns/apps/sa/app")
	var both []byte
	for name, cert := range map[string]tls.Certificate{"operator": operator, "other": other} {
		data, err := os.ReadFile(filepath.Join(dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, data...)
		der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"ca.pem": string(both), "token": strings.Repeat("t", 32) + "\n", "wrong": strings.Repeat("x", 32)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := freePort(t)
	s := operate(t, fmt.Sprintf(`{address: %q, tls: {cert_file: %[2]s/tls.crt, key_file: %[2]s/tls.key, client_ca_file: %[2]s/ca.pem, client_ids: ["spiffe://mesh/ns/ops/sa/oncall"]}, token_file: %[2]s/token}`, address, dir))
	call := func(cert, token string) (int, string) {
		args := []string{"sessions", "list", "--address", address, "--server-name", "localhost", "--ca-file", dir + "/tls.crt", "--provider", "corp", "--subject", "alice"}
		if cert != "" {
			args = append(args, "--cert-file", dir+"/"+cert+".pem", "--key-file", dir+"/"+cert+".key")
		}
		if token != "" {
			args = append(args, "--token-file", dir+"/"+token)
		}
		code, _, stderr := runWith(args...)
		return code, stderr
	}
	for _, c := range []struct {
		cert, token string
		code        int
		want        string
	}{
		{"operator", "token", 0, ""},
		{"operator", "wrong", exitFailure, "a valid token is needed"},
		{"operator", "", exitFailure, "a valid token is needed"},
		{"other", "token", exitFailure, "cannot list"},
		{"", "token", exitFailure, "cannot list"},
	} {
		if code, stderr := call(c.cert, c.token); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("certificate %q, token %q: %d %q", c.cert, c.token, code, stderr)
		}
	}
	// From the configuration: the address and the token.
	code, _, stderr := runWith("sessions", "list", "-c", s.config, "--server-name", "localhost", "--ca-file", dir+"/tls.crt",
		"--cert-file", dir+"/operator.pem", "--key-file", dir+"/operator.key", "--provider", "corp", "--subject", "alice")
	if code != 0 {
		t.Errorf("with the configuration: %d %q", code, stderr)
	}
	if !strings.Contains(s.log.String(), `"caller":"spiffe://mesh/ns/ops/sa/oncall"`) {
		t.Errorf("the log does not name the operator:\n%s", s.log)
	}
}

// A whole process: the socket is for its user alone, survives a reload, and is gone at the end.
func TestAdminSocketOfAProcess(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	text := adminConfig("{address: 'unix://" + socket + "'}")
	g := start(t, text)
	g.address("admin")
	if info, err := os.Lstat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if code, _, stderr := runWith("serve", "-c", filepath.Join(g.dir, "gatehouse.yaml")); code != exitUsage || !strings.Contains(stderr, "listen.admin.address: cannot listen: somebody listens on "+socket) {
		t.Errorf("a second process = %d %q", code, stderr)
	}
	list := func(provider string) (int, string, string) {
		return runWith("sessions", "list", "--address", "unix://"+socket, "--provider", provider, "--subject", "alice")
	}
	if code, stdout, stderr := list("corp"); code != 0 || !strings.Contains(stdout, "no live session") {
		t.Errorf("list = %d %q %q", code, stdout, stderr)
	}
	g.write("gatehouse.yaml", strings.ReplaceAll(text, "name: other", "name: renamed"))
	g.await(`configuration reloaded`)
	if code, stdout, stderr := list("renamed"); code != 0 {
		t.Errorf("after a reload: %d %q %q", code, stdout, stderr)
	}
	if code, _, stderr := list("other"); code != exitUsage || !strings.Contains(stderr, `is called "other"`) {
		t.Errorf("the old name after a reload: %d %q", code, stderr)
	}
	g.end()
	if <-g.done; g.err != nil {
		t.Errorf("serve = %v", g.err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// What must not start although the configuration reads well.
func TestAdminRefusesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writePair(t, dir, "localhost")
	for name, text := range map[string]string{"short": "0123456789012345678901234567890\n", "two": strings.Repeat("a", 40) + "\n" + strings.Repeat("b", 40), "file": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ admin, want string }{
		{"{address: '127.0.0.1:0', token_file: " + dir + "/short}", "listen.admin.token_file: the token has 31 characters"},
		{"{address: '127.0.0.1:0', token_file: " + dir + "/two}", "listen.admin.token_file: "},
		{"{address: '127.0.0.1:0', token_file: " + dir + "/none}", "listen.admin.token_file: the file cannot be read"},
		{"{address: '127.0.0.1:0', tls: {cert_file: " + dir + "/tls.crt, key_file: " + dir + "/tls.key, client_ca_file: " + dir + "/file}}", "listen.admin.tls: "},
		{"{address: 'unix://" + dir + "/file'}", "listen.admin.address: cannot listen: "},
		{"{address: 'unix://" + dir + "/no/where'}", "listen.admin.address: cannot listen: "},
	} {
		text := strings.Replace(open0, "'127.0.0.1:0'}", "'127.0.0.1:0'}, admin: "+c.admin, 1)
		code, _, stderr := runWith("serve", "-c", file(t, text))
		if code != exitUsage || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "0123456789") {
			t.Errorf("%s: serve = %d %q, want %q", c.admin, code, stderr, c.want)
		}
	}
}

// The secret of a client is read when it is used: see oidc. That of the admin listener, too.
func TestAdminTokenIsReadAgain(t *testing.T) {
	t.Parallel()
	first, second := strings.Repeat("first-", 6), strings.Repeat("second", 6)
	port := freePort(t)
	g := start(t, "listen: {grpc: {address: '127.0.0.1:0'}, admin: {address: '"+port+"', token_file: token}}\nrules: [{name: open, hosts: [a.example.com], allow: anonymous}]\n",
		"token", first+"\n")
	g.address("admin")
	list := func(token string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, stderr := runWith("sessions", "list", "--address", port, "--token-file", file, "--provider", "corp", "--subject", "alice")
		return stderr
	}
	const in, out = "no provider in the configuration", "a valid token is needed"
	if got := list(first); !strings.Contains(got, in) {
		t.Errorf("with the token: %q", got)
	}
	g.write("token", second+"\n")
	if got := list(first); !strings.Contains(got, out) {
		t.Errorf("with the old token: %q", got)
	}
	if got := list(second); !strings.Contains(got, in) {
		t.Errorf("with the new token: %q", got)
	}
	if err := os.Remove(filepath.Join(g.dir, "token")); err != nil {
		t.Fatal(err)
	}
	if got := list(second); !strings.Contains(got, "the token cannot be checked") {
		t.Errorf("without the file: %q", got)
	}
	for _, secret := range []string{first, second} { // V2
		if strings.Contains(g.log.String(), secret) {
			t.Error("the token is in the log")
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
