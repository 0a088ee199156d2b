package login

import (
	"strconv"
	"strings"
	"time"
)

const (
	maxRestarts  = 3
	restartSpan  = 30 * time.Second
	maxTrailText = 32
)

// trail counts how often a login was started again without anybody asking. It
// travels with the browser through start, state and session cookie, so that a loop is
// seen whatever its cause: cookies that are not kept, or sessions that are not found.
// It is no secret and proves nothing: who forges one sees an error page.
type trail struct {
	first    time.Time // of the logins that are counted
	restarts int
}

// again is the trail of one more restart.
func (t trail) again(now time.Time) trail {
	if now.Sub(t.first) > restartSpan || now.Before(t.first) {
		return trail{now, 1}
	}
	return trail{t.first, t.restarts + 1}
}

// loops reports whether it is time to stop.
func (t trail) loops(now time.Time) bool {
	return t.restarts >= maxRestarts && now.Sub(t.first) <= restartSpan
}

func (t trail) String() string {
	return strconv.Itoa(t.restarts) + "." + strconv.FormatInt(t.first.Unix(), 10)
}

func parseTrail(s string) (trail, bool) {
	count, first, ok := strings.Cut(s, ".")
	if !ok || len(s) > maxTrailText {
		return trail{}, false
	}
	n, err := strconv.ParseUint(count, 10, 8)
	if err != nil {
		return trail{}, false
	}
	seconds, err := strconv.ParseInt(first, 10, 64)
	return trail{time.Unix(seconds, 0), int(n)}, err == nil
}
