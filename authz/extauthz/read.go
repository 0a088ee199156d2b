package extauthz

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

var (
	errNotHTTP     = errors.New("the check carries no HTTP request (a network filter sent it?)")
	errUndecodable = errors.New("the check is not a valid CheckRequest")
)

// typicalHeaders is room for what a browser sends.
const typicalHeaders = 32

// check is what a CheckRequest says that authz may look at. Any part may be missing.
// What the message says beyond it is left unread on purpose: scheme, context
// extensions and metadata decide nothing.
type check struct {
	err       error // why nothing can be decided
	http      bool  // there is an HTTP request
	method    string
	authority string
	path      string
	header    authz.Header
	rawPath   string // of the header map
	mapped    bool   // the header map has a path
	stream    string // Envoy's id of the request
	kind      int32  // of the peer's address
	address   string
	principal string
}

// raw is the request as authz takes it.
func (c *check) raw(ctx context.Context, client authz.ClientAddress) (authz.Raw, error) {
	raw := authz.Raw{Peer: authz.Peer{Address: c.peer(), Principal: spiffeID(c.principal)}}
	switch {
	case c.err != nil:
		return authz.Raw{}, c.err
	case !c.http:
		return raw, errNotHTTP
	}
	raw.Method, raw.Authority, raw.Target, raw.Header = c.method, c.authority, c.target(), c.header
	raw.ID = c.requestID(ctx)
	raw.Peer.Client = client(raw.Header, raw.Peer.Address)
	return raw, nil
}

// target is the path that Envoy routes. In http.path Envoy writes "!" for a byte
// that is not UTF-8, while the application receives the byte; the raw form shows
// it, and is then what has to be refused.
func (c *check) target() string {
	if !utf8.ValidString(c.rawPath) {
		return c.rawPath
	}
	return c.path
}

// requestID prefers x-request-id, as in the access logs of everybody else, over
// Envoy's stream id.
func (c *check) requestID(ctx context.Context) string {
	if id, n := c.header.Get("x-request-id"); n > 0 {
		return id
	}
	if ids := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(ids) > 0 {
		return ids[0]
	}
	return c.stream
}

// read walks a CheckRequest once and copies it once: the strings of the result are
// pieces of that copy, so nothing of gRPC's buffers is kept, and nothing is built that
// nobody looks at. The generated decoder takes ten times as long; tests hold the two
// against each other.
func read(message []byte) (c check) {
	err := part{message, string(message)}.fields(func(f field) error {
		if f.number != 1 { // CheckRequest.attributes
			return nil
		}
		return f.message(c.readAttributes)
	})
	if err != nil {
		return check{err: errUndecodable}
	}
	return c
}

// readAttributes reads an AttributeContext.
func (c *check) readAttributes(f field) error {
	switch f.number {
	case 1: // source
		return f.message(c.readPeer)
	case 4: // request
		return f.message(func(f field) error {
			if f.number != 2 || f.typ != protowire.BytesType { // http
				return nil
			}
			c.http = true
			return f.message(c.readHTTP)
		})
	}
	return nil
}

// readPeer reads an AttributeContext.Peer.
func (c *check) readPeer(f field) error {
	switch f.number {
	case 1: // address
		return f.message(c.readAddress)
	case 4:
		return f.string(&c.principal)
	}
	return nil
}

// readAddress keeps which member of the oneof an Address has, and its name. The last
// member counts, and is merged with itself.
func (c *check) readAddress(f field) error {
	name, known := addressNames[f.number]
	if !known || f.typ != protowire.BytesType {
		return nil
	}
	if c.kind != f.number {
		c.kind, c.address = f.number, ""
	}
	return f.message(func(f field) error {
		if f.number != name {
			return nil
		}
		return f.string(&c.address)
	})
}

// addressNames are the members of Address with the field that names them.
var addressNames = map[int32]int32{socketAddress: 2, pipe: 1, internalAddress: 1}

const (
	socketAddress   = 1
	pipe            = 2
	internalAddress = 3 // of waypoints
)

// peer is the text of any kind of address, without a port.
func (c *check) peer() string {
	switch c.kind {
	case pipe:
		return "unix:" + c.address
	case internalAddress:
		return "envoy-internal:" + c.address
	}
	return c.address
}

// readHTTP reads an AttributeContext.HttpRequest. Envoy fills one of the two forms of
// headers; from anything that fills both, every line counts, and what must be single is
// refused as a duplicate.
func (c *check) readHTTP(f field) error {
	switch f.number {
	case 1:
		return f.string(&c.stream)
	case 2:
		return f.string(&c.method)
	case 3: // headers: a map entry
		return c.readHeader(f, false)
	case 4:
		return f.string(&c.path)
	case 5:
		return f.string(&c.authority)
	case 13: // header_map
		return f.message(func(f field) error {
			if f.number != 1 { // headers
				return nil
			}
			return c.readHeader(f, true)
		})
	}
	return nil
}

// readHeader reads an entry of the map, or a HeaderValue, whose raw_value counts. It
// drops pseudo headers: method, host and path have fields of their own, which Envoy
// fills also where an allow-list hides the headers.
func (c *check) readHeader(f field, mapped bool) error {
	var name, value, raw string
	err := f.message(func(f field) error {
		switch {
		case f.number == 1:
			return f.string(&name)
		case f.number == 2:
			return f.string(&value)
		case f.number == 3 && mapped:
			return f.octets(&raw)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if raw != "" {
		value = raw
	}
	if mapped && name == ":path" && !c.mapped {
		c.mapped, c.rawPath = true, raw
	}
	if name == "" || name[0] == ':' {
		return nil
	}
	if c.header == nil {
		c.header = make(authz.Header, 0, typicalHeaders)
	}
	c.header = append(c.header, authz.Field{Name: lowerASCII(name), Value: value})
	return nil
}

// spiffeID keeps a principal that is a SPIFFE ID. Envoy falls back to a DNS name
// or to the subject of the certificate, which attest something else.
func spiffeID(principal string) string {
	if strings.HasPrefix(principal, "spiffe://") {
		return principal
	}
	return ""
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
