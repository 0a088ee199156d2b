package forwardauth

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// maxHops bounds how far back through proxies a client is looked for.
const maxHops = 16

// trusted reports whether who connects from address may ask.
func (h *Handler) trusted(address string) bool {
	at, ok := parse(address)
	return ok && h.contains(at)
}

func (h *Handler) contains(at netip.Addr) bool {
	for _, p := range h.cfg.Trusted {
		if p.Contains(at) {
			return true
		}
	}
	return false
}

// peer says who asks, and for whom: the right-most address in X-Forwarded-For that is no
// trusted proxy, for logs. What stands left of it is the client's own text.
func (h *Handler) peer(address string, header http.Header) authz.Peer {
	at, ok := parse(address)
	if !ok {
		return authz.Peer{Address: address, Client: address}
	}
	p := authz.Peer{Address: at.String(), Client: at.String()}
	if !h.contains(at) {
		return p
	}
	rest := strings.Join(header["X-Forwarded-For"], ",")
	for range maxHops {
		comma := strings.LastIndexByte(rest, ',')
		hop, ok := parse(strings.Trim(rest[comma+1:], " \t"))
		if !ok {
			return p
		}
		if p.Client = hop.String(); !h.contains(hop) || comma < 0 {
			return p
		}
		rest = rest[:comma]
	}
	return p
}

// parse takes an address with or without a port.
func parse(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}
