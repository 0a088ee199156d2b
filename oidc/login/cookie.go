package login

import (
	"strconv"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/session"
)

// maxCookie bounds a cookie value before anything is done with it.
const maxCookie = 2048

// card is what a session cookie holds. It never changes after the login.
type card struct {
	id      session.ID
	expires time.Time // absolute end of the session
	trail   trail     // how the login came about, to break loops
}

func (l *Login) sealCard(g *gate, c card) string {
	return l.sessions.Seal(pack(string(c.id[:]), packTime(c.expires), c.trail.String()), g.bind)
}

func (l *Login) openCard(g *gate, text string) (card, bool) {
	if len(text) > maxCookie {
		return card{}, false
	}
	plain, err := l.sessions.Open(text, g.bind)
	if err != nil {
		return card{}, false
	}
	fields, ok := unpack(plain, 3)
	if !ok || len(fields[0]) != len(session.ID{}) {
		return card{}, false
	}
	t, ok := parseTrail(fields[2])
	return card{session.ID([]byte(fields[0])), unpackTime(fields[1]), t}, ok
}

// cards returns the different cards of a gate that a request carries. A cookie that
// does not open is somebody else's: it counts for nothing and causes no I/O.
func (l *Login) cards(r *authz.Request, g *gate) []card {
	var found []card
next:
	for _, text := range r.Header.Cookies(g.cookie, 8) {
		c, ok := l.openCard(g, text)
		if !ok {
			continue
		}
		for _, other := range found {
			if other.id == c.id {
				continue next
			}
		}
		found = append(found, c)
	}
	return found
}

// Carried is a session that a request's cookie names. Nothing is said about
// whether it lives.
type Carried struct {
	Provider *oidc.Provider
	ID       session.ID
	Clear    authz.Field // deletes the cookie
}

// Carried returns every session that the request's cookies name on its host, of
// every provider. It does no I/O.
func (l *Login) Carried(r *authz.Request) []Carried {
	s := l.hosts[r.Host]
	if s == nil {
		return nil
	}
	var all []Carried
	for _, g := range s.gates {
		for _, c := range l.cards(r, g) {
			all = append(all, Carried{g.provider, c.id, clearCookie(g.cookie)})
		}
	}
	return all
}

const cookieAttributes = "; Path=/; Secure; HttpOnly; SameSite=Lax"

// setCookie makes a Set-Cookie line. Without maxAge the cookie ends with the browser.
func setCookie(name, value string, maxAge time.Duration) authz.Field {
	line := name + "=" + value + cookieAttributes
	if maxAge > 0 {
		line += "; Max-Age=" + strconv.Itoa(int(maxAge/time.Second))
	}
	return authz.Field{Name: "set-cookie", Value: line}
}

// clearCookie deletes a cookie. A browser obeys only with the attributes repeated.
func clearCookie(name string) authz.Field {
	return authz.Field{Name: "set-cookie", Value: name + "=" + cookieAttributes + "; Max-Age=0"}
}
