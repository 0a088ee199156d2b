package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/oidc/oidctest"
)

// byGrant runs one script on logins at the token endpoint and another on refreshes;
// nil changes nothing.
func byGrant(login, refresh oidctest.Script) oidctest.Script {
	return func(a *oidctest.Answer) {
		script := login
		if a.Request.PostForm.Get("grant_type") == "refresh_token" {
			script = refresh
		}
		if script != nil {
			script(a)
		}
	}
}

// lives says how long the access token lives, in seconds.
func lives(seconds int) oidctest.Script { return oidctest.Member("expires_in", seconds) }

// counting runs script and counts.
func counting(n *atomic.Int64, script oidctest.Script) oidctest.Script {
	return func(a *oidctest.Answer) {
		n.Add(1)
		if script != nil {
			script(a)
		}
	}
}

// signOut is the sign-out of a person at host, asked of one replica.
func (s *stack) signOut(t testing.TB, c *checks, host, cookie string) verdict {
	return c.check(t.Context(), http.MethodPost, host+":"+portOf(s.origin(host)), "/oauth2/sign_out",
		"origin: "+s.origin(host), "sec-fetch-site: same-origin", "sec-fetch-mode: navigate", "sec-fetch-dest: document", "accept: text/html", "cookie: "+cookie)
}

func portOf(origin string) string { return origin[strings.LastIndexByte(origin, ':')+1:] }

// wentOut reports whether a sign-out was done: the browser is sent on and the cookie cleared.
func wentOut(v verdict) bool { return v.Status == http.StatusSeeOther && v.outcome() == signedOut }

// until is how long from now until a moment, at least nothing.
func until(moment time.Time) time.Duration { return max(0, time.Until(moment)) }
