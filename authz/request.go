package authz

// Field is one header line. Name is lower case; Value is the text as received.
type Field struct{ Name, Value string }

// Header is an ordered list of header lines with lower-case names and without
// pseudo-headers. The zero value is an empty header.
type Header []Field

// Get returns the first value of name, which must be lower case, and how many
// lines carry that name.
func (h Header) Get(name string) (value string, n int) { panic("contract") }

// Caller says what kind of program sent a request, and so how it can be refused.
type Caller int

const (
	Fetch      Caller = iota // scripts, API clients, anything that can not follow a login; the zero value
	Navigation               // a browser loading a top-level document with GET
	GRPC                     // content-type application/grpc or application/grpc+…
	Upgrade                  // a WebSocket or other upgrade
	Preflight                // a CORS preflight
)

// Peer is what the proxy attests about the other end of the connection.
type Peer struct {
	Address   string // TCP peer as the proxy saw it, no port
	Principal string // SPIFFE id of its certificate, or empty
	Client    string // client address as the configuration says to find it; for logs, never for a decision
}

// Raw is a request as an edge received it, before it is trusted to mean anything.
type Raw struct {
	Method    string
	Authority string // :authority or Host
	Target    string // path with query, undecoded
	Header    Header
	Peer      Peer
	ID        string // x-request-id or the proxy's stream id; bounded and cleaned by NewRequest
}

// Request is a request in canonical form. It is immutable and safe for concurrent use.
type Request struct {
	Method   string
	Host     string // lower case, without port; policy and cookies bind to it
	Port     string // digits, or empty
	Path     string // raw text, begins with "/"; never decoded in place
	RawQuery string // without "?"
	Header   Header
	Caller   Caller
	Peer     Peer
	ID       string
}

// NewRequest brings raw into canonical form. An error means 400. The returned
// Request is never nil: with an error it holds only what is safe to log.
func NewRequest(raw Raw) (*Request, error) { panic("contract") }

// ClientAddress finds the client's address for logs, never for a decision.
type ClientAddress func(h Header, peer string) string

func PeerAddress() ClientAddress              { panic("contract") }
func HeaderAddress(name string) ClientAddress { panic("contract") } // e.g. x-envoy-external-address; falls back to peer
func ForwardedFor(hops int) ClientAddress     { panic("contract") } // the hops-th entry from the right of x-forwarded-for; falls back to peer
