package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

// minSecret is the least length of a secret that names something, in bytes.
const minSecret = 16

// secretName names what belongs to a secret. It needs no key: nobody can guess that.
func secretName(kind, secret string) string {
	sum := sha256.Sum256([]byte("gatehouse/v1/" + kind + secret))
	return kind + base64.RawURLEncoding.EncodeToString(sum[:])
}

// names returns the keyed hashes of something at an issuer: they say nothing to who
// reads the store. The first is under the key that seals now, which is what to write;
// the others are where replicas with another key may have written.
func names(b *seal.Box, issuer, value string) []string {
	text := issuer + "\x00" + value // an issuer is a URL and holds no zero byte, so this is unambiguous
	first := b.MAC(text)
	all := []string{base64.RawURLEncoding.EncodeToString(first)}
	for _, sum := range b.MACs(text) {
		if !bytes.Equal(sum, first) {
			all = append(all, base64.RawURLEncoding.EncodeToString(sum))
		}
	}
	return all
}

func firstName(names []string) []string { return names[:1] }
func everyName(names []string) []string { return names }

func withKind(kind string, names []string) []string {
	sets := make([]string, len(names))
	for i, name := range names {
		sets[i] = kind + name
	}
	return sets
}

// index returns the names of the sets that list s, as many as choose leaves.
func (m *Manager) index(s *Session, choose func([]string) []string) []string {
	sets := withKind("u:", choose(names(m.user, s.Identity.Issuer, s.Identity.Subject)))
	if s.Tokens != nil && s.Tokens.ProviderSession != "" {
		sets = append(sets, withKind("p:", choose(names(m.sid, s.Identity.Issuer, s.Tokens.ProviderSession)))...)
	}
	return sets
}
