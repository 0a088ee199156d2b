package authz_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/google/go-cmp/cmp"
)

func TestParseClaims(t *testing.T) {
	t.Parallel()
	const data = " {\"sub\":\"a\",\"SUB\":\"victim\",\"n\":-1.5e+3,\"big\":12345678901234567890,\r\n\t\"ok\":true,\"no\":false,\"nil\":null," +
		`"list":["x",1,[],{}],"esc":"\"\\\/\b\f\n\r\té😀","é":{"a.b":"c"}} `
	got, err := authz.ParseClaims([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	want := authz.Claims{
		"sub": "a", "SUB": "victim", "n": json.Number("-1.5e+3"), "big": json.Number("12345678901234567890"),
		"ok": true, "no": false, "nil": nil, "list": []any{"x", json.Number("1"), []any{}, map[string]any{}},
		"esc": "\"\\/\b\f\n\r\té\U0001f600", "é": map[string]any{"a.b": "c"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseClaims (-want +got):\n%s", diff)
	}
}

// TestParseClaimsRefusals covers J14.
func TestParseClaimsRefusals(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	for _, bad := range []string{
		"", " ", "null", "[]", `"a"`, "1", "{", "{}x", "{} {}", "{}\x00", "\ufeff{}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{'a':1}`, `{"a":1 "b":2}`,
		`{"sub":"a","sub":"b"}`, `{"sub":"a","s\u0075b":"b"}`, `{"x":{"a":1,"a":2}}`, `{"x":[{"a":1,"a":1}]}`,
		`{"a":tru}`, `{"a":True}`, `{"a":nul}`, `{"a":NaN}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":[}`,
		`{"a":01}`, `{"a":+1}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":-}`, `{"a":0x1}`, `{"a":` + strings.Repeat("1", 65) + `}`,
		"{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", `{"a":"`, `{"a":"\`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12G4"}`,
		`{"a":"\ud800"}`, `{"a":"\udc00"}`, `{"a":"\ud800\ud800"}`, `{"a":"\ud800x"}`, "{\"a\":\"\\n\n\"}",
		deep(32), `{"a":"` + strings.Repeat("x", 256<<10) + `"}`,
	} {
		if got, err := authz.ParseClaims([]byte(bad)); err == nil {
			t.Errorf("ParseClaims(%.60q) = %v, want an error", bad, got)
		}
	}
	if _, err := authz.ParseClaims([]byte(deep(31))); err != nil {
		t.Errorf("31 levels: %v", err)
	}
}

// TestLookup covers E8.
func TestLookup(t *testing.T) {
	t.Parallel()
	c, err := authz.ParseClaims([]byte(`{"a.b":"dotted","a":{"b":"nested","/":"slash","~1":"tilde","":"empty"},"l":["x",{"y":"z"}],"":"nameless","https://x.test/roles":["r"],"s":"t","nil":null}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		pointer string
		want    any
		ok      bool
	}{
		{"a.b", "dotted", true},
		{"/a.b", "dotted", true},
		{"/a/b", "nested", true},
		{"a/b", nil, false},
		{"/a/~1", "slash", true},
		{"/a/~01", "tilde", true},
		{"/a/", "empty", true},
		{"/", "nameless", true},
		{"/l/0", "x", true},
		{"/l/1/y", "z", true},
		{"/l/2", nil, false},
		{"/l/00", nil, false},
		{"/l/-", nil, false},
		{"/l/+0", nil, false},
		{"/l/", nil, false},
		{"/l/9999999", nil, false},
		{"/s/x", nil, false},
		{"/missing", nil, false},
		{"missing", nil, false},
		{"A.B", nil, false},
		{"nil", nil, true},
		{"/nil/x", nil, false},
		{"https://x.test/roles", []any{"r"}, true},
		{"/https:~1~1x.test~1roles/0", "r", true},
	} {
		got, ok := c.Lookup(tt.pointer)
		if ok != tt.ok || !cmp.Equal(got, tt.want) {
			t.Errorf("Lookup(%q) = %v, %v, want %v, %v", tt.pointer, got, ok, tt.want, tt.ok)
		}
	}
	if _, ok := authz.Claims(nil).Lookup("/a"); ok {
		t.Error("no claims hold /a")
	}
}

// FuzzParseClaims compares with encoding/json, which takes more and never
// something else.
func FuzzParseClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"a","SUB":"b","n":-0.5e+10,"l":[true,null,{"x":"\u00e9\ud83d\ude00"}]}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`{"a":"\ud800"}`))
	f.Add([]byte("{\"a\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := authz.ParseClaims(data)
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		var want map[string]any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q is taken, encoding/json says %v", data, err)
		}
		if !cmp.Equal(map[string]any(got), want) {
			t.Errorf("ParseClaims(%q) = %v, want %v", data, got, want)
		}
		for name := range got {
			if !utf8.ValidString(name) {
				t.Errorf("name %q is not UTF-8", name)
			}
			if _, ok := got.Lookup("/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")); !ok {
				t.Errorf("member %q is not found by its pointer", name)
			}
		}
	})
}

func BenchmarkParseClaims(b *testing.B) {
	data := []byte(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:monitoring:karma","aud":["alertmanager"],"exp":1790000000,"iat":1789996400,"kubernetes.io":{"namespace":"monitoring","serviceaccount":{"name":"karma","uid":"0d8f"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := authz.ParseClaims(data); err != nil {
			b.Fatal(err)
		}
	}
}
