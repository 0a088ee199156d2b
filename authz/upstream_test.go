package authz_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

var (
	managed = []string{"x-auth-request-user", "x-auth-request-email", "x-auth-request-preferred-username", "x-auth-request-groups", "x-auth-request-access-token"}
	legacy  = []string{"x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username", "x-forwarded-access-token"}
)

// allowed returns the decision about an allowed request, after checking what
// holds for each of them: every managed name is in exactly one list, no name is
// in both or twice, and everything can be sent.
func allowed(t *testing.T, rule authz.Rule, header ...authz.Field) authz.Decision {
	t.Helper()
	d := decide(t, rule, header...)
	if d.Outcome != authz.Allow {
		t.Fatalf("Authorize = %v %s (%s), want allow", d.Outcome, d.Reason, d.Detail)
	}
	count := map[string]int{}
	for _, f := range d.Set {
		count[f.Name]++
		if !f.Valid() || f.Value == "" {
			t.Errorf("set %s: %q cannot be sent", f.Name, f.Value)
		}
	}
	for _, name := range d.Remove {
		count[name]++
	}
	for name, n := range count {
		if n != 1 {
			t.Errorf("%s is set or removed %d times, want once (S5)", name, n)
		}
	}
	for _, name := range slices.Concat(managed, legacy) {
		if count[name] != 1 {
			t.Errorf("%s is neither set nor removed", name)
		}
	}
	for _, name := range legacy {
		if !slices.Contains(d.Remove, name) {
			t.Errorf("%s is not removed", name)
		}
	}
	return d
}

func decide(t *testing.T, rule authz.Rule, header ...authz.Field) authz.Decision {
	t.Helper()
	a, err := authz.New(authz.Config{Policy: policy(t, rule)})
	if err != nil {
		t.Fatal(err)
	}
	return a.Authorize(t.Context(), request(t, "GET", "app.test", "/", header...))
}

// knows is a rule that recognises id.
func knows(id *authz.Identity) authz.Rule {
	return authz.Rule{Name: "app", Hosts: []string{"app.test"}, Sources: login(&source{identity: id}), Require: authz.AnyUser()}
}

// TestSpoofedHeaders covers S1 to S4.
func TestSpoofedHeaders(t *testing.T) {
	t.Parallel()
	spoofed := []string{
		"x-auth-request-user", "x_auth_request_user", "x.auth.request.user", "x-auth_request-user", "x-auth-request-groups", "x-auth-request-anything", "x-auth-request-",
		"x_forwarded_user", "x-forwarded.access-token", "x-forwarded-email", "x!auth!request!user",
	}
	innocent := []string{"x-auth-request", "x-auth-requests", "xauth-request-user", "x-forwarded-for", "x-forwarded-username", "x-forwarded-host", "y-auth-request-user", "authorization"}
	var header []authz.Field
	for _, name := range slices.Concat(spoofed, innocent) {
		header = append(header, field(name, "root"), field(name, "again"))
	}
	header = slices.DeleteFunc(header, func(f authz.Field) bool { return f == field("authorization", "again") })
	for name, rule := range map[string]authz.Rule{"S1": knows(alice()), "S3 anonymous": open("app", "app.test")} {
		d := allowed(t, rule, header...)
		for _, s := range spoofed {
			set := value(d.Set, s) != ""
			if removed := slices.Contains(d.Remove, s); !removed && !set {
				t.Errorf("%s: %s reaches the application", name, s)
			}
			if v := value(d.Set, s); strings.Contains(v, "root") {
				t.Errorf("%s: %s is set to %q", name, s, v)
			}
		}
		for _, s := range innocent {
			if slices.Contains(d.Remove, s) || value(d.Set, s) != "" {
				t.Errorf("%s: %s is touched", name, s)
			}
		}
	}
}

func TestIdentityHeaders(t *testing.T) {
	t.Parallel()
	id := alice()
	id.PreferredUsername, id.Groups = "Alice", []string{"staff", "a,b", "", "50%", " x "}
	d := allowed(t, knows(id))
	want := []authz.Field{
		field("x-auth-request-user", "alice"), field("x-auth-request-email", "alice@good.test"),
		field("x-auth-request-preferred-username", "Alice"), field("x-auth-request-groups", "staff,a%2Cb,50%25,%20x%20"),
	}
	if !slices.Equal(d.Set, want) {
		t.Errorf("set %q, want %q", d.Set, want)
	}
	// S2: what the identity has no word on is removed.
	d = allowed(t, knows(&authz.Identity{Subject: "s", User: "s"}), field("x-auth-request-groups", "admins"))
	if !slices.Equal(d.Set, []authz.Field{field("x-auth-request-user", "s")}) {
		t.Errorf("set %q, want the user alone", d.Set)
	}
}

// TestHeaderEncoding covers E3, E4 and E5.
func TestHeaderEncoding(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ user, want string }{
		{"a\r\nX-Auth-Request-User: root", "a%0D%0AX-Auth-Request-User: root"},
		{"Zo\u00eb", "Zo%C3%AB"},
		{"a\x00b", "a%00b"},
		{"100%", "100%25"},
		{" a b ", "%20a b%20"},
		{"a,b", "a,b"},
		{"\xff", "%FF"},
		{"\u202eevil", "%E2%80%AEevil"},
		{"\ttab", "%09tab"},
	} {
		id := alice()
		id.User = tt.user
		if got := value(allowed(t, knows(id)).Set, "x-auth-request-user"); got != tt.want {
			t.Errorf("user %q arrives as %q, want %q", tt.user, got, tt.want)
		}
	}
}

// FuzzHeaderEncoding: what the application decodes is what the provider said.
func FuzzHeaderEncoding(f *testing.F) {
	f.Add("alice", "staff", "x,admins")
	f.Add("a\r\nb: c", " ", "%2C")
	f.Add("\xff\x00", "", "é, ,")
	f.Fuzz(func(t *testing.T, user, g1, g2 string) {
		id := alice()
		id.User, id.Groups = user, []string{g1, g2, "last"}
		if strings.TrimSpace(user) == "" {
			return
		}
		d := decide(t, knows(id))
		if d.Outcome != authz.Allow {
			if len(user)+len(g1)+len(g2) < 1<<10 {
				t.Errorf("user %q is refused: %s", user, d.Reason)
			}
			return
		}
		for _, f := range d.Set {
			if !f.Valid() || !utf8.ValidString(f.Value) {
				t.Errorf("%s: %q cannot be sent", f.Name, f.Value)
			}
		}
		if got, err := url.PathUnescape(value(d.Set, "x-auth-request-user")); err != nil || got != user {
			t.Errorf("user %q arrives as %q, %v", user, got, err)
		}
		var groups []string
		for g := range strings.SplitSeq(value(d.Set, "x-auth-request-groups"), ",") {
			g, err := url.PathUnescape(g)
			if err != nil {
				t.Error(err)
			}
			groups = append(groups, g)
		}
		want := slices.DeleteFunc(id.Groups, func(g string) bool { return g == "" })
		if !slices.Equal(groups, want) {
			t.Errorf("groups %q arrive as %q", want, groups)
		}
	})
}

// TestTooLarge covers S10: never a cut list.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	id := alice()
	id.Groups = slices.Repeat([]string{"a-group-name"}, 5000)
	d := decide(t, knows(id), field("x-auth-request-groups", "admins"))
	if d.Outcome != authz.Deny || d.Response.Status != 403 || d.Reason != authz.ReasonHeadersTooLarge || d.Set != nil {
		t.Errorf("Authorize = %v %d %s, want a 403 %s", d.Outcome, d.Response.Status, d.Reason, authz.ReasonHeadersTooLarge)
	}
	id.Groups = slices.Repeat([]string{"a-group-name"}, 2000)
	allowed(t, knows(id))
}

func TestForwardedTokens(t *testing.T) {
	t.Parallel()
	both := authz.Forward{AccessToken: true, IDToken: true}
	client := field("authorization", "Basic Y2xpZW50OnRleHQ=")
	for _, tt := range []struct {
		name      string
		forward   authz.Forward
		tokens    *authz.Tokens
		access    string
		bearer    string
		untouched bool // authorization is not ours to manage
	}{
		{"not asked for", authz.Forward{}, &authz.Tokens{Access: "at", ID: "it"}, "", "", true},
		{"access", authz.Forward{AccessToken: true}, &authz.Tokens{Access: "at", ID: "it"}, "at", "", true},
		{"id", authz.Forward{IDToken: true}, &authz.Tokens{Access: "at", ID: "it"}, "", "Bearer it", false},
		{"both", both, &authz.Tokens{Access: "at", ID: "it"}, "at", "Bearer it", false},
		{"none there", both, nil, "", "", false},
	} {
		id := alice()
		id.Tokens = tt.tokens
		d := allowed(t, with(knows(id), func(r *authz.Rule) { r.Forward = tt.forward }), client, field("x-auth-request-access-token", "evil"))
		if got := value(d.Set, "x-auth-request-access-token"); got != tt.access {
			t.Errorf("%s: access token %q, want %q", tt.name, got, tt.access)
		}
		if got := value(d.Set, "authorization"); got != tt.bearer {
			t.Errorf("%s: authorization %q, want %q", tt.name, got, tt.bearer)
		}
		if touched := slices.Contains(d.Remove, "authorization") || value(d.Set, "authorization") != ""; touched == tt.untouched {
			t.Errorf("%s: authorization touched: %v, want %v", tt.name, touched, !tt.untouched)
		}
	}
	id := alice()
	id.Tokens = &authz.Tokens{Access: "a\r\nb"}
	d := decide(t, with(knows(id), func(r *authz.Rule) { r.Forward = both }))
	if d.Outcome != authz.Deny || d.Response.Status != 503 {
		t.Errorf("a token with a line break: %v %d, want a 503", d.Outcome, d.Response.Status)
	}
}

// E2: an application may go by the address, so one that nobody verified is removed.
func TestE2UnverifiedEmailStaysHere(t *testing.T) {
	t.Parallel()
	id := alice()
	id.EmailVerified = false
	rule := authz.Rule{Name: "app", Hosts: []string{"app.test"}, Require: authz.AnyUser(), Sources: login(&source{identity: id})}
	d := allowed(t, rule, authz.Field{Name: "x-auth-request-email", Value: "root@good.test"})
	if !slices.Contains(d.Remove, "x-auth-request-email") {
		t.Errorf("set %v, removed %v: want x-auth-request-email removed", d.Set, d.Remove)
	}
}
