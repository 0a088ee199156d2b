package login

import (
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// handing is a Login with a login host, whose provider nobody asks.
func handing(t testing.TB) *Login {
	t.Helper()
	p, err := oidc.NewProvider(oidc.ProviderConfig{Name: "corp", Issuer: "https://idp.example.com", Client: &oidc.ClientConfig{ID: "mesh", AuthMethod: "none"}})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.NewRing([]seal.Key{seal.NewKey(time.Now())}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.New(session.Config{Store: session.NewMemory(0), Ring: ring, IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(Config{
		Prefix: "/oauth2", Hosts: []Host{{Name: "app.example.com", Origin: "https://app.example.com", Providers: []string{"corp"}}},
		LoginHost: &Host{Name: "auth.example.com", Origin: "https://auth.example.com", Providers: []string{"corp"}},
		Providers: []*oidc.Provider{p}, Sessions: sessions, Ring: ring,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var someAsk = ask{
	host: "app.example.com", errand: "AAAAAAAAAAAAAAAAAAAAAAAAAA", nonce: string(make([]byte, 32)), gate: string(make([]byte, 16)),
	expires: time.Unix(1_800_000_000, 0), again: true, trail: trail{time.Unix(1_800_000_000, 0), 2},
}

func TestWireOfHandOver(t *testing.T) {
	t.Parallel()
	l := handing(t)
	if got, ok := l.openAsk(l.sealAsk(someAsk)); !ok || got != someAsk {
		t.Errorf("openAsk(sealAsk) = %+v, %v", got, ok)
	}
	st := state{attempt: "a", created: time.Unix(1, 0), gate: "g", trail: someAsk.trail, ask: &someAsk}
	if got, ok := l.openState("auth.example.com", l.sealState("auth.example.com", st)); !ok || got.ask == nil || *got.ask != someAsk {
		t.Errorf("openState(sealState) = %+v, %v", got, ok)
	}
	e := errand{id: someAsk.errand, created: time.Unix(1, 0), gate: "g", nonce: "n", trail: someAsk.trail, address: "/x"}
	if got, ok := l.openErrand("app.example.com", e.id, l.sealErrand("app.example.com", e)); !ok || got != e {
		t.Errorf("openErrand(sealErrand) = %+v, %v", got, ok)
	}
	o := offer{made{session.ID{1}, time.Unix(1, 0)}, "app.example.com", "n"}
	if got, ok := unpackOffer(o.pack()); !ok || got != o {
		t.Errorf("unpackOffer(pack) = %+v, %v", got, ok)
	}
	for _, b := range [][]byte{nil, pack("", "", "", ""), o.pack()[1:], append(o.pack(), 0)} {
		if got, ok := unpackOffer(b); ok {
			t.Errorf("unpackOffer(%q) = %+v", b, got)
		}
	}
}

// Sessions are handed over to application hosts that sign in with the provider, and
// to nobody else.
func TestTarget(t *testing.T) {
	t.Parallel()
	l := handing(t)
	key := l.loginSite.gates[0].key
	for _, c := range []struct {
		host, gate string
		ok         bool
	}{
		{"app.example.com", key, true},
		{"app.example.com", "", false},
		{"app.example.com", someAsk.gate, false},
		{"auth.example.com", key, false},
		{"x.app.example.com", key, false},
		{"", key, false},
	} {
		if s, g := l.target(&ask{host: c.host, gate: c.gate}); (s != nil) != c.ok || (g != nil) != c.ok {
			t.Errorf("target of %q with gate %x = %v, %v", c.host, c.gate, s, g)
		}
	}
}

// What goes into an address or a cookie stays small, also for the longest address.
func TestSizesOfHandOver(t *testing.T) {
	t.Parallel()
	l := handing(t)
	g := l.loginSite.gates[0]
	long := make([]byte, maxAddress)
	for i := range long {
		long[i] = 'a'
	}
	e := newErrand(g, state{address: string(long), trail: someAsk.trail}, time.Now())
	if n := len(setCookie(e.cookie(), l.sealErrand("app.example.com", e), attemptLife).Value); n > 1024 {
		t.Errorf("the cookie of an errand has %d bytes", n)
	}
	a := ask{host: string(long[:253]), errand: e.id, nonce: e.hash(), gate: g.key, trail: someAsk.trail}
	if n := len(l.sealAsk(a)); n > 640 {
		t.Errorf("req has %d bytes", n)
	}
	if n := len(l.sealState("auth.example.com", state{attempt: e.id, gate: g.key, trail: someAsk.trail, ask: &a})); n > 768 {
		t.Errorf("state has %d bytes", n)
	}
}

// L10: a login ends the one session that the browser had before. Of two it cannot be
// told which was his, so neither is ended.
func TestL10LoginEndsOneSessionOrNone(t *testing.T) {
	t.Parallel()
	l := handing(t)
	l.Wait(0)
	var old []card
	for _, mark := range []string{"the first of two attempts", "the second of two attempts"} {
		id, _, err := l.cfg.Sessions.Create(t.Context(), mark, session.Session{
			Identity: &authz.Identity{Provider: "corp", Issuer: "https://idp.example.com", Subject: "alice", User: "alice"}, Tokens: &session.Tokens{},
		})
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, card{id: id})
	}
	for i, c := range []struct {
		old  []card
		live int
	}{{old, 2}, {nil, 2}, {old[:1], 1}} {
		l.endOld(t.Context(), &authz.Request{}, c.old, made{})
		live := 0
		for _, o := range old {
			if _, err := l.cfg.Sessions.Load(t.Context(), o.id, false); err == nil {
				live++
			}
		}
		if live != c.live {
			t.Errorf("case %d: %d sessions live, want %d", i, live, c.live)
		}
	}
}

// An attempt or errand that is too old goes with the next start, however few there are;
// a young one stays.
func TestRoomClearsWhatIsTooOld(t *testing.T) {
	t.Parallel()
	l, now := handing(t), time.Now()
	const host = "app.example.com"
	a, e := newAttempt(l.loginSite.gates[0], now), newErrand(l.loginSite.gates[0], state{trail: someAsk.trail}, now)
	r := &authz.Request{Host: host, Header: authz.Header{
		{Name: "cookie", Value: a.cookie() + "=" + l.sealAttempt(host, a)}, {Name: "cookie", Value: e.cookie() + "=" + l.sealErrand(host, e)},
	}}
	if clear := l.room(r, now.Add(attemptLife-1)); len(clear) != 0 {
		t.Errorf("before their time: %v", clear)
	}
	if clear := l.room(r, now.Add(attemptLife)); len(clear) != 2 || clear[0] != clearCookie(a.cookie()) || clear[1] != clearCookie(e.cookie()) {
		t.Errorf("at the end of their time: %v", clear)
	}
}

// What opens a request opens nothing else, and what was sealed for one host opens at
// no other.
func TestPurposesAreApart(t *testing.T) {
	t.Parallel()
	l := handing(t)
	e := errand{id: someAsk.errand, trail: someAsk.trail}
	a := attempt{id: e.id}
	texts := map[string]string{
		"ask": l.sealAsk(someAsk), "state": l.sealState("auth.example.com", state{trail: e.trail}),
		"errand": l.sealErrand("auth.example.com", e), "attempt": l.sealAttempt("auth.example.com", a),
	}
	for name, text := range texts {
		_, isAsk := l.openAsk(text)
		_, isState := l.openState("auth.example.com", text)
		_, isErrand := l.openErrand("auth.example.com", e.id, text)
		_, isAttempt := l.openAttempt("auth.example.com", e.id, text)
		if isAsk != (name == "ask") || isState != (name == "state") || isErrand != (name == "errand") || isAttempt != (name == "attempt") {
			t.Errorf("%s opens as ask %v, state %v, errand %v, attempt %v", name, isAsk, isState, isErrand, isAttempt)
		}
	}
	if _, ok := l.openErrand("app.example.com", e.id, texts["errand"]); ok {
		t.Error("an errand opens at another host")
	}
	if _, ok := l.openErrand("auth.example.com", "BBBBBBBBBBBBBBBBBBBBBBBBBB", texts["errand"]); ok {
		t.Error("an errand opens under another name")
	}
}

func FuzzUnpackAsk(f *testing.F) {
	f.Add([]byte(someAsk.pack()))
	f.Add(pack("", "", "", "", "", "", "0.0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := unpackAsk(b)
		if !ok {
			return
		}
		if again, ok := unpackAsk([]byte(a.pack())); !ok || again.pack() != a.pack() {
			t.Fatalf("unpackAsk(%q) = %+v, which packs into %+v, %v", b, a, again, ok)
		}
	})
}

// FuzzHandoff sends junk to the three doors of a hand-over. None may answer with a
// session, a 500 or a way out of our hosts.
func FuzzHandoff(f *testing.F) {
	l := handing(f)
	e := newErrand(l.hosts["app.example.com"].gates[0], state{address: "/x", trail: someAsk.trail}, time.Now())
	cookie := e.cookie() + "=" + l.sealErrand("app.example.com", e)
	f.Add("code=AAAAAAAAAAAAAAAAAAAAAAAAAA&a="+e.id, cookie)
	f.Add("code=&a="+e.id+"&again=1.2", cookie+"; "+cookie)
	f.Add("req="+l.sealAsk(someAsk)+"&rd=/x&provider=corp", "__Host-gh_p_AAAAAAAAAAAAAAAAAAAAAAAAAA=A")
	f.Add("req=A&code=%", "__Host-gh_corp=A")
	f.Fuzz(func(t *testing.T, query, cookie string) {
		for _, door := range []struct{ host, path string }{
			{"app.example.com", "/oauth2/handoff"}, {"app.example.com", "/oauth2/start"}, {"auth.example.com", "/oauth2/callback"},
		} {
			r, err := authz.NewRequest(authz.Raw{
				Method: "GET", Authority: door.host, Target: door.path + "?" + query,
				Header: authz.Header{{Name: "accept", Value: "text/html"}, {Name: "cookie", Value: cookie}},
			})
			if err != nil {
				return
			}
			out := l.Endpoint(door.host, door.path)(t.Context(), r)
			checkJunk(t, door.path, out)
		}
	})
}

func checkJunk(t *testing.T, path string, out authz.Response) {
	t.Helper()
	if out.Status >= 500 {
		t.Fatalf("%s = %d", path, out.Status)
	}
	for _, h := range out.Header {
		local := len(h.Value) > 1 && h.Value[0] == '/' && h.Value[1] != '/' || h.Value == "/"
		const login = "https://auth.example.com/oauth2/start?req="
		if h.Name == "location" && !local && (len(h.Value) < len(login) || h.Value[:len(login)] != login) {
			t.Fatalf("%s leads to %q", path, h.Value)
		}
		const cookie = "__Host-gh_corp="
		if h.Name == "set-cookie" && len(h.Value) > len(cookie) && h.Value[:len(cookie)] == cookie {
			t.Fatalf("%s gives a session: %q", path, h.Value)
		}
	}
}

// L21: a state and a cookie that agree on the attempt but not on the provider redeem
// nothing.
func TestL21StateAndCookieOfTwoProviders(t *testing.T) {
	t.Parallel()
	l := handing(t)
	const host = "auth.example.com"
	a := newAttempt(l.loginSite.gates[0], time.Now())
	for _, c := range []struct {
		gate   string
		status int
	}{{"another", 400}, {a.gate, 503}} { // 503: the right one goes on to the provider, which is not there
		st := l.sealState(host, state{attempt: a.id, created: a.created, gate: c.gate, trail: someAsk.trail, address: "/"})
		r, err := authz.NewRequest(authz.Raw{
			Method: "GET", Authority: host, Target: "/oauth2/callback?code=x&state=" + st,
			Header: authz.Header{{Name: "accept", Value: "text/html"}, {Name: "cookie", Value: a.cookie() + "=" + l.sealAttempt(host, a)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.callback(t.Context(), r).Status; got != c.status {
			t.Errorf("state with gate %q = %d, want %d", c.gate, got, c.status)
		}
	}
}
