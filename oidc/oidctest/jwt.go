package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// JWT is a token to sign. The zero value is signed with the Provider's current key.
type JWT struct {
	Alg    string         // "": the Provider's; RS256, ES256, PS256, HS256 (with Secret), none
	Kid    string         // key to sign with, also a retired one; "": the current key for Alg
	Header map[string]any // extra or replacing members; a nil value removes
	Claims map[string]any
	// RawHeader and RawClaims replace the encoded ones: duplicate members, bad UTF-8.
	RawHeader, RawClaims []byte
	Secret               []byte              // for HS256
	Mangle               func(string) string // the last change, of the compact text
}

type key struct {
	kid, alg string
	rsa      *rsa.PrivateKey
	ec       *ecdsa.PrivateKey
	retired  bool
}

// Rotate makes a new key for alg (RS256 or ES256), signs with it from now on
// and returns its kid. The keys before it stay published until they are retired.
func (p *Provider) Rotate(alg string) string {
	k := &key{alg: alg, kid: strings.ToLower(alg) + "-" + rand.Text()[:8]}
	var err error
	switch alg {
	case "RS256":
		k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		panic("oidctest: Rotate " + alg + ": RS256 or ES256")
	}
	if err != nil {
		panic("oidctest: " + err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, k)
	return k.kid
}

// Retire takes a key out of the published set. Sign still uses it when asked by Kid.
func (p *Provider) Retire(kid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.keys {
		if k.kid == kid {
			k.retired = true
		}
	}
}

// Kid returns the id of the key that signs alg now, or "".
func (p *Provider) Kid(alg string) string {
	if k := p.pick(alg, ""); k != nil {
		return k.kid
	}
	return ""
}

// pick returns the key called kid, else the newest published one for alg.
func (p *Provider) pick(alg, kid string) *key {
	p.mu.Lock()
	defer p.mu.Unlock()
	if alg == "PS256" {
		alg = "RS256" // the same RSA key
	}
	for _, k := range slices.Backward(p.keys) {
		if kid != "" && k.kid == kid || kid == "" && k.alg == alg && !k.retired {
			return k
		}
	}
	return nil
}

// PublicKey returns the public half of a key: *rsa.PublicKey or *ecdsa.PublicKey.
func (p *Provider) PublicKey(kid string) crypto.PublicKey {
	switch k := p.pick("", kid); {
	case k == nil:
		return nil
	case k.rsa != nil:
		return &k.rsa.PublicKey
	default:
		return &k.ec.PublicKey
	}
}

// Sign mints t as it is: no claim is added. It panics when there is no such key.
func (p *Provider) Sign(t JWT) string {
	if t.Alg == "" {
		t.Alg = p.cfg.Alg
	}
	header := map[string]any{"alg": t.Alg, "typ": "JWT"}
	k := p.pick(t.Alg, t.Kid)
	if k != nil {
		header["kid"] = k.kid
	} else if t.Alg != "none" && t.Alg != "HS256" {
		panic(fmt.Sprintf("oidctest: no key for alg %q kid %q", t.Alg, t.Kid))
	}
	merge(header, t.Header)
	if t.RawHeader == nil {
		t.RawHeader = encode(header)
	}
	if t.RawClaims == nil {
		t.RawClaims = encode(t.Claims)
	}
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString(t.RawHeader) + "." + b64.EncodeToString(t.RawClaims)
	text += "." + b64.EncodeToString(signature(t.Alg, k, t.Secret, text))
	if t.Mangle != nil {
		text = t.Mangle(text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.secret(text)
}

// signature is the third part of a compact JWS (RFC 7518 section 3).
func signature(alg string, k *key, secret []byte, text string) []byte {
	if alg == "none" {
		return nil
	}
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	var err error
	switch {
	case alg == "HS256":
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	case alg == "RS256" && k.rsa != nil:
		sig, err = rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, sum[:])
	case alg == "PS256" && k.rsa != nil:
		sig, err = rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case alg == "ES256" && k.ec != nil:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k.ec, sum[:]); err == nil {
			sig = slices.Concat(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
		}
	default:
		err = fmt.Errorf("alg %q does not fit key %q", alg, k.kid)
	}
	if err != nil {
		panic("oidctest: " + err.Error())
	}
	return sig
}

// Bearer mints an access token as this issuer gives it to a machine: iss, sub
// "machine", aud "api", iat, exp (5 min) and jti, typ at+jwt; claims replace or,
// with a nil value, remove. edit may change the rest.
func (p *Provider) Bearer(claims map[string]any, edit ...func(*JWT)) string {
	now := p.cfg.Now()
	t := JWT{Header: map[string]any{"typ": "at+jwt"}, Claims: map[string]any{
		"iss": p.Issuer(), "sub": "machine", "client_id": "machine", "aud": []string{"api"},
		"iat": now.Unix(), "exp": now.Add(p.cfg.AccessTTL).Unix(), "jti": rand.Text(),
	}}
	merge(t.Claims, claims)
	return p.signEdited(t, edit)
}

// IDToken mints an ID token of a user for a client, with scopes openid email profile.
// It panics when there is no such user.
func (p *Provider) IDToken(subject, clientID, nonce string, edit ...func(*JWT)) string {
	p.mu.Lock()
	u := p.user(subject)
	p.mu.Unlock()
	if u == nil {
		panic(fmt.Sprintf("oidctest: no user %q", subject))
	}
	g := &grant{clientID: clientID, subject: subject, scope: "openid email profile", nonce: nonce, sid: rand.Text(), authTime: p.cfg.Now()}
	return p.signEdited(*p.idToken(p.Issuer(), g, *u, p.cfg.AccessTTL), edit)
}

func (p *Provider) signEdited(t JWT, edit []func(*JWT)) string {
	for _, e := range edit {
		e(&t)
	}
	return p.Sign(t)
}

// idToken is an ID token for g (OpenID Connect Core 1.0 section 2).
func (p *Provider) idToken(iss string, g *grant, u User, ttl time.Duration) *JWT {
	now := p.cfg.Now()
	c := u.claims(g.scope, p.cfg.UserinfoOnly)
	own := map[string]any{
		"iss": iss, "aud": g.clientID, "sid": g.sid,
		"iat": now.Unix(), "exp": now.Add(ttl).Unix(), "auth_time": g.authTime.Unix(),
	}
	if g.nonce != "" {
		own["nonce"] = g.nonce
	}
	for name, v := range own {
		if _, replaced := u.Claims[name]; !replaced {
			c[name] = v
		}
	}
	return &JWT{Claims: c}
}

// accessToken is a JWT access token (RFC 9068).
func (p *Provider) accessToken(iss string, c Client, subject, scope string, extra map[string]any) *JWT {
	now := p.cfg.Now()
	aud := c.Audience
	if len(aud) == 0 {
		aud = []string{c.ID}
	}
	claims := map[string]any{
		"iss": iss, "sub": subject, "client_id": c.ID, "aud": aud,
		"iat": now.Unix(), "exp": now.Add(p.ttl(c)).Unix(), "jti": rand.Text(),
	}
	put(claims, "scope", scope)
	merge(claims, extra)
	return &JWT{Header: map[string]any{"typ": "at+jwt"}, Claims: claims}
}

// jwks is the published key set (RFC 7517).
func (p *Provider) jwks() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	b64 := base64.RawURLEncoding.EncodeToString
	keys := []any{}
	for _, k := range p.keys {
		if k.retired {
			continue
		}
		m := map[string]any{"kid": k.kid, "alg": k.alg, "use": "sig"}
		if k.rsa != nil {
			m["kty"], m["n"], m["e"] = "RSA", b64(k.rsa.N.Bytes()), b64(big.NewInt(int64(k.rsa.E)).Bytes())
		} else {
			point, err := k.ec.PublicKey.Bytes() // uncompressed: 4, x, y
			if err != nil {
				panic("oidctest: " + err.Error())
			}
			m["kty"], m["crv"], m["x"], m["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
		}
		keys = append(keys, m)
	}
	return map[string]any{"keys": keys}
}
