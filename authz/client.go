package authz

import (
	"net/netip"
	"strings"
)

// ClientAddress finds the client's address for logs, never for a decision.
type ClientAddress func(h Header, peer string) string

// PeerAddress takes the other end of the proxy's connection.
func PeerAddress() ClientAddress {
	return func(_ Header, peer string) string { return peer }
}

// HeaderAddress takes the address in header name (lower case), for example
// x-envoy-external-address, and falls back to the peer.
func HeaderAddress(name string) ClientAddress {
	return func(h Header, peer string) string {
		if v, n := h.Get(name); n == 1 {
			if a, ok := address(v); ok {
				return a
			}
		}
		return peer
	}
}

// ForwardedFor takes the hops-th entry from the right of x-forwarded-for,
// counted from 1, and falls back to the peer.
func ForwardedFor(hops int) ClientAddress {
	return func(h Header, peer string) string {
		if a, ok := address(fromRight(h, hops)); ok {
			return a
		}
		return peer
	}
}

// fromRight walks backwards, so that a client's long list costs nothing.
func fromRight(h Header, hops int) string {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Name != "x-forwarded-for" {
			continue
		}
		for v := h[i].Value; ; hops-- {
			comma := strings.LastIndexByte(v, ',')
			if hops == 1 {
				return v[comma+1:]
			}
			if comma < 0 {
				hops--
				break
			}
			v = v[:comma]
		}
	}
	return ""
}

func address(s string) (string, bool) {
	s = trimOWS(s)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return a.Unmap().String(), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Addr().Zone() == "" {
		return ap.Addr().Unmap().String(), true
	}
	return "", false
}
