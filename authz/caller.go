package authz

import "strings"

// Caller says what kind of program sent a request, and so how it can be refused.
type Caller int

// The kinds of Caller.
const (
	Fetch      Caller = iota // scripts, API clients, anything that can not follow a login; the zero value
	Navigation               // a browser loading a top-level document with GET
	GRPC                     // content-type application/grpc or application/grpc+…
	Upgrade                  // a WebSocket or other upgrade
	Preflight                // a CORS preflight
)

func (c Caller) String() string {
	switch c {
	case Fetch:
		return "fetch"
	case Navigation:
		return "navigation"
	case GRPC:
		return "grpc"
	case Upgrade:
		return "upgrade"
	case Preflight:
		return "preflight"
	}
	return "unknown"
}

// callerOf reads everything it needs in one walk over the header.
func callerOf(method string, h Header) Caller {
	var s callerSigns
	for i := range h {
		s.add(&h[i])
	}
	switch {
	case s.grpc:
		return GRPC
	case s.upgrade:
		return Upgrade
	case method == "OPTIONS" && s.origin && s.requestMethod:
		return Preflight
	case method == "GET" && s.navigation():
		return Navigation
	}
	return Fetch
}

type callerSigns struct {
	grpc, upgrade, origin, requestMethod bool
	fetchMetadata, prefetch, script      bool
	mode, dest, accept                   string
}

func (s *callerSigns) add(f *Field) {
	switch f.Name {
	case "content-type":
		// Exactly what Envoy itself answers with trailers only.
		s.grpc = s.grpc || f.Value == "application/grpc" || strings.HasPrefix(f.Value, "application/grpc+")
	case "upgrade", "sec-websocket-version":
		s.upgrade = true
	case "origin":
		s.origin = true
	case "access-control-request-method":
		s.requestMethod = true
	case "sec-fetch-mode":
		s.fetchMetadata = true
		s.mode += f.Value // twice is neither
	case "sec-fetch-dest":
		s.fetchMetadata = true
		s.dest += f.Value
	case "sec-fetch-site", "sec-fetch-user":
		s.fetchMetadata = true
	case "sec-purpose", "purpose":
		s.prefetch = s.prefetch || strings.HasPrefix(f.Value, "prefetch")
	case "x-requested-with":
		s.script = true
	case "accept":
		s.accept += "," + f.Value
	}
}

// navigation goes by Fetch Metadata where a browser sends it. Without, by what
// the caller says it accepts: browsers name HTML, programs say "*/*".
func (s *callerSigns) navigation() bool {
	if s.prefetch || s.script {
		return false
	}
	if s.fetchMetadata {
		return s.mode == "navigate" && s.dest == "document"
	}
	for entry := range strings.SplitSeq(s.accept, ",") {
		media, _, _ := strings.Cut(entry, ";")
		media = trimOWS(media)
		if equalFold(media, "text/html") || equalFold(media, "application/xhtml+xml") {
			return true
		}
	}
	return false
}
