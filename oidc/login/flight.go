package login

import (
	"errors"
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

const (
	maxRunning = 256   // exchanges at a time: more would only queue at the provider
	maxFlights = 10000 // remembered
	repeatSpan = 60 * time.Second
	retrySpan  = 3 * time.Second // how long an outage is told before a repeat tries again
)

var (
	errBusy = errors.New("too many logins at a time")
	errUsed = errors.New("login was finished before")
	// errElsewhere: another replica redeems the code.
	errElsewhere = errors.New("login is under way at another replica")
)

// flight is the one redemption of an attempt in this process.
type flight struct {
	mark string        // of the attempt
	done chan struct{} // closed when the fields below are set
	made made
	err  error
	end  time.Time
	try  bool // an outage: a later repeat may try again

	again bool // an earlier flight of this process has redeemed the code, or tried to
}

// made is the result of a login.
type made struct {
	id      session.ID
	expires time.Time
}

// flights makes sure that an attempt is redeemed once, and keeps the result for a
// browser that repeats its request.
type flights struct {
	mu      sync.Mutex         // guards all below
	flights map[string]*flight // by the attempt's mark
	order   []*flight          // all, and those that a retry has replaced; oldest first
	running int
}

func newFlights() *flights { return &flights{flights: make(map[string]*flight)} }

// join returns the flight of an attempt. The first caller (owner) sees to it that
// land is called.
func (f *flights) join(mark string, now time.Time) (fl *flight, owner bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again := false
	if fl := f.flights[mark]; fl != nil {
		switch age := now.Sub(fl.end); {
		case !fl.finished(), age <= retrySpan, !fl.try && age <= repeatSpan:
			return fl, false, nil
		case !fl.try:
			return nil, false, errUsed
		}
		again = fl.again || !errors.Is(fl.err, errElsewhere)
	}
	if f.running >= maxRunning {
		return nil, false, errBusy
	}
	f.sweep(now)
	fl = &flight{mark: mark, done: make(chan struct{}), again: again}
	f.flights[mark] = fl
	f.order = append(f.order, fl)
	f.running++
	return fl, true, nil
}

// land ends a flight; with try the result is that of an outage.
func (f *flights) land(mark string, m made, err error, try bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.flights[mark]
	fl.made, fl.err, fl.try, fl.end = m, err, try, now
	close(fl.done)
	f.running--
}

// sweep drops what an expired attempt can no longer ask for, and the oldest results
// when there are too many. One that has none yet gives way to younger ones: a provider
// that hangs must not make us remember all that come after. f.mu is held.
func (f *flights) sweep(now time.Time) {
	for len(f.order) > 0 {
		fl := f.order[0]
		finished, full := fl.finished(), len(f.order) >= maxFlights
		switch {
		case !full && (!finished || now.Sub(fl.end) < attemptLife):
			return
		case !finished: // one of at most maxRunning, so the next is found soon
			f.order = append(f.order[1:], fl)
			continue
		case f.flights[fl.mark] == fl:
			delete(f.flights, fl.mark)
		}
		f.order = f.order[1:]
	}
}

func (fl *flight) finished() bool {
	select {
	case <-fl.done:
		return true
	default:
		return false
	}
}
