package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

func (ck *checker) listen() {
	l := ck.config.Listen
	ck.address("listen.grpc.address", l.GRPC.Address)
	ck.tls("listen.grpc.tls", l.GRPC.TLS)
	seen := map[string]string{l.GRPC.Address: "listen.grpc.address"}
	for _, http := range []struct {
		key string
		*HTTP
	}{{"listen.http", l.HTTP}, {"listen.ops", l.Ops}} {
		if http.HTTP == nil {
			continue
		}
		ck.address(http.key+".address", http.Address)
		ck.tls(http.key+".tls", http.TLS)
		if http.TLS != nil && http.TLS.ClientIDs != nil {
			ck.wrong(http.key+".tls.client_ids", "browsers and scrapers have no SPIFFE id: the TLS of this listener takes no client_ids", "", "leave it out")
		}
		ck.ownAddress(http.key+".address", http.Address, seen)
	}
	if l.Admin != nil {
		ck.admin("listen.admin", l.Admin)
		ck.ownAddress("listen.admin.address", l.Admin.Address, seen)
	}
	for i := range l.ForwardAuth {
		key := index("listen.forward_auth", i)
		ck.forwardAuth(key, &l.ForwardAuth[i])
		ck.ownAddress(key+".address", l.ForwardAuth[i].Address, seen)
	}
}

// ownAddress refuses an address that another listener has; seen are those before.
func (ck *checker) ownAddress(key, address string, seen map[string]string) {
	if first := seen[address]; first != "" && !strings.HasSuffix(address, ":0") {
		ck.wrong(key, "the same address as "+first, quote(address), "give each listener its own port")
	}
	seen[address] = key
}

// admin insists on a proof of who is calling.
func (ck *checker) admin(key string, a *Admin) {
	ck.tls(key+".tls", a.TLS)
	if path, ok := a.Socket(); ok {
		ck.socket(key, path, a)
		return
	}
	ck.address(key+".address", a.Address)
	host, _, _ := net.SplitHostPort(a.Address)
	switch {
	case a.TokenFile == "" && (a.TLS == nil || a.TLS.ClientCAFile == ""):
		ck.wrong(key, "whoever reaches this address could sign anybody out", quote(a.Address),
			"add client_ca_file and client_ids to tls, or a token_file, or use unix:///run/gatehouse/admin.sock")
	case a.TokenFile != "" && a.TLS == nil && !loopback(host):
		ck.wrong(key+".token_file", "the token would cross the network unencrypted", "", "add tls, or listen on 127.0.0.1")
	}
}

// maxSocket is the longest path of a socket that every system takes (sun_path of BSD, less its NUL).
const maxSocket = 103

func (ck *checker) socket(key, path string, a *Admin) {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		ck.wrong(key+".address", "not the address of a socket", quote(a.Address), "write three slashes and a plain path: unix:///run/gatehouse/admin.sock")
	case len(path) > maxSocket:
		ck.wrong(key+".address", "the path is too long for a socket", quote(a.Address), fmt.Sprintf("make it at most %d bytes", maxSocket))
	}
	if a.TLS != nil {
		ck.wrong(key+".tls", "a socket of this machine takes no TLS: its file mode says who may", "", "leave it out")
	}
	if a.TokenFile != "" {
		ck.wrong(key+".token_file", "a socket of this machine takes no token: its file mode says who may", "", "leave it out")
	}
}

// Socket returns the path of a unix socket, if that is what Address names.
func (a *Admin) Socket() (path string, ok bool) { return strings.CutPrefix(a.Address, "unix://") }

func (ck *checker) address(key, address string) {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || strconv.FormatUint(n, 10) != port || strings.ContainsAny(host, " /@") {
		ck.wrong(key, "not an address", quote(address), `write host:port or ":port", for example ":9000"`)
	}
}

func (ck *checker) tls(key string, t *TLS) {
	if t == nil {
		return
	}
	if t.ClientIDs != nil && t.ClientCAFile == "" {
		ck.wrong(key+".client_ids", "client_ids without client_ca_file would trust any certificate", "", "name the authorities of client certificates in client_ca_file")
	}
	for i, id := range t.ClientIDs {
		if u, err := url.Parse(id); err != nil || u.Scheme != "spiffe" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			ck.wrong(index(key+".client_ids", i), "not a SPIFFE id", quote(id), "write for example spiffe://cluster.local/ns/istio-system/sa/gateway")
		}
	}
}
