package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const newestEnvoy = "1.40.0"

// envoyVersions are the releases that the header cases run on.
var envoyVersions = []string{"1.36.4", "1.37.0", "1.38.3", "1.39.3", newestEnvoy}

// listener is one way to configure Envoy's HTTP connection manager.
type listener struct {
	port       int
	normalise  bool // normalize_path and merge_slashes
	rawHeaders bool // encode_raw_headers: header_map instead of headers
	http       bool // the prefix is routed to Gatehouse's HTTP listener, not checked
	unasked    bool // a mistake: Check is not asked about the application
	failOpen   bool // a mistake: Check is asked where nobody answers, and what fails is let through
}

// envoyConfig is what an Envoy is started with.
type envoyConfig struct {
	version   string
	listeners []listener
	grpc      []endpoint // Gatehouse's Check ports; several: with health checks
	http      []endpoint // Gatehouse's HTTP ports
	loginHost string     // host:port whose prefix is routed to the HTTP ports; empty: none
	app       int
	tls       *authority // towards the Check ports, accepting any server; nil: plain text
}

// endpoint is one address of a cluster.
type endpoint struct {
	port int
	ops  int // where its health is asked for; 0: by gRPC, at the port itself
}

type envoy struct {
	*process
	admin int
}

func startEnvoy(t testing.TB, c envoyConfig) *envoy {
	t.Helper()
	e := &envoy{admin: freePort(t)}
	file := write(t, "envoy.yaml", c.bootstrap(e.admin))
	e.process = start(t, launch{name: "envoy-" + c.version, path: tool(t, "envoy", c.version, "envoy"), args: []string{
		"-c", file, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning",
	}})
	e.await(t, answers200("http://"+addr(e.admin)+"/ready"))
	return e
}

func (c envoyConfig) bootstrap(admin int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\nstatic_resources:\n  listeners:\n", admin)
	for _, l := range c.listeners {
		b.WriteString(c.listener(l))
	}
	b.WriteString("  clusters:\n")
	b.WriteString(cluster("app", "", endpoint{port: c.app}))
	b.WriteString(cluster("gatehouse", c.grpcOptions(), c.grpc...))
	if len(c.http) > 0 {
		b.WriteString(cluster("gatehouse-http", "", c.http...))
	}
	return b.String()
}

func (c envoyConfig) listener(l listener) string {
	route, check := "", "gatehouse"
	if l.unasked {
		route = unchecked
	}
	if l.failOpen {
		check = "app, authority: nobody"
	}
	return fmt.Sprintf(listenerText, l.port, l.normalise, l.rawHeaders, c.prefixRoute(l), c.loginRoute(), route, check, l.failOpen)
}

// prefixRoute sends the prefix of every host to the HTTP ports, unchecked.
func (c envoyConfig) prefixRoute(l listener) string {
	if !l.http {
		return ""
	}
	return `
              - match: {prefix: "/oauth2/"}
                route: {cluster: gatehouse-http}` + unchecked
}

const unchecked = `
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    disabled: true`

// loginRoute sends the login host to the HTTP ports. Check lets exactly its prefix through.
func (c envoyConfig) loginRoute() string {
	if c.loginHost == "" {
		return ""
	}
	return fmt.Sprintf(`
            - name: login
              domains: [%q]
              routes:
              - match: {prefix: "/"}
                route: {cluster: gatehouse-http, retry_policy: {retry_on: "connect-failure,refused-stream,reset", num_retries: 2}}`, c.loginHost)
}

const listenerText = `
  - name: l%[1]d
    address: {socket_address: {address: 127.0.0.1, port_value: %[1]d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: l%[1]d
          use_remote_address: true
          normalize_path: %[2]t
          merge_slashes: %[2]t
          upgrade_configs: [{upgrade_type: websocket}]
          route_config:
            virtual_hosts:%[5]s
            - name: all
              domains: ["*"]
              routes:%[4]s
              - match: {prefix: "/"}
                route: {cluster: app}%[6]s
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              grpc_service:
                envoy_grpc: {cluster_name: %[7]s}
                timeout: 6s
                retry_policy:
                  retry_on: connect-failure,refused-stream,unavailable,reset
                  num_retries: 2
                  retry_host_predicate:
                  - name: envoy.retry_host_predicates.previous_hosts
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}
                  host_selection_retry_max_attempts: 3
                initial_metadata: [{key: x-request-id, value: "%%REQ(x-request-id)%%"}]
              status_on_error: {code: 504}
              failure_mode_allow: %[8]t
              encode_raw_headers: %[3]t
              validate_mutations: true
              charge_cluster_response_stats: false
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                text_format_source: {inline_string: "%%REQ(:METHOD)%% %%REQ_WITHOUT_QUERY(:PATH)%% %%RESPONSE_CODE%% %%RESPONSE_CODE_DETAILS%% %%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%%\n"}
                formatters:
                - name: envoy.formatter.req_without_query
                  typed_config: {"@type": type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery}
`

// grpcOptions are what the cluster of Check has beside its endpoints.
func (c envoyConfig) grpcOptions() string {
	options := `    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    circuit_breakers: {thresholds: [{max_retries: 1000}]}
    lb_policy: LEAST_REQUEST
`
	if c.tls != nil {
		options += fmt.Sprintf(`    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          alpn_protocols: [h2]
          tls_certificates: [{certificate_chain: {filename: %s}, private_key: {filename: %s}}]
`, c.tls.file("client.pem"), c.tls.file("client.key"))
	}
	return options
}

// cluster has one endpoint per port. status_on_error above is 504, so that a
// Check that failed can not be taken for a 503 of Gatehouse.
func cluster(name, options string, endpoints ...endpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    type: STATIC\n    connect_timeout: 1s\n%s", name, options)
	if len(endpoints) > 1 {
		kind := `grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}`
		if endpoints[0].ops != 0 {
			kind = `http_health_check: {path: /readyz}`
		}
		fmt.Fprintf(&b, "    health_checks: [{timeout: 1s, interval: 0.5s, unhealthy_threshold: 1, healthy_threshold: 1, no_traffic_interval: 0.5s, %s}]\n", kind)
	}
	fmt.Fprintf(&b, "    load_assignment:\n      cluster_name: %s\n      endpoints:\n      - lb_endpoints:\n", name)
	for _, e := range endpoints {
		health := ""
		if e.ops != 0 {
			health = fmt.Sprintf(", health_check_config: {port_value: %d}", e.ops)
		}
		fmt.Fprintf(&b, "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}%s}\n", e.port, health)
	}
	return b.String()
}

// healthy reports which Check endpoints Envoy would ask now.
func (e *envoy) healthy() (int, error) {
	resp, err := (&http.Client{Timeout: 2 * time.Second}).Get("http://" + addr(e.admin) + "/clusters")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "gatehouse::") && strings.HasSuffix(strings.TrimSpace(line), "::health_flags::healthy") {
			n++
		}
	}
	return n, err
}

// awaitHealthy waits until Envoy would ask this many replicas.
func (e *envoy) awaitHealthy(t testing.TB, want int) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		if n, err := e.healthy(); err != nil || n != want {
			return fmt.Errorf("envoy sees %d healthy replicas, want %d: %w", n, want, err)
		}
		return nil
	})
}
