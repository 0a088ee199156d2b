package logout

import (
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// maxState bounds state before it is opened. An address has at most 512 bytes.
const maxState = 2048

// state goes to the provider with a sign-out and comes back with the browser (OpenID
// Connect RP-Initiated Logout 1.0 section 2). It says where to sign in again.
type state struct {
	host     string // that was signed out of
	provider string // with which
	address  string // on host, as ReturnAddress lets it pass
}

// seal binds s to the host where it comes back.
func (l *Logout) seal(back string, s state) string {
	// A line break is in none of them: they are names and a printable address.
	return l.states.Seal([]byte(s.host+"\n"+s.provider+"\n"+s.address), back)
}

// came returns the state that r brings back. Without one of ours nothing is known.
func (l *Logout) came(r *authz.Request) (state, bool) {
	text, err := only(r.RawQuery, "state")
	if err != nil || len(text) > maxState {
		return state{}, false
	}
	plain, err := l.states.Open(text, r.Host)
	if err != nil {
		return state{}, false
	}
	part := strings.Split(string(plain), "\n")
	if len(part) != 3 {
		return state{}, false
	}
	return state{part[0], part[1], part[2]}, true
}

// back is where a sign-out at r's host leads to in the end: rd, if it stays on the host.
func (l *Logout) back(r *authz.Request) string {
	rd, err := only(r.RawQuery, "rd")
	if err != nil || l.atLoginHost(r.Host) {
		return l.home(r.Host)
	}
	return l.cfg.Login.ReturnAddress(rd)
}

// home is what there is to see on a host: on the login host no application.
func (l *Logout) home(host string) string {
	if l.atLoginHost(host) {
		return l.address("sessions")
	}
	return "/"
}

// link is the address of "Sign in again" for a browser at host. Another host than that
// is named in full, and only while it is one of ours: the configuration may have
// changed since s was sealed.
func (l *Logout) link(host string, s state) string {
	if s.host == host {
		return s.address
	}
	h, ok := l.cfg.Login.Host(s.host)
	if !ok {
		return l.home(host)
	}
	return h.Origin + s.address
}
