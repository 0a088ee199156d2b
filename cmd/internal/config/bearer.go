package config

import (
	"net/url"
	"slices"
	"strings"
)

// bearer checks which tokens of an issuer are accepted, and by which keys.
func (ck *checker) bearer(key string, p *Provider) {
	if p.Bearer == nil {
		return
	}
	ck.alsoIssuers(key+".also_issuers", p)
	ck.keys(key+".keys", p.Bearer.Keys)
	ck.keyAlgorithms(key, p)
	ck.keySource(key, p)
	ck.jwksURL(key+".jwks_url", p.Bearer.JWKSURL)
	ck.loginTokens(key+".audiences", p)
}

// alsoIssuers: a name belongs to one issuer, or its tokens would be verified with
// the keys of two.
func (ck *checker) alsoIssuers(key string, p *Provider) {
	for i, also := range p.Bearer.AlsoIssuers {
		k := index(key, i)
		if also == "" {
			continue // said already
		}
		ck.issuer(k, also)
		if also == p.Issuer {
			ck.wrong(k, "the issuer itself", quote(also), "leave it out")
			continue
		}
		for j := range ck.config.Providers {
			other := &ck.config.Providers[j]
			if other.Issuer == also || other.Issuer != p.Issuer && other.Bearer != nil && slices.Contains(other.Bearer.AlsoIssuers, also) {
				ck.wrong(k, "a name of "+index("providers", j)+", which has keys of its own", quote(also), "name every issuer URL at one issuer only")
				break
			}
		}
	}
}

func (ck *checker) keys(key string, keys []Key) {
	kids := map[string]int{}
	for i, k := range keys {
		at := index(key, i)
		if j, twice := kids[k.Kid]; twice && k.Kid != "" {
			ck.wrong(at+".kid", "the same kid as "+index(key, j), quote(k.Kid), "give each key its own kid")
		}
		kids[k.Kid] = i
		switch k.sources() {
		case 1:
		case 0:
			if !ck.anyBelow(at) {
				ck.wrong(at, "there is no key", "", "name its pem_file or jwk_file, or write pem or jwk")
			}
		default:
			ck.wrong(at, "there is more than one key", "", "keep one of pem_file, jwk_file, pem and jwk")
		}
	}
}

// keyAlgorithms: a key brings its algorithm, so that a list that does not name it
// would not be what it says.
func (ck *checker) keyAlgorithms(key string, p *Provider) {
	if _, given := ck.config.place[parent(key)+".algorithms"]; !given {
		return
	}
	for i, k := range p.Bearer.Keys {
		if !slices.Contains(p.Algorithms, k.Alg) {
			ck.wrong(index(key+".keys", i)+".alg", "not among the provider's algorithms", quote(k.Alg), "add it there, or leave out algorithms: a key has its own")
		}
	}
}

// sources counts where a key is.
func (k *Key) sources() (n int) {
	for _, given := range []bool{k.PEMFile != "", k.JWKFile != "", k.PEM != "", k.JWK != nil} {
		if given {
			n++
		}
	}
	return n
}

// File is the file that holds the key, or empty.
func (k *Key) File() string { return k.PEMFile + k.JWKFile }

// keySource refuses what would never be used: whoever wrote it thinks it is.
func (ck *checker) keySource(key string, p *Provider) {
	b := p.Bearer
	if b.Keys == nil {
		if p.Client != nil && b.JWKSURL != "" {
			ck.wrong(key+".jwks_url", "a provider with a client has discovery, which names its keys", quote(b.JWKSURL), "leave it out, or give bearer a provider of its own")
		}
		return
	}
	if b.JWKSURL != "" {
		ck.wrong(key+".jwks_url", "keys are given, so that none are fetched", quote(b.JWKSURL), "keep one of keys and jwks_url")
	}
	if b.TokenFile != "" {
		ck.wrong(key+".token_file", "keys are given, so that the issuer is not asked", "", "keep one of keys and token_file")
	}
	if p.Client == nil && p.CAFile != "" {
		ck.wrong(parent(key)+".ca_file", "keys are given, so that the issuer is not asked", "", "leave it out")
	}
}

func (ck *checker) jwksURL(key, address string) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "" || u.User != nil || strings.Contains(address, "#"):
		ck.wrong(key, "not an https URL without user and fragment", quote(address), "write for example https://issuer.example.com/jwks")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		ck.wrong(key, "http outside this machine: anybody on the way could put in keys", quote(address), "use https; http is for localhost and 127.0.0.1")
	}
}

// loginTokens refuses a way from one application to the next: with the token of its
// user that it was handed.
func (ck *checker) loginTokens(key string, p *Provider) {
	if p.Bearer.InsecureAcceptLoginTokens || !ck.forwards() {
		return
	}
	ids := ck.config.LoginClients(p)
	for i, audience := range p.Bearer.Audiences {
		if slices.Contains(ids, audience) {
			ck.wrong(index(key, i), "this is a login client's own audience, while a rule forwards users' tokens: an application could use its user's token elsewhere", quote(audience),
				"give the API an audience of its own, or write insecure_accept_login_tokens: true")
		}
	}
}

// forwards reports whether any rule hands tokens to an application.
func (ck *checker) forwards() bool {
	return slices.ContainsFunc(ck.config.Rules, func(r Rule) bool {
		return r.Forward != nil && (r.Forward.AccessToken || r.Forward.IDToken)
	})
}

// LoginClients are the client ids at the issuer of a provider, in whichever entry:
// tokens for them are for us, not for an API.
func (c *Config) LoginClients(p *Provider) []string {
	var ids []string
	for _, other := range c.Providers {
		if other.Issuer == p.Issuer && other.Client != nil {
			ids = append(ids, other.Client.ID)
		}
	}
	return ids
}
