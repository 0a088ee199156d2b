package oidc_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
)

// Where the classes of the security reference are tested, beside TestWycheproof…:
//
//	J1 to J8, J14 (header), J19  TestBearerHeader        J9 to J15, J27, J29  TestBearerClaims
//	J16 to J20, J24              TestBearerToken         J4                   TestJ4TokensWithoutKID
//	J9                           TestMaxLifetime, TestE3MaxTokenAge           J18  TestJ18Cost
//	J11                          config.TestRuleAudienceNarrows               J21  TestJ21MalleableSignature
//	J13                          TestVerifiers, TestD4TwoNamesOfOneIssuer     J22  TestAlgorithms, TestK5JWKS
//	J23                          TestK5JWKS              J25  TestJ25NothingIsBelievedUnsigned
//	J26                          authz, where scopes are compared             J28  TestJ28Cache
//	J30                          e2e.TestScenarioDLeastPrivilege, TestJ30OneAudience
//	K1 TestK1UnknownKID          K2 TestK2RotationDuringAReading              K3 TestRemoteKeys
//	K4 TestK4CannotTellIsNotNo, TestK4DownAtStart        K5 TestK5JWKS, TestK5ManyKeys
//	K6 TestRemoteKeys, TestK6RedirectInward              K7 TestRemoteKeys    K8 TestVerifiers
//	K9 TestD4DiscoveryUnderTheOtherName, those of discovery                   K10, K11 TestK11OneReading, TestK10WaitersAreBounded
//	K12 TestK12KeyAlgorithm
//	E1, E2, E7, E9 authz.TestEmail and its neighbours    E3 to E6 authz, upstream headers; TestBearerClaims   E8 authz, claims

// J18: what is too large or nested costs next to nothing.
func TestJ18Cost(t *testing.T) {
	v, claims, _ := fuzzVerifier(t)
	sign := strings.Split(tok("ES256", es256, claims, p256()), ".")
	for name, token := range map[string]string{
		"1 MiB of dots":      repeat(".", 1<<20),
		"1 MiB of letters":   repeat("a", 1<<20),
		"17 KiB":             sign[0] + "." + repeat("A", 17<<10) + "." + sign[2],
		"nested 10,000 deep": sign[0] + "." + b64([]byte(repeat("[", 10_000))) + "." + sign[2],
		"nested objects":     sign[0] + "." + b64([]byte(repeat(`{"a":`, 2_000))) + "." + sign[2],
		"a long kid":         b64([]byte(`{"alg":"ES256","kid":"`+repeat("k", 10_000)+`"}`)) + "." + sign[1] + "." + sign[2],
		"2,500 entries":      tok("ES256", es256, claims[:len(claims)-1]+`,"x":[`+repeat(`"a",`, 2_500)+`"a"],"aud":[1]}`, p256()),
		"repeated members":   sign[0] + "." + b64([]byte("{"+repeat(`"a":1,`, 1_700)+`"a":1}`)) + "." + sign[2],
	} {
		r := bearer(token)
		const times = 50
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for range times {
			if id, err := v.Authenticate(t.Context(), r); id != nil || !errors.Is(err, authz.ErrBadCredentials) {
				t.Fatalf("%s: %v, %v", name, id, err)
			}
		}
		took := time.Since(began) / times
		runtime.ReadMemStats(&after)
		// A millisecond on a quiet machine; the bytes do not depend on it.
		if bytes := (after.TotalAlloc - before.TotalAlloc) / times; took > 20*time.Millisecond || bytes > 1<<20 {
			t.Errorf("%s: %v and %d bytes", name, took, bytes)
		}
	}
}

// J25: a forged token is refused for its signature, whatever it claims: nothing else
// about it was looked at, and nothing of it is kept.
func TestJ25NothingIsBelievedUnsigned(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	if got := judge(t, v, bearer(i.good())); got != allow {
		t.Fatal(got)
	}
	before := v.CacheLen()
	for name, claims := range map[string]map[string]any{
		"good claims":   i.access(),
		"other aud":     with(i.access(), "aud", "other"),
		"login client":  with(i.access(), "aud", clientID),
		"cnf":           with(i.access(), "cnf", map[string]any{"jkt": "x"}),
		"no sub":        without(i.access(), "sub"),
		"strange group": with(i.access(), "groups", 7),
	} {
		_, err := v.Authenticate(t.Context(), bearer(tok("RS256", rs256, js(claims), rsaOther())))
		if err == nil || !strings.HasSuffix(err.Error(), "the signature does not verify") {
			t.Errorf("%s: %v, want a word about the signature", name, err)
		}
	}
	if n := v.CacheLen(); n != before {
		t.Errorf("%d identities cached, %d before", n, before)
	}
}

// J30: service accounts of one cluster share an audience; who they are and which
// other audiences they have tells them apart.
func TestJ30OneAudience(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	v := i.verifier()
	pod := map[string]any{"namespace": "monitoring", "serviceaccount": map[string]any{"name": "karma"}}
	claims := with(with(with(i.access(), "sub", "system:serviceaccount:monitoring:karma"), "kubernetes.io", pod), "aud", []any{"api", "alerts"})
	id, err := v.Authenticate(t.Context(), bearer(tok("RS256", `{"alg":"RS256","kid":"k1"}`, js(claims), rsaKey())))
	if err != nil {
		t.Fatal(err)
	}
	in := func(pointer string, values ...any) authz.Condition { return must(authz.ClaimIn(pointer, values...)) }
	for name, tt := range map[string]struct {
		c    authz.Condition
		want bool
	}{
		"namespace":           {in("/kubernetes.io/namespace", "monitoring"), true},
		"other namespace":     {in("/kubernetes.io/namespace", "default"), false},
		"E8 not a path":       {in("kubernetes.io/namespace", "monitoring"), false},
		"deeper":              {in("/kubernetes.io/serviceaccount/name", "karma"), true},
		"subject":             {must(authz.Subjects("system:serviceaccount:monitoring:*")), true},
		"subject elsewhere":   {must(authz.Subjects("system:serviceaccount:default:*")), false},
		"audience":            {authz.Audience("alerts"), true},
		"other audience":      {authz.Audience("metrics"), false},
		"D3 no e-mail domain": {authz.EmailDomains("good.test"), false},
	} {
		if err := tt.c.Check(nil, id); (err == nil) != tt.want {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if id.Email != "" || id.User != "system:serviceaccount:monitoring:karma" {
		t.Errorf("user %q, e-mail %q", id.User, id.Email)
	}
}

// K5: a document with ten thousand keys is refused whole, in bounded time and memory;
// so is one that would need hours to compare.
func TestK5ManyKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	all := make([]string, 10_000)
	one := js(jwk("K", "ES256", p256()))
	for n := range all {
		all[n] = strings.Replace(one, `"K"`, fmt.Sprintf(`"k%d"`, n), 1)
	}
	document := `{"keys":[` + strings.Join(all, ",") + `]}`
	i.answer(pathJWKS, 200, document)
	keys := i.remoteKeys()
	began := time.Now()
	if set, err := keys.Refresh(t.Context(), whatever); !errors.Is(err, oidc.ErrUnavailable) || set != nil {
		t.Errorf("10,000 keys in %d KiB: %v, %v", len(document)>>10, set, err)
	}
	i.answer(pathJWKS, 200, `{"keys":[`+strings.Join(all[:1400], ",")+`]}`)
	if set, err := keys.Refresh(t.Context(), whatever); err != nil || set.Len() != 100 || keys.Status().Skipped != 1300 {
		t.Errorf("1,400 keys: %v, %v, %+v", set, err, keys.Status())
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// K6, K8: a key set or discovery document that redirects inward is not followed.
func TestK6RedirectInward(t *testing.T) {
	t.Parallel()
	inward := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer inward.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, target := range []string{inward.URL + "/jwks", "http://169.254.169.254/latest/meta-data", "//" + inward.Listener.Addr().String() + "/", "file:///etc/passwd"} {
			for _, path := range []string{pathJWKS, pathDiscovery} {
				i := newIssuer(t)
				i.handle(path, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", target)
					w.WriteHeader(status)
				})
				p := i.provider()
				if _, err := p.Keys().Refresh(t.Context(), whatever); !errors.Is(err, oidc.ErrUnavailable) || !strings.Contains(err.Error(), "redirect") {
					t.Errorf("%s answers %d to %s: %v", path, status, target, err)
				}
			}
		}
	}
}
