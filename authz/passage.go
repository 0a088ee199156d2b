package authz

import "strings"

// Passage is the one place that is let through unjudged: at Authority, Prefix and
// everything below it. A proxy chooses the upstream by the text of the authority, so
// that another spelling of the same host, with a port or a final dot, may lead to an
// application: only the text that browsers write is let through. Our own endpoints are served there, over HTTP (see Handler),
// so the request goes on with our cookies in it; what an application would believe
// is removed all the same. The zero value is no place.
type Passage struct {
	Authority string // lower case; with the port unless it is the scheme's own
	Prefix    string // "/oauth2"
}

// leads reports whether r goes through p. A path that one upstream could read as a
// path below the prefix and another as one beside it is an *AmbiguousError.
func (p Passage) leads(r *Request) (bool, error) {
	if p.Authority == "" || r.authority != p.Authority {
		return false, nil
	}
	inside := below(r.Path, p.Prefix)
	if ordinary(r.Path) {
		return inside, nil
	}
	same := true
	complete := eachReading(r.Path, func(path string) bool {
		same = below(path, p.Prefix) == inside
		return same
	})
	switch {
	case !same:
		return false, &AmbiguousError{First: ownPages}
	case !complete:
		return false, &AmbiguousError{TooMany: true}
	}
	return inside, nil
}

// ownPages is what an AmbiguousError calls a Passage, beside the names of rules.
const ownPages = "(our own pages)"

func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// pass lets r through to our own HTTP listener. Unlike an application, that one gets
// our cookies.
func pass(r *Request) Decision {
	m := mutations{}
	m.remove = append(m.remove, headerUser, headerEmail, headerPreferredUsername, headerGroups, headerAccessToken)
	m.remove = append(m.remove, legacyNames...)
	m.removeLookalikes(r.Header, nil)
	return Decision{Outcome: Allow, Reason: ReasonPassage, Remove: m.remove}
}
