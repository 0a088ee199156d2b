package login

import (
	"crypto/rand"
	"crypto/sha256"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// errand is one login that the login host makes for an application host, as the
// browser's cookie on the application host holds it. It says where the browser goes
// in the end: no URL can.
type errand struct {
	id      string // in the cookie's name, in ask and in the hand-over
	created time.Time
	gate    string // key of the provider
	nonce   string // secret; ask and the hand-over know its hash
	trail   trail
	address string
}

func newErrand(g *gate, st state, now time.Time) errand {
	return errand{id: rand.Text(), created: now, gate: g.key, nonce: rand.Text(), trail: st.trail, address: st.address}
}

func (e errand) cookie() string { return pendingPrefix + e.id }

// hash binds an ask and a hand-over to the browser that holds the errand.
func (e errand) hash() string {
	sum := sha256.Sum256([]byte(e.nonce))
	return string(sum[:])
}

func (l *Login) sealErrand(host string, e errand) string {
	return l.errands.Seal(pack(packTime(e.created), e.gate, e.nonce, e.trail.String(), e.address), string(pack(host, e.id)))
}

func (l *Login) openErrand(host, id, text string) (errand, bool) {
	if len(text) > maxCookie {
		return errand{}, false
	}
	plain, err := l.errands.Open(text, string(pack(host, id)))
	if err != nil {
		return errand{}, false
	}
	f, ok := unpack(plain, 5)
	if !ok {
		return errand{}, false
	}
	t, ok := parseTrail(f[3])
	return errand{id: id, created: unpackTime(f[0]), gate: f[1], nonce: f[2], trail: t, address: f[4]}, ok
}

// errandOf finds an errand among the request's cookies.
func (l *Login) errandOf(r *authz.Request, id string) (errand, bool) {
	if !validAttemptID(id) {
		return errand{}, false
	}
	for _, text := range r.Header.Cookies(pendingPrefix+id, 4) {
		if e, ok := l.openErrand(r.Host, id, text); ok {
			return e, true
		}
	}
	return errand{}, false
}
