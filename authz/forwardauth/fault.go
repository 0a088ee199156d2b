package forwardauth

import "fmt"

// Kind is a way in which a proxy can be set up wrongly. The list is fixed, so that it can
// label a metric.
type Kind string

// The kinds of Fault.
const (
	UntrustedPeer   Kind = "untrusted_peer"   // it is not among those that may ask
	WrongSecret     Kind = "wrong_secret"     // it does not know the secret
	WrongPath       Kind = "wrong_path"       // it asks at an address where nobody answers
	MissingOriginal Kind = "missing_original" // it does not say what it was asked for
	SeveralValues   Kind = "several_values"   // it says so more than once
	OwnName         Kind = "own_name"         // it gives our own name for the host
	OwnEndpoint     Kind = "own_endpoint"     // it gives the path of the question for that of the request
	UnroutedPages   Kind = "unrouted_pages"   // it asks about our own pages, and cannot pass them on
	UnprovenCaller  Kind = "unproven_caller"  // it would receive tokens had it proven who it is
)

// Fault is a mistake in how a proxy is set up, as one question shows it.
type Fault struct {
	Kind   Kind
	Detail string // what was seen and what to do, bounded; never a secret
}

func (f *Fault) Error() string { return f.Detail }

// maxQuoted bounds each text of the question that a Detail quotes.
const maxQuoted = 128

func faultOf(kind Kind, format string, args ...any) *Fault {
	for i, arg := range args {
		if s, ok := arg.(string); ok && len(s) > maxQuoted {
			args[i] = s[:maxQuoted]
		}
	}
	return &Fault{kind, fmt.Sprintf(format, args...)}
}
