package authz_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// TestCookies covers C4, C5 and C6.
func TestCookies(t *testing.T) {
	t.Parallel()
	const name = "__Host-gh_corp"
	for _, tt := range []struct {
		lines []string
		want  []string
	}{
		{nil, nil},
		{[]string{"__Host-gh_corp=a"}, []string{"a"}},
		{[]string{"x=1; __Host-gh_corp=a; y=2"}, []string{"a"}},
		{[]string{"__Host-gh_corp=JUNK; __Host-gh_corp=VIC"}, []string{"JUNK", "VIC"}},
		{[]string{"__Host-gh_corp=a", "__Host-gh_corp=b"}, []string{"a", "b"}},
		{[]string{"bad[=1; __Host-gh_corp=GOOD; x=a b"}, []string{"GOOD"}},
		{[]string{"bad; =; ;; __Host-gh_corp=GOOD"}, []string{"GOOD"}},
		{[]string{"x=1;__Host-gh_corp=a=b="}, []string{"a=b="}},
		{[]string{"x=1, __Host-gh_corp=a"}, nil},
		{[]string{"\u2000__Host-gh_corp=a"}, nil},
		{[]string{"\u0085__Host-gh_corp=a"}, nil},
		{[]string{"=__Host-gh_corp=a"}, nil},
		{[]string{`$Version=1; __Host-gh_corp="a"`}, []string{`"a"`}},
		{[]string{"__HOST-gh_corp=a; __Host-gh_Corp=b; __Host-gh_corp2=c; __Host-gh_corp =d; \v__Host-gh_corp=e"}, nil},
		{[]string{strings.Repeat("__Host-gh_corp=a;", 9)}, []string{"a", "a", "a", "a"}},
	} {
		var h authz.Header
		for _, l := range tt.lines {
			h = append(h, field("cookie", l))
		}
		if got := h.Cookies(name, 4); !slices.Equal(got, tt.want) {
			t.Errorf("Cookies of %q = %q, want %q", tt.lines, got, tt.want)
		}
	}
	h := authz.Header{field("cookie", "__Host-gh_p_1=a; __Host-gh_p_2=b; __Host-gh_p_1=c; __Host-gh_corp=d; __Host-gh_p_3=e")}
	if got, want := h.CookieNames("__Host-gh_p_", 2), []string{"__Host-gh_p_1", "__Host-gh_p_2"}; !slices.Equal(got, want) {
		t.Errorf("CookieNames = %q, want %q", got, want)
	}
	if got := h.CookieNames("__Host-gh_p_", 0); got != nil {
		t.Errorf("CookieNames with no room = %q, want none", got)
	}
}

// forwarded returns the cookie header that the application receives for lines,
// and what was decided: "kept", "set" or "removed".
func forwarded(t *testing.T, lines ...string) (value, how string) {
	t.Helper()
	h := make([]authz.Field, len(lines))
	for i, l := range lines {
		h[i] = field("cookie", l)
	}
	a, err := authz.New(authz.Config{Policy: policy(t, authz.Rule{Name: "open", Hosts: []string{"app.test"}, Anonymous: true})})
	if err != nil {
		t.Fatal(err)
	}
	r := &authz.Request{Method: "GET", Host: "app.test", Path: "/", Header: h}
	d := a.Authorize(t.Context(), r)
	if d.Outcome != authz.Allow {
		t.Fatalf("Authorize = %v %s, want allow", d.Outcome, d.Reason)
	}
	removed := slices.Contains(d.Remove, "cookie")
	v, n := authz.Header(d.Set).Get("cookie")
	switch {
	case removed && n == 0:
		return "", "removed"
	case !removed && n == 1:
		return v, "set"
	case !removed && n == 0:
		return strings.Join(lines, "; "), "kept"
	}
	t.Fatalf("cookie is set %d times and removed %v", n, removed)
	return "", ""
}

// TestCookieCut covers C15, with the joined lines of an HTTP/1 client.
func TestCookieCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lines      []string
		value, how string
	}{
		{[]string{"a=1; b=2"}, "a=1; b=2", "kept"},
		{[]string{"a=1,b=2;;c"}, "a=1,b=2;;c", "kept"},
		{[]string{"__HOST-gh_corp=1"}, "__HOST-gh_corp=1", "kept"},
		{[]string{"__Host-gh_corp=s"}, "", "removed"},
		{[]string{"__Host-gh_corp=s; __Host-gh_p_x=t"}, "", "removed"},
		{[]string{"__Host-gh_corp"}, "", "removed"},
		{[]string{"__Host-gh_corp=s; a=1"}, "a=1", "set"},
		{[]string{"a=1; __Host-gh_corp=s"}, "a=1", "set"},
		{[]string{"a=1; __Host-gh_corp=s; b=2"}, "a=1; b=2", "set"},
		{[]string{"a=1;__Host-gh_corp=s;b=2"}, "a=1;b=2", "set"},
		{[]string{"a=1,__Host-gh_corp=s"}, "a=1", "set"},
		{[]string{"a=1, __Host-gh_corp=s; b=2"}, "a=1; b=2", "set"},
		{[]string{"a=1; __Host-gh_corp=s, b=2"}, "a=1; b=2", "set"},
		{[]string{"a=1,2,3; __Host-gh_corp=s; b=x,y"}, "a=1,2,3; b=x,y", "set"},
		{[]string{"a=1\t;\t__Host-gh_corp =s; b=2"}, "a=1\t; b=2", "set"},
		{[]string{"__Host-gh_corp=s", "a=1", "b=2"}, "a=1; b=2", "set"},
		{[]string{"a=1", "__Host-gh_corp=s"}, "a=1", "set"},
		{[]string{`a="x y"; __Host-gh_corp=s; b=c=d`}, `a="x y"; b=c=d`, "set"},
		{[]string{"a=\xff; __Host-gh_corp=s; b=2; c=\x01"}, "b=2", "set"},
	} {
		if value, how := forwarded(t, tt.lines...); value != tt.value || how != tt.how {
			t.Errorf("cookies %q: %s %q, want %s %q", tt.lines, how, value, tt.how, tt.value)
		}
	}
}

func FuzzCookies(f *testing.F) {
	f.Add("a=1; __Host-gh_corp=s; b=2", "c=3")
	f.Add("a=1,__Host-gh_p_x=s, b=2", "__Host-gh_")
	f.Add(" \t;=__Host-gh_;,,; __Host-gh_corp", "\u2000__Host-gh_corp=x")
	f.Fuzz(func(t *testing.T, line1, line2 string) {
		value, how := forwarded(t, line1, line2)
		if how != "set" && how != "kept" {
			return
		}
		if !canBeSent(value) && how == "set" {
			t.Errorf("cut of %q %q = %q, which cannot be sent", line1, line2, value)
		}
		h := authz.Header{field("cookie", value)}
		if got := h.CookieNames(authz.CookiePrefix, 1); got != nil {
			t.Errorf("cut of %q %q leaves %q", line1, line2, got)
		}
		var before []string
		for _, l := range []string{line1, line2} {
			before = append(before, pieces(l)...)
		}
		after := pieces(value)
		for _, p := range after {
			if strings.HasPrefix(p, authz.CookiePrefix) {
				t.Errorf("cut of %q %q leaves %q", line1, line2, p)
			}
		}
		if how == "set" { // every foreign piece survives byte for byte, in order
			want := slices.DeleteFunc(before, func(p string) bool { return strings.HasPrefix(p, authz.CookiePrefix) || !canBeSent(p) })
			if !slices.Equal(after, want) {
				t.Errorf("cut of %q %q = %q, want %q", line1, line2, after, want)
			}
		}
	})
}

func canBeSent(s string) bool { return authz.Field{Name: "cookie", Value: s}.Valid() }

// pieces splits as the most suspicious reader would.
func pieces(line string) []string {
	var all []string
	for _, p := range strings.FieldsFunc(line, func(c rune) bool { return c == ';' || c == ',' }) {
		if p = strings.Trim(p, " \t"); p != "" {
			all = append(all, p)
		}
	}
	return all
}

// What a proxy is told to send instead of the client's cookies is theirs without ours.
func TestForeignCookies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{"a=1; b=2"}, "a=1; b=2"},
		{[]string{"a=1", "b=2"}, "a=1; b=2"},
		{[]string{authz.CookiePrefix + "corp=x"}, ""},
		{[]string{"a=1; " + authz.CookiePrefix + "corp=x; b=2"}, "a=1; b=2"},
	} {
		var h authz.Header
		for _, line := range c.lines {
			h = append(h, authz.Field{Name: "cookie", Value: line})
		}
		if got := h.ForeignCookies(); got != c.want {
			t.Errorf("ForeignCookies(%q) = %q, want %q", c.lines, got, c.want)
		}
	}
}
