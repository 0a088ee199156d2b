package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	errNoPrincipal  = errors.New("the proxy attests no SPIFFE id for the caller")
	errBadPrincipal = errors.New("the principal of the caller is not a SPIFFE id")
)

// Peers holds for a caller whose certificate, as the proxy verified it, carries
// one of the SPIFFE ids. The trust domain is exact; in the path "*" stands for
// any run of characters within one segment.
func Peers(spiffe ...string) (Condition, error) {
	if err := checkNames("SPIFFE ids", spiffe); err != nil {
		return Condition{}, err
	}
	patterns := make([]spiffeID, len(spiffe))
	for i, s := range spiffe {
		id, ok := parseSPIFFE(s, "*")
		if !ok {
			return Condition{}, fmt.Errorf("%q is not a SPIFFE id such as spiffe://cluster.local/ns/web/sa/*: the trust domain is exact, in lower case", s)
		}
		patterns[i] = id
	}
	failed := unmet("the caller is none of the peers %q", spiffe)
	return Condition{Text: text("peers", spiffe), Check: func(r *Request, _ *Identity) error {
		if r.Peer.Principal == "" {
			return errNoPrincipal
		}
		caller, ok := parseSPIFFE(r.Peer.Principal, "")
		switch {
		case !ok:
			return errBadPrincipal
		case slices.ContainsFunc(patterns, caller.fits):
			return nil
		}
		return failed
	}}, nil
}

type spiffeID struct {
	domain string
	path   []string
}

// parseSPIFFE is strict (SPIFFE-ID sections 2.1 to 2.3): whatever two programs
// could read differently is no SPIFFE id. also are bytes allowed in segments.
func parseSPIFFE(s, also string) (spiffeID, bool) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	domain, path, more := strings.Cut(rest, "/")
	if !ok || !more || domain == "" || len(domain) > 255 || !consistsOf(domain, "abcdefghijklmnopqrstuvwxyz0123456789.-_") {
		return spiffeID{}, false
	}
	id := spiffeID{domain: domain, path: strings.Split(path, "/")}
	for _, segment := range id.path {
		if segment == "" || segment == "." || segment == ".." || !consistsOf(segment, segmentBytes+also) {
			return spiffeID{}, false
		}
	}
	return id, true
}

const segmentBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

func consistsOf(s, bytes string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune(bytes, c) })
}

func (id spiffeID) fits(pattern spiffeID) bool {
	return id.domain == pattern.domain && slices.EqualFunc(pattern.path, id.path, matchGlob)
}
