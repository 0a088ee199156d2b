package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

const defaultCacheSize = 10_000

// VerifierConfig is what a Verifier works with.
type VerifierConfig struct {
	Provider      string // name in the configuration
	Issuer        string
	Audiences     []string // one of them must be in aud; empty is refused
	Algorithms    []string // default RS256 and ES256; fixed per issuer
	Keys          KeySource
	Claims        ClaimNames
	TrustEmail    bool
	Skew          time.Duration    // default 60 s
	MaxLifetime   time.Duration    // exp may be at most this long after iat; zero: not limited
	CacheSize     int              // identities; default 10,000
	LoginClientID string           // the login client's own id: refused as audience unless listed in Audiences
	Now           func() time.Time // default time.Now
}

// Verifier recognises bearer JWTs of one issuer (RFC 6750, RFC 9068, RFC 8725).
// It implements authz.Authenticator and is safe for concurrent use.
type Verifier struct {
	cfg   VerifierConfig
	cache *identityCache
}

var _ authz.Authenticator = (*Verifier)(nil)

// NewVerifier does no I/O. The error joins every mistake.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{"RS256", "ES256"}
	}
	errs := []error{checkAlgorithms(cfg.Algorithms)}
	if cfg.Issuer == "" {
		errs = append(errs, errors.New("the issuer is empty"))
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") {
		errs = append(errs, errors.New("no audience is given, or an empty one: a token for any other service would be accepted"))
	}
	if cfg.Keys == nil {
		errs = append(errs, errors.New("there is no source of keys"))
	}
	if cfg.Skew < 0 || cfg.MaxLifetime < 0 || cfg.CacheSize < 0 {
		errs = append(errs, errors.New("skew, maximum lifetime or cache size is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("bearer tokens of %q: %w", cfg.Provider, err)
	}
	if cfg.Skew == 0 {
		cfg.Skew = defaultSkew
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = defaultCacheSize
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Claims = cfg.Claims.withDefaults()
	return &Verifier{cfg: cfg, cache: newIdentityCache(cfg.CacheSize)}, nil
}

// Authenticate implements authz.Authenticator. A token that says it is of another issuer
// is refused without I/O.
func (v *Verifier) Authenticate(ctx context.Context, r *authz.Request) (*authz.Identity, error) {
	raw, err := bearerToken(r.Header)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxToken {
		return nil, refused(errors.New("the token is larger than 16 KiB"))
	}
	hash := tokenHash(sha256.Sum256([]byte(raw)))
	if id := v.remembered(hash); id != nil {
		return id, nil
	}
	t, err := parseToken(raw)
	if err != nil {
		return nil, refused(err)
	}
	if iss, _ := t.claims["iss"].(string); v.cfg.Issuer != iss {
		return nil, refused(errors.New("iss is not a configured issuer"))
	}
	id, err := v.verify(ctx, t, hash)
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return nil, refused(err)
	}
	return id, err
}

// Challenge implements authz.Authenticator (RFC 6750 section 3).
func (v *Verifier) Challenge(r *authz.Request, err error) authz.Challenge {
	// Section 3.1: no error code where no credentials were given.
	text := `Bearer realm="` + quotable(r.Host) + `"`
	if errors.Is(err, authz.ErrBadCredentials) {
		text += `, error="invalid_token"`
	}
	return authz.Challenge{WWWAuthenticate: text}
}

// quotable leaves what needs no escaping in a quoted-string. A canonical host
// holds nothing else.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

func refused(err error) error { return fmt.Errorf("%w: %w", authz.ErrBadCredentials, err) }

// bearerToken reads the Authorization header (RFC 6750 section 2.1): one value,
// the scheme in any case, one space, a token68 (RFC 9110 section 11.2).
// Tokens in the query or the body are never looked at.
func bearerToken(h authz.Header) (string, error) {
	value, n := h.Get("authorization")
	if n == 0 {
		return "", authz.ErrNoCredentials
	}
	if n > 1 {
		return "", refused(errors.New("there are several Authorization headers"))
	}
	const scheme = "bearer"
	trimmed := strings.Trim(value, " \t")
	if len(trimmed) < len(scheme) || lower(trimmed[:len(scheme)]) != scheme {
		return "", authz.ErrNoCredentials
	}
	rest := trimmed[len(scheme):]
	if rest != "" && (alphanumeric(rest[0]) || strings.IndexByte("!#$%&'*+-.^_`|~", rest[0]) >= 0) {
		return "", authz.ErrNoCredentials // a scheme that only begins like ours
	}
	token, ok := strings.CutPrefix(rest, " ")
	if !ok || len(trimmed) != len(value) || !token68(token) {
		return "", refused(errors.New(`the Authorization header is not "Bearer", one space and a token`))
	}
	return token, nil
}

func token68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !alphanumeric(s[i]) && strings.IndexByte("-._~+/", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// remembered returns the identity of a token verified before, while it is not
// expired and its key is still the issuer's.
func (v *Verifier) remembered(hash tokenHash) *authz.Identity {
	e, ok := v.cache.get(hash)
	if !ok {
		return nil
	}
	set := v.cfg.Keys.Current()
	if set == nil {
		return nil // the keys are too old to vouch for anything; not the token's fault
	}
	if !v.cfg.Now().Before(e.until) || !set.has(e.key) {
		v.cache.drop(hash)
		return nil
	}
	return e.identity
}

// verify makes every check of one token. Errors that do not wrap ErrUnavailable
// are refusals.
func (v *Verifier) verify(ctx context.Context, t *signedToken, hash tokenHash) (*authz.Identity, error) {
	// RFC 8725 section 3.11, RFC 9068 section 4: whatever says that it is
	// something else (a logout token, a DPoP proof) is.
	if !t.typed("jwt", "at+jwt") {
		return nil, fmt.Errorf("typ %.40q is not an access token's", t.typ)
	}
	if tellsLogout(t.claims) {
		return nil, errors.New("a logout token is no access token")
	}
	exp, iat, err := lifetime(t.claims, v.cfg.Now(), v.cfg.Skew)
	if err != nil {
		return nil, err
	}
	if v.cfg.MaxLifetime > 0 && (iat.IsZero() || exp.Sub(iat) > v.cfg.MaxLifetime) {
		return nil, errors.New("the token lives longer than allowed, or does not say since when")
	}
	key, err := t.verify(ctx, v.cfg.Keys, v.cfg.Algorithms)
	if err != nil {
		return nil, err
	}
	id, err := v.identity(t.claims)
	if err != nil {
		return nil, err
	}
	id.Expires = exp
	v.cache.put(hash, recognised{identity: id, until: exp.Add(v.cfg.Skew), key: key, cost: 1 + len(t.signed)/2048})
	return id, nil
}

// identity reads verified claims.
func (v *Verifier) identity(c authz.Claims) (*authz.Identity, error) {
	if iss, _ := c["iss"].(string); iss != v.cfg.Issuer {
		return nil, errors.New("iss is not the issuer's")
	}
	sub, err := subject(c, maxSubject)
	if err != nil {
		return nil, err
	}
	aud, err := audience(c)
	if err != nil {
		return nil, err
	}
	named := func(a string) bool { return slices.Contains(v.cfg.Audiences, a) }
	if !slices.ContainsFunc(aud, named) {
		return nil, errors.New("aud names none of the configured audiences")
	}
	// An ID token of our own login is no access token, whatever else it is for.
	if own := v.cfg.LoginClientID; own != "" && !named(own) && slices.Contains(aud, own) {
		return nil, errors.New("aud names the login client")
	}
	// RFC 7800, RFC 8705, RFC 9449: bound to a key that a plain bearer does not prove.
	if _, ok := c["cnf"]; ok {
		return nil, errors.New("the token is bound to a key (cnf), which a bearer does not prove")
	}
	id, err := v.cfg.Claims.identity(c, v.cfg.TrustEmail)
	if err != nil {
		return nil, err
	}
	id.Provider, id.Issuer, id.Subject, id.Audience = v.cfg.Provider, v.cfg.Issuer, sub, aud
	return id, nil
}
