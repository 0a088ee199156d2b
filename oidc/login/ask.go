package login

import "time"

// ask is what an application host asks of the login host. It travels sealed in the
// parameter req, bound to the login host, and inside state while a login is made for it.
type ask struct {
	host    string    // that asks
	errand  string    // names its pending cookie
	nonce   string    // hash of the secret in that cookie
	gate    string    // key of the provider
	expires time.Time // end of that cookie
	again   bool      // even somebody who is signed in shall sign in again
	trail   trail
}

func (a ask) pack() string {
	again := ""
	if a.again {
		again = "1"
	}
	return string(pack(a.host, a.errand, a.nonce, a.gate, packTime(a.expires), again, a.trail.String()))
}

func unpackAsk(b []byte) (ask, bool) {
	f, ok := unpack(b, 7)
	if !ok {
		return ask{}, false
	}
	t, ok := parseTrail(f[6])
	return ask{host: f[0], errand: f[1], nonce: f[2], gate: f[3], expires: unpackTime(f[4]), again: f[5] != "", trail: t}, ok
}

func (l *Login) sealAsk(a ask) string {
	return l.asks.Seal([]byte(a.pack()), l.loginSite.Name)
}

func (l *Login) openAsk(text string) (ask, bool) {
	if text == "" || len(text) > maxCookie {
		return ask{}, false
	}
	plain, err := l.asks.Open(text, l.loginSite.Name)
	if err != nil {
		return ask{}, false
	}
	return unpackAsk(plain)
}

// target returns the host that asks, and the provider at the login host; nil when
// the configuration does not, or no longer, have them. Only exact hosts are there: a
// dangling name below a wildcard could otherwise fetch a code.
func (l *Login) target(a *ask) (*site, *gate) {
	s := l.hosts[a.host]
	if s == nil || !s.handsOver || s.gateOf(a.gate) == nil {
		return nil, nil
	}
	return s, l.loginSite.gateOf(a.gate)
}
