package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// refusedLine finds the access-log line of a path and fails when it gives no reason.
func (s *stack) refusedLine(t testing.TB, path string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		for _, g := range s.replicas {
			for line := range strings.Lines(g.output()) {
				if strings.Contains(line, fmt.Sprintf(`"path":%q`, path)) {
					if !strings.Contains(line, `"reason":"`) || strings.Contains(line, `"reason":""`) || strings.Contains(line, `"decision":"allow"`) {
						return fmt.Errorf("no reason in %s", line)
					}
					return nil
				}
			}
		}
		return fmt.Errorf("no line about %s", path)
	})
}

// C9, C7, C16: cookies that are forged, cut, bent, of another host, of another key, or
// of a session that is over open nothing, cost nothing, and say why in the log.
func TestForgedCookies(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3})
	stranger := newStack(t, fixture{redis: true})
	name, good, _ := strings.Cut(s.session(t, appHost, "alice"), "=")
	_, elsewhere, _ := strings.Cut(s.session(t, otherHost, "alice"), "=")
	_, otherKey, _ := strings.Cut(stranger.session(t, appHost, "alice"), "=")
	forged := map[string]string{
		"junk": "x", "random": strings.Repeat(random(), 8)[:len(good)], "another host": elsewhere, "another key": otherKey,
		"cut in half": good[:len(good)/2], "cut by one": good[:len(good)-1], "cut in front": good[1:], "longer": good + "A", "twice": good + good,
		"upper case": strings.ToUpper(good), "quoted": `"` + good, "star": "*", "braces": "{x}", "long": strings.Repeat("A", 60_000),
	}
	for i := range len(good) { // C9: each character changed
		b := []byte(good)
		if b[i]++; b[i] > 'z' {
			b[i] = 'A'
		}
		forged[fmt.Sprintf("bent-%d", i)] = string(b)
	}
	last := len(good) - 1 // the last character may carry bits that mean nothing
	delete(forged, fmt.Sprintf("bent-%d", last))
	before := s.redis.commands(t)
	for what, value := range forged {
		path := "/refused/" + strings.ReplaceAll(what, " ", "-")
		for i, g := range s.replicas {
			if v := g.checks.get(t.Context(), appHost, path, "cookie: "+name+"="+value); v.Status != http.StatusUnauthorized || v.user() != "" {
				t.Errorf("%s, replica %d: %v, want 401", what, i, v)
			}
		}
		if !strings.HasPrefix(what, "bent") {
			s.refusedLine(t, path)
		}
	}
	if after := s.redis.commands(t); after != before {
		t.Errorf("forged cookies caused %d commands at the store", after-before)
	}
	for i, g := range s.replicas {
		if v := g.checks.get(t.Context(), appHost, "/alive", "cookie: "+name+"="+good); v.user() != "alice" {
			t.Errorf("replica %d, the good cookie: %v", i, v)
		}
	}
	if v := s.signOut(t, s.gatehouse.checks, appHost, name+"="+good); !wentOut(v) {
		t.Fatalf("sign-out: %v", v)
	}
	s.everywhere(t, name+"="+good, signedOut) // replayed
	for range 50 {
		s.isOut(t, "replayed", name+"="+good)
	}
	if after := s.redis.commands(t); after-before > 40 {
		t.Errorf("a dead cookie shown 150 times caused %d commands: it hammers the store", after-before)
	}
	s.refusedLine(t, "/logout")
}

// D12: a value in Redis that is altered, swapped with another user's, cut, or of another
// type lets nobody in as anybody, is no 500, and touches nobody else.
func TestForgedValues(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{redis: true, replicas: 3, offline: true})
	root := "cookie: " + s.session(t, appHost, "root")
	malloryKey := s.redis.fresh(t, func() { s.session(t, appHost, "mallory") })
	field := func(key, name string) string { t.Helper(); return s.redis.do(t, "HGET", key, name)[0] }
	set := func(key, name, value string) { t.Helper(); s.redis.do(t, "HSET", key, name, value) }
	bend := func(text string) string {
		b := []byte(text)
		b[len(b)/2] ^= 1
		return string(b)
	}
	cookies := map[string]string{}
	for what, spoil := range map[string]func(key string){
		"altered":      func(key string) { set(key, "i", bend(field(key, "i"))) },
		"swapped":      func(key string) { set(key, "i", field(malloryKey, "i")) },
		"cut":          func(key string) { set(key, "i", field(key, "i")[:20]) },
		"empty":        func(key string) { set(key, "i", "") },
		"gone":         func(key string) { s.redis.do(t, "HDEL", key, "i") },
		"version":      func(key string) { set(key, "v", "junk") },
		"newer format": func(key string) { set(key, "v", "99.1") },
		"no version":   func(key string) { s.redis.do(t, "HDEL", key, "v") },
		"fields mixed": func(key string) { set(key, "i", field(key, "t")) },
		"another type": func(key string) { s.redis.do(t, "DEL", key); s.redis.do(t, "SET", key, "x") },
		"a list":       func(key string) { s.redis.do(t, "DEL", key); s.redis.do(t, "RPUSH", key, "x") },
	} {
		var cookie string
		key := s.redis.fresh(t, func() { cookie = s.session(t, appHost, "alice") })
		spoil(key)
		cookies[what] = cookie
	}
	time.Sleep(5500 * time.Millisecond) // no replica trusts what it has seen before
	for what, cookie := range cookies {
		path := "/refused/" + strings.ReplaceAll(what, " ", "-")
		for i, g := range s.replicas {
			v := g.checks.get(t.Context(), appHost, path, "cookie: "+cookie)
			if o := v.outcome(); o != refused && o != signedOut || v.user() != "" {
				t.Errorf("%s, replica %d: %v, want 401 or 503", what, i, v)
			}
			if what == "newer format" && v.outcome() != refused {
				t.Errorf("%s, replica %d: %v, want 503: it cannot be told", what, i, v)
			}
			if i == 0 {
				t.Logf("%s: %s", what, v.outcome())
			}
			if v := g.checks.get(t.Context(), appHost, "/root", root); v.user() != "root" {
				t.Errorf("%s, replica %d: root is %v", what, i, v)
			}
		}
		s.refusedLine(t, path)
		s.leaves(t, what, cookie)
	}
}

// leaves shows that signing out of a spoilt session is no 500 either.
func (s *stack) leaves(t *testing.T, what, cookie string) {
	t.Helper()
	v := s.signOut(t, s.gatehouse.checks, appHost, cookie)
	if v.outcome() == failed {
		t.Errorf("%s: sign-out: %v", what, v)
	}
}
