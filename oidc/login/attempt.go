package login

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const (
	attemptLife   = 10 * time.Minute
	maxAttempts   = 5 // per browser
	pendingPrefix = authz.CookiePrefix + "p_"
)

// attempt is one pending login as the browser's cookie holds it. The attempt and the
// state that went to the provider must meet again before a code is redeemed.
type attempt struct {
	id       string // in the cookie's name and in state
	created  time.Time
	gate     string // key of the provider
	nonce    string
	verifier string // PKCE
	mark     string // names the attempt in the store; known to nobody else
}

// state is what goes to the provider and comes back in the URL.
type state struct {
	attempt string
	created time.Time
	gate    string // key of the provider
	trail   trail
	address string // where to go in the end
	ask     *ask   // instead: whom to hand over to; nil: the login is for this host itself
}

func newAttempt(g *gate, now time.Time) attempt {
	return attempt{
		id: rand.Text(), created: now, gate: g.key,
		nonce: rand.Text(), verifier: rand.Text() + rand.Text(), // 52 characters, RFC 7636 section 4.1 wants 43 to 128
		mark: rand.Text(),
	}
}

func (a attempt) cookie() string { return pendingPrefix + a.id }

func (l *Login) sealAttempt(host string, a attempt) string {
	return l.pending.Seal(pack(packTime(a.created), a.gate, a.nonce, a.verifier, a.mark), string(pack(host, a.id)))
}

func (l *Login) openAttempt(host, id, text string) (attempt, bool) {
	if len(text) > maxCookie {
		return attempt{}, false
	}
	plain, err := l.pending.Open(text, string(pack(host, id)))
	if err != nil {
		return attempt{}, false
	}
	f, ok := unpack(plain, 5)
	if !ok {
		return attempt{}, false
	}
	return attempt{id: id, created: unpackTime(f[0]), gate: f[1], nonce: f[2], verifier: f[3], mark: f[4]}, true
}

func (l *Login) sealState(host string, s state) string {
	asked := ""
	if s.ask != nil {
		asked = s.ask.pack()
	}
	return l.states.Seal(pack(s.attempt, packTime(s.created), s.gate, s.trail.String(), s.address, asked), host)
}

func (l *Login) openState(host, text string) (state, bool) {
	if text == "" || len(text) > maxCookie {
		return state{}, false
	}
	plain, err := l.states.Open(text, host)
	if err != nil {
		return state{}, false
	}
	f, ok := unpack(plain, 6)
	if !ok {
		return state{}, false
	}
	t, ok := parseTrail(f[3])
	s := state{attempt: f[0], created: unpackTime(f[1]), gate: f[2], trail: t, address: f[4]}
	if ok && f[5] != "" {
		var a ask
		a, ok = unpackAsk([]byte(f[5]))
		s.ask = &a
	}
	return s, ok
}

// attemptOf finds the attempt that a state belongs to among the request's cookies.
func (l *Login) attemptOf(r *authz.Request, s state) (attempt, bool) {
	for _, text := range r.Header.Cookies(pendingPrefix+s.attempt, 4) {
		if a, ok := l.openAttempt(r.Host, s.attempt, text); ok {
			return a, true
		}
	}
	return attempt{}, false
}

// room returns the Set-Cookie lines that make room for one more attempt or errand:
// they delete what is junk or too old, and the oldest above the limit.
func (l *Login) room(r *authz.Request, now time.Time) []authz.Field {
	type pending struct {
		name    string
		created time.Time
	}
	var clear []authz.Field
	var open []pending
	for _, name := range r.Header.CookieNames(pendingPrefix, 32) {
		id := strings.TrimPrefix(name, pendingPrefix)
		if !validAttemptID(id) {
			continue // not written by us, and its name may not be fit for a header
		}
		created, ok := l.pendingSince(r, id)
		if !ok || now.Sub(created) >= attemptLife {
			clear = append(clear, clearCookie(name))
			continue
		}
		open = append(open, pending{name, created})
	}
	slices.SortFunc(open, func(a, b pending) int { return b.created.Compare(a.created) })
	for len(open) >= maxAttempts {
		last := len(open) - 1
		clear = append(clear, clearCookie(open[last].name))
		open = open[:last]
	}
	return clear
}

// pendingSince returns when the attempt or errand of that name began.
func (l *Login) pendingSince(r *authz.Request, id string) (time.Time, bool) {
	if a, ok := l.attemptOf(r, state{attempt: id}); ok {
		return a.created, true
	}
	e, ok := l.errandOf(r, id)
	return e.created, ok
}

func validAttemptID(id string) bool {
	return len(id) == 26 && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
