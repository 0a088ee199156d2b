package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Hosts of scenario D.
const (
	alertsHost  = "alertmanager.example.com"
	stageHost   = "alertmanager.monitoring.k8s-stage.example.com"
	metricsHost = "prometheus.example.com"
	ownHost     = "own.example.com"  // takes tokens made out for it only
	mailHost    = "mail.example.com" // for people with an address at example.com
	eitherHost  = "either.example.com"
)

// scenarioD is the infrastructure cluster: karma polls Alertmanagers with a service
// account token, people sign in elsewhere.
type scenarioD struct {
	*machines
	api       *apiServer
	tokenFile string
	caFile    string
}

func newScenarioD(t testing.TB) *scenarioD {
	t.Helper()
	s := &scenarioD{api: startAPIServer(t)}
	s.tokenFile = write(t, "token", *s.api.guard.Load())
	ca, err := os.ReadFile(s.api.cert.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s.caFile = write(t, "ca.crt", string(ca))
	s.machines = newMachines(t, freePort(t), fmt.Sprintf(`
providers:
- name: cluster
  issuer: %s
  ca_file: %s
  bearer: {audiences: [gatehouse, prometheus.example.com, own.example.com], also_issuers: [%s], token_file: %s}
- name: elsewhere
  issuer: https://elsewhere.example.net
  bearer: {audiences: [gatehouse], jwks_url: "http://127.0.0.1:1/jwks"}
rules:
- {name: alerts, hosts: [%s, %s], bearer: [cluster], require: {subjects: ["system:serviceaccount:monitoring:karma"]}}
- {name: metrics, hosts: [%s], bearer: [cluster], require: {subjects: ["system:serviceaccount:monitoring:prometheus-*"], claims: {/kubernetes.io/namespace: monitoring}}}
- {name: own, hosts: [%s], bearer: [cluster], audience: [own.example.com], require: {claims: {/kubernetes.io/namespace: monitoring}}}
- {name: mail, hosts: [%s], bearer: [cluster], require: {email_domains: [example.com]}}
- {name: either, hosts: [%s], bearer: [elsewhere, cluster], require: [{provider: cluster, subjects: ["system:serviceaccount:monitoring:*"]}]}
`, s.api.Issuer(), s.caFile, oldIssuer, s.tokenFile, alertsHost, stageHost, metricsHost, ownHost, mailHost, eitherHost))
	return s
}

func (s *scenarioD) karma(claims map[string]any) string {
	return s.api.account("monitoring", "karma", claims)
}

func TestScenarioDLeastPrivilege(t *testing.T) {
	t.Parallel()
	s := newScenarioD(t)
	everywhere := []string{alertsHost, stageHost, metricsHost, ownHost, mailHost, eitherHost}
	t.Run("D1 J30 karma opens the Alertmanagers", func(t *testing.T) {
		for _, host := range everywhere {
			status := http.StatusForbidden
			if slices.Contains([]string{alertsHost, stageHost, eitherHost}, host) {
				status = http.StatusOK
			}
			s.expect(t, "karma", host, s.karma(nil), status)
		}
		s.expect(t, "prometheus", metricsHost, s.api.account("monitoring", "prometheus-0", nil), http.StatusOK)
	})
	t.Run("D1 another namespace opens nothing", func(t *testing.T) {
		for _, host := range everywhere {
			s.expect(t, "another namespace", host, s.api.account("default", "karma", nil), http.StatusForbidden)
			// Neither does a claim without the dot in its name, nor one below another.
			s.expect(t, "a look-alike claim", host, s.api.account("default", "prometheus-0", map[string]any{
				"kubernetes": map[string]any{"io": map[string]any{"namespace": "monitoring"}}, "namespace": "monitoring",
			}), http.StatusForbidden)
		}
	})
	t.Run("D2 J30 the audience is the application's", func(t *testing.T) {
		s.expect(t, "own audience", ownHost, s.karma(map[string]any{"aud": []string{"own.example.com"}}), http.StatusOK)
		s.expect(t, "another application's", ownHost, s.karma(map[string]any{"aud": []string{"prometheus.example.com"}}), http.StatusForbidden)
		s.expect(t, "nobody's", ownHost, s.karma(map[string]any{"aud": []string{"oauth2-proxy"}}), http.StatusUnauthorized)
	})
	t.Run("D3 no e-mail", func(t *testing.T) {
		arrived := s.ask(t, alertsHost, "/api", s.karma(nil)).seen(t)
		if got := arrived.values("x-auth-request-user"); !slices.Equal(got, []string{"system:serviceaccount:monitoring:karma"}) || arrived.values("x-auth-request-email") != nil {
			t.Errorf("user %q, e-mail %q", got, arrived.values("x-auth-request-email"))
		}
		s.expect(t, "karma", mailHost, s.karma(nil), http.StatusForbidden)
		s.expect(t, "an address that nobody verified", mailHost, s.karma(map[string]any{"email": "karma@example.com"}), http.StatusForbidden)
	})
	t.Run("D4 D8 the challenge says expired, in JSON", func(t *testing.T) {
		old := time.Now().Add(-time.Hour).Unix()
		expired := s.karma(map[string]any{"iat": old - 600, "nbf": old - 600, "exp": old})
		for _, host := range []string{alertsHost, eitherHost} {
			a := s.ask(t, host, "/expired", expired)
			want := fmt.Sprintf(`Bearer realm=%q, error="invalid_token", error_description="The access token expired"`, host)
			if got := a.Header.Get("www-authenticate"); a.Status != http.StatusUnauthorized || got != want {
				t.Errorf("%d %s, want 401 %s", a.Status, got, want)
			}
			// D8: JSON and no redirect, also for who sends no Accept.
			if !strings.HasPrefix(a.Header.Get("content-type"), "application/problem+json") || a.Header.Get("location") != "" {
				t.Errorf("D8: header %v", a.Header)
			}
		}
		for _, line := range s.lines(t, "/expired", 2) {
			if detail, _ := line["detail"].(string); !strings.Contains(detail, "expired") {
				t.Errorf("the log says %q", detail)
			}
		}
		if got := get(t, s.port, alertsHost, "/").Header.Get("www-authenticate"); got != fmt.Sprintf("Bearer realm=%q", alertsHost) {
			t.Errorf("without a token: %s", got)
		}
	})
	t.Run("D7 one line tells it all", func(t *testing.T) {
		s.ask(t, stageHost, "/api/v2/alerts?filter=x", s.karma(nil)).seen(t)
		s.ask(t, metricsHost, "/graph", s.karma(nil))
		for path, want := range map[string]map[string]any{
			"/api/v2/alerts": {"decision": "allow", "reason": "allowed", "rule": "alerts", "host": stageHost},
			"/graph":         {"decision": "deny", "reason": "condition_failed", "rule": "metrics", "host": metricsHost, "status": float64(403)},
		} {
			want["subject"], want["issuer"], want["provider"] = "system:serviceaccount:monitoring:karma", s.api.Issuer(), "cluster"
			lines := s.lines(t, path, 1)
			for name, value := range want {
				if len(lines) != 1 || lines[0][name] != value {
					t.Errorf("%s: %s is %v in %v, want %v", path, name, lines[0][name], lines, value)
				}
			}
			if detail, _ := lines[0]["detail"].(string); path == "/graph" && !strings.Contains(detail, "subject matches none of") {
				t.Errorf("the reason in the log is %q", detail)
			}
		}
	})
}

// pollAlerts asks with the newest token, again and again, until stop is closed.
func (s *scenarioD) pollAlerts(t *testing.T, newest func() string, stop chan struct{}) (asked int) {
	for {
		select {
		case <-stop:
			return asked
		default:
		}
		for _, host := range []string{alertsHost, stageHost} {
			if v := s.gatehouse.checks.get(t.Context(), host, "/poll", "authorization: Bearer "+newest()); v.outcome() != allowed {
				t.Errorf("a good token: %v", v)
			}
			asked++
		}
	}
}

// D4: neither a new key nor a new issuer URL costs a good token one answer.
func TestD4Rotation(t *testing.T) {
	t.Parallel()
	s := newScenarioD(t)
	s.gatehouse.checks = newChecks(t, s.gatehouse.grpc, nil)
	var mu sync.Mutex
	tokens := []string{s.karma(nil)}
	add := func(token string) {
		note("bearer token", token)
		mu.Lock()
		defer mu.Unlock()
		tokens = append(tokens, token)
	}
	n := 0
	next := func() string { // old and new ones in turn
		mu.Lock()
		defer mu.Unlock()
		n++
		return tokens[n%len(tokens)]
	}
	stop := make(chan struct{})
	var polls sync.WaitGroup
	asked := 0
	polls.Go(func() { asked = s.pollAlerts(t, next, stop) })

	add(s.karma(map[string]any{"iss": oldIssuer}))
	before := s.api.asked.Load()
	s.api.Rotate("RS256")
	add(s.karma(nil))
	add(s.karma(map[string]any{"iss": oldIssuer}))
	s.expect(t, "a token by the new key", alertsHost, s.karma(nil), http.StatusOK)
	if n := s.api.asked.Load() - before; n != 1 {
		t.Errorf("the keys were read %d times for the new key, want once", n)
	}
	// Names that are not configured stay strangers.
	s.expect(t, "a third issuer URL", alertsHost, s.karma(map[string]any{"iss": oldIssuer + "/"}), http.StatusUnauthorized)
	s.api.Rotate("RS256")
	add(s.karma(nil))
	s.expect(t, "a token by the next key", alertsHost, s.karma(nil), http.StatusOK)
	close(stop)
	polls.Wait()
	if asked < 20 {
		t.Errorf("only %d polls", asked)
	}
}

// D5, D6: the issuer's authority and the token for it are replaced on disk; the next
// reading works. Until then a token by a new key is uncertain (503), not bad.
func TestD5D6ReplacedOnDisk(t *testing.T) {
	t.Parallel()
	s := newScenarioD(t)
	known := s.karma(nil)
	s.expect(t, "karma", alertsHost, known, http.StatusOK)

	renewed := newAuthority(t)
	s.api.serve(t, renewed)
	s.api.Rotate("RS256")
	s.expect(t, "D5 a new key behind a certificate of nobody's", alertsHost, s.karma(nil), http.StatusServiceUnavailable)
	s.expect(t, "D5 a token known before", alertsHost, known, http.StatusOK)
	ca, err := os.ReadFile(renewed.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	replace(t, s.caFile, ca)
	s.expect(t, "D5 once the authority is there", alertsHost, s.karma(nil), http.StatusOK)

	second := "reader." + random()
	note("issuer token", second)
	s.api.guard.Store(&second)
	s.api.Rotate("RS256")
	s.expect(t, "D6 a new key behind a token that is not ours", alertsHost, s.karma(nil), http.StatusServiceUnavailable)
	replace(t, s.tokenFile, []byte(second))
	s.expect(t, "D6 once the token is there", alertsHost, s.karma(nil), http.StatusOK)
	neverLogged(t, s.gatehouse, second)
}

func neverLogged(t testing.TB, g *gatehouse, secret string) {
	t.Helper()
	if strings.Contains(g.output(), secret) {
		t.Error("a secret is in the log")
	}
}
