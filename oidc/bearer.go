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
	Provider string // name in the configuration
	Issuer   string
	// AlsoIssuers are other names of the same issuer, accepted as iss and verified
	// with the same Keys. Identities carry Issuer all the same.
	AlsoIssuers []string
	Audiences   []string // one of them must be in aud; empty is refused
	Algorithms  []string // default RS256 and ES256; fixed per issuer
	Keys        KeySource
	Claims      ClaimNames
	TrustEmail  bool
	Skew        time.Duration // default 60 s
	MaxLifetime time.Duration // exp may be at most this long after iat; zero: not limited
	MaxAge      time.Duration // iat may be at most this long ago; zero: not limited
	// RFC9068 demands what that profile demands of access tokens: the type at+jwt
	// and all of its required claims.
	RFC9068   bool
	CacheSize int // identities; default 10,000
	// LoginClientIDs are the issuer's login clients: refused as audience unless
	// listed in Audiences.
	LoginClientIDs []string
	Now            func() time.Time // default time.Now
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
	if cfg.Issuer == "" || slices.Contains(cfg.AlsoIssuers, "") {
		errs = append(errs, errors.New("the issuer is empty"))
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") {
		errs = append(errs, errors.New("no audience is given, or an empty one: a token for any other service would be accepted"))
	}
	if cfg.Keys == nil {
		errs = append(errs, errors.New("there is no source of keys"))
	}
	if cfg.Skew < 0 || cfg.MaxLifetime < 0 || cfg.MaxAge < 0 || cfg.CacheSize < 0 {
		errs = append(errs, errors.New("skew, maximum lifetime, maximum age or cache size is negative"))
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
	if iss, _ := t.claims["iss"].(string); !v.issuedBy(iss) {
		return nil, refused(errForeign)
	}
	id, err := v.verify(ctx, t, hash)
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return nil, refused(err)
	}
	return id, err
}

// Challenge implements authz.Authenticator (RFC 6750 section 3).
func (v *Verifier) Challenge(r *authz.Request, err error) authz.Challenge { return challenge(r, err) }

// errForeign: another source of the rule may know the issuer.
var errForeign = fmt.Errorf("%w: iss is not a configured issuer", authz.ErrForeign)

func refused(err error) error {
	if errors.Is(err, authz.ErrBadCredentials) {
		return err
	}
	return fmt.Errorf("%w: %w", authz.ErrBadCredentials, err)
}

// issuedBy reports whether iss names the issuer of v (RFC 8725 section 3.8: to the letter).
func (v *Verifier) issuedBy(iss string) bool {
	return iss == v.cfg.Issuer || slices.Contains(v.cfg.AlsoIssuers, iss)
}

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
	if err := v.checkKind(t); err != nil {
		return nil, err
	}
	exp, until, err := v.checkDates(t.claims)
	if err != nil {
		return nil, err
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
	v.cache.put(hash, recognised{identity: id, until: until, key: key, cost: 1 + len(t.signed)/2048})
	return id, nil
}

// identity reads verified claims.
func (v *Verifier) identity(c authz.Claims) (*authz.Identity, error) {
	if iss, _ := c["iss"].(string); !v.issuedBy(iss) {
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
	// An ID token of one of our own logins is no access token, whatever else it is for.
	for _, own := range v.cfg.LoginClientIDs {
		if !named(own) && slices.Contains(aud, own) {
			return nil, errors.New("aud names a login client")
		}
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
