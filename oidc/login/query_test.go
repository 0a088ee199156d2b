package login

import (
	"strings"
	"testing"
)

func TestParseQuery(t *testing.T) {
	t.Parallel()
	q, err := parseQuery("code=a%2Bb+c&&state=&flag&%73=1")
	if err != nil || q["code"] != "a+b c" || q["state"] != "" || q["s"] != "1" || len(q) != 4 {
		t.Errorf("parseQuery = %q, %v", q, err)
	}
	for _, raw := range []string{"a=1&a=2", "a=1&%61=2", "code=%", "code=%2", "%zz=1", "a=%zz", strings.Repeat("a", maxQuery+1), manyParams()} {
		if q, err := parseQuery(raw); err == nil {
			t.Errorf("parseQuery(%.40q) = %d parameters, want an error", raw, len(q))
		}
	}
}

func manyParams() string {
	var b strings.Builder
	for i := range maxParams + 1 {
		b.WriteString("&p" + strings.Repeat("x", i) + "=1")
	}
	return b.String()
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"a=b", "a=1&a=2", "rd=%2Fa%3Fb", "%", "a+b=c+d", "=&="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			return
		}
		var again []string
		for name, value := range q {
			again = append(again, escape(name)+"="+escape(value))
		}
		r, err := parseQuery(strings.Join(again, "&"))
		if len(strings.Join(again, "&")) > maxQuery {
			return
		}
		if err != nil || len(r) != len(q) {
			t.Fatalf("%q does not survive encoding: %q, %v", q, r, err)
		}
		for name, value := range q {
			if r[name] != value {
				t.Fatalf("%q: %q became %q", name, value, r[name])
			}
		}
	})
}
