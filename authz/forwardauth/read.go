package forwardauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// SecretHeader is where a proxy shows that it knows the secret.
const SecretHeader = "X-Gatehouse-Secret" //nolint:gosec // a name, no credential

// question is the address below the prefix where proxies ask.
const question = "/auth"

var (
	errTwoHosts = errors.New("X-Original-Url and X-Forwarded-Host name different hosts")
	errNoURL    = errors.New("X-Original-Url is not http(s)://host/path")
)

// read finds the original request. With an error Raw holds no more than is safe to log:
// the address of who asks, and what can be believed so far.
func (h *Handler) read(prefix string, in *http.Request) (authz.Raw, error) {
	header := headerOf(in.Header)
	raw := authz.Raw{Peer: h.peer(in.RemoteAddr, in.Header)}
	raw.ID, _ = header.Get("x-request-id")
	if !h.trusted(in.RemoteAddr) {
		return raw, faultOf(UntrustedPeer, "%s is not in trusted_proxies: it may ask nothing; if it is a proxy of yours, add its address", raw.Peer.Address)
	}
	if err := h.admit(in.Header); err != nil {
		return raw, err
	}
	p := profiles[h.cfg.Profile]
	raw.Header = p.original(header)
	var err error
	if p.asIs {
		raw.Method, raw.Authority = in.Method, in.Host
		raw.Target, err = underPrefix(in.RequestURI, prefix+question)
		return raw, err
	}
	if path, _, _ := strings.Cut(in.RequestURI, "?"); path != prefix+question {
		return raw, faultOf(WrongPath, "asked at %q: questions are answered at %s and nowhere else", path, prefix+question)
	}
	if raw.Method, err = single(in.Header, p.method); err != nil {
		return raw, err
	}
	if raw.Authority, raw.Target, err = p.where(in.Header); err != nil {
		return raw, err
	}
	if path, _, _ := strings.Cut(raw.Target, "?"); path == prefix+question {
		return raw, faultOf(OwnEndpoint, "the path is said to be %q, that of the question: let the proxy send what the client asked for ($request_uri, not $uri)", path)
	}
	return raw, nil
}

// admit refuses a question without the secret, if there is one.
func (h *Handler) admit(header http.Header) error {
	if h.cfg.Secret == nil {
		return nil
	}
	want, err := h.cfg.Secret()
	if err != nil || want == "" {
		return errUnreadableSecret // the reason may name what is in the file
	}
	got := header[SecretHeader]
	if len(got) != 1 || !same(got[0], want) {
		return faultOf(WrongSecret, "the header %s is not there exactly once with the secret of this listener: let the proxy set it, in place of the client's", SecretHeader)
	}
	return nil
}

// same compares in constant time, whatever the lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// where finds host and target of the original request.
func (p *profile) where(h http.Header) (authority, target string, err error) {
	if p.url == "" {
		if authority, err = single(h, p.host); err != nil {
			return "", "", err
		}
		target, err = single(h, p.target)
		return authority, target, err
	}
	whole, err := single(h, p.url)
	if err != nil {
		return "", "", err
	}
	authority, target, ok := splitURL(whole)
	if !ok {
		return "", "", errNoURL
	}
	// nginx routes "GET http://a/ HTTP/1.1" with "Host: b" to a, while the URL is made of the
	// Host line (RFC 9112 section 3.2.2 has it ignored): the rules of b would open a. So the
	// proxy has to say, too, which host it means.
	if len(h[p.check]) == 0 {
		return "", "", faultOf(MissingOriginal, "%s is missing: let the proxy set it to the host that it routes by (annotation auth-proxy-set-headers, %s: $host)", p.check, p.check)
	}
	meant, err := single(h, p.check)
	if err == nil && hostOf(meant) != hostOf(authority) {
		err = errTwoHosts
	}
	return authority, target, err
}

// splitURL splits by hand: what a parser of URLs would decode or drop is for authz to judge.
func splitURL(s string) (authority, target string, ok bool) {
	scheme, rest, found := strings.Cut(s, "://")
	slash := strings.IndexByte(rest, '/')
	if !found || scheme != "http" && scheme != "https" || slash <= 0 {
		return "", "", false
	}
	return rest[:slash], rest[slash:], true
}

// single returns the value of a header that has to be there once, and say something.
func single(h http.Header, name string) (string, error) {
	switch values := h[name]; {
	case len(values) > 1:
		return "", faultOf(SeveralValues, "%s came %d times: let the proxy set it, in place of the client's", name, len(values))
	case len(values) == 0 || values[0] == "":
		return "", faultOf(MissingOriginal, "%s is missing: let the proxy say what the client asked for", name)
	default:
		return values[0], nil
	}
}

// underPrefix takes the path that a proxy puts before that of the original request away.
func underPrefix(target, prefix string) (string, error) {
	rest, ok := strings.CutPrefix(target, prefix)
	if !ok || !strings.HasPrefix(rest, "/") {
		path, _, _ := strings.Cut(target, "?")
		return "", faultOf(WrongPath, "asked at %q: set path_prefix to %s", path, prefix)
	}
	return rest, nil
}

// headerOf takes a header as authz does. The order of different names is lost, as it
// always is in net/http; that of the lines of one name is kept.
func headerOf(in http.Header) authz.Header {
	h := make(authz.Header, 0, len(in))
	for name, values := range in {
		name = strings.ToLower(name)
		for _, value := range values {
			h = append(h, authz.Field{Name: name, Value: value})
		}
	}
	return h
}

// original leaves out what the proxy says in headers of its own: the client did not send it.
func (p *profile) original(h authz.Header) authz.Header {
	own := func(name string) bool {
		name = textproto.CanonicalMIMEHeaderKey(name)
		return name == SecretHeader || name == p.method || name == p.host || name == p.target || name == p.url || name == p.check
	}
	kept := h[:0]
	for _, f := range h {
		if !own(f.Name) {
			kept = append(kept, f)
		}
	}
	return kept
}

// hostOf is a host without its port and in the form that authz compares.
func hostOf(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		authority = authority[:i]
	}
	return strings.ToLower(strings.TrimSuffix(authority, "."))
}

func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
