package oidc_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// E3, J9: iat bounds how long a hand-made token is taken, whatever its exp says,
// also when its identity is cached.
func TestE3MaxTokenAge(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Now()
	v := i.verifier(func(c *oidc.VerifierConfig) {
		c.MaxAge, c.Now = time.Hour, func() time.Time { return now }
	})
	claims := with(with(i.access(), "exp", now.Add(26*365*24*time.Hour).Unix()), "iat", now.Unix())
	token := bearer(tok("RS256", rs256, js(claims), rsaKey()))
	for _, step := range []struct {
		after time.Duration
		want  verdict
	}{{0, allow}, {time.Hour, allow}, {58 * time.Second, allow}, {2 * time.Second, bad}} { // a minute is skew
		now = now.Add(step.after)
		if got := judge(t, v, token); got != step.want {
			t.Errorf("%v later: %s, want %s", step.after, got, step.want)
		}
	}
	if got := judge(t, v, bearer(tok("RS256", rs256, js(without(claims, "iat")), rsaKey()))); got != bad {
		t.Errorf("without iat: %s", got)
	}
}

// RFC 9068 sections 2.1, 2.2 and 4: each required claim dropped in turn, each other type.
func TestRFC9068(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	strict := i.verifier(func(c *oidc.VerifierConfig) { c.RFC9068 = true })
	lax := i.verifier()
	full := with(with(i.access(), "client_id", "robot"), "jti", "1")
	for name, tt := range map[string]struct {
		header string
		claims map[string]any
		lax    verdict
	}{
		"no iss":               {rs256, without(full, "iss"), bad},
		"no exp":               {rs256, without(full, "exp"), bad},
		"no aud":               {rs256, without(full, "aud"), bad},
		"no sub":               {rs256, without(full, "sub"), bad},
		"no client_id":         {rs256, without(full, "client_id"), allow},
		"client_id a number":   {rs256, with(full, "client_id", 1), allow},
		"client_id empty":      {rs256, with(full, "client_id", ""), allow},
		"no iat":               {rs256, without(full, "iat"), allow},
		"no jti":               {rs256, without(full, "jti"), allow},
		"no type":              {`{"alg":"RS256","kid":"k1"}`, full, allow},
		"type JWT":             {`{"alg":"RS256","kid":"k1","typ":"JWT"}`, full, allow},
		"type application/jwt": {`{"alg":"RS256","kid":"k1","typ":"application/jwt"}`, full, allow},
	} {
		token := bearer(tok("RS256", tt.header, js(tt.claims), rsaKey()))
		if got := judge(t, strict, token); got != bad {
			t.Errorf("strict, %s: %s", name, got)
		}
		if got := judge(t, lax, token); got != tt.lax {
			t.Errorf("not strict, %s: %s, want %s", name, got, tt.lax)
		}
	}
	for _, typ := range []string{"at+jwt", "AT+JWT", "application/at+jwt"} {
		if got := judge(t, strict, bearer(tok("RS256", `{"alg":"RS256","kid":"k1","typ":"`+typ+`"}`, js(full), rsaKey()))); got != allow {
			t.Errorf("%s: %s", typ, got)
		}
	}
}

// D4, J13: other names of one issuer are accepted with its keys, and rules see one
// issuer; a name is never a prefix or another spelling.
func TestD4TwoNamesOfOneIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	const old = "https://kubernetes.default.svc.cluster.local"
	v := i.verifier(func(c *oidc.VerifierConfig) { c.AlsoIssuers = []string{old} })
	for iss, want := range map[string]verdict{i.URL: allow, old: allow, old + "/": bad, "https://kubernetes.default.svc": bad, "": bad} {
		r := bearer(tok("RS256", rs256, js(with(i.access(), "iss", iss)), rsaKey()))
		id, err := v.Authenticate(t.Context(), r)
		if (err == nil) != (want == allow) || err != nil && !errors.Is(err, authz.ErrForeign) {
			t.Errorf("iss %q: %v, want %s", iss, err, want)
		}
		if err == nil && (id.Issuer != i.URL || id.Claims["iss"] != iss) {
			t.Errorf("iss %q: identity of %q with claim %v, want %q for rules", iss, id.Issuer, id.Claims["iss"], i.URL)
		}
	}
	if got := judge(t, v, bearer(tok("RS256", rs256, js(with(i.access(), "iss", old)), rsaOther()))); got != bad {
		t.Errorf("J13 by another key: %s", got)
	}
}

// K9, D4: while an issuer moves, its discovery document may be written under either
// name; where people sign in only under the one.
func TestD4DiscoveryUnderTheOtherName(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	moved := with(i.metadata(), "issuer", "https://new.test")
	i.answer(pathDiscovery, 200, js(moved))
	build := func(client *oidc.ClientConfig, also ...string) error {
		p := i.provider(func(c *oidc.ProviderConfig) { c.Client, c.AlsoIssuers = client, also })
		_, err := p.Keys().Refresh(t.Context(), whatever)
		return err
	}
	if err := build(nil, "https://new.test"); err != nil {
		t.Errorf("a name that is configured: %v", err)
	}
	for name, err := range map[string]error{
		"not configured": build(nil), "another": build(nil, "https://newer.test"), "with logins": build(i.client(), "https://new.test"),
	} {
		if !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := oidc.NewProvider(oidc.ProviderConfig{Name: "a", Issuer: "https://a.test", AlsoIssuers: []string{"http://a.test"}}); err == nil {
		t.Error("a name that is no https URL: accepted")
	}
}
