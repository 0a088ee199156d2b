package e2e

import (
	"fmt"
	"strings"
	"testing"
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
}

// envoyConfig is what an Envoy is started with.
type envoyConfig struct {
	version   string
	listeners []listener
	grpc      []int // Gatehouse's Check ports; several: with health checks and retries
	httpPort  int   // Gatehouse's HTTP port
	app       int
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
	b.WriteString(cluster("app", false, c.app))
	b.WriteString(cluster("gatehouse", true, c.grpc...))
	if c.httpPort != 0 {
		b.WriteString(cluster("gatehouse-http", false, c.httpPort))
	}
	return b.String()
}

func (c envoyConfig) listener(l listener) string {
	prefixRoute := ""
	if l.http {
		prefixRoute = `
              - match: {prefix: "/oauth2/"}
                route: {cluster: gatehouse-http}
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    disabled: true`
	}
	return fmt.Sprintf(`
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
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:%[4]s
              - match: {prefix: "/"}
                route: {cluster: app}
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              grpc_service:
                envoy_grpc: {cluster_name: gatehouse}
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
`, l.port, l.normalise, l.rawHeaders, prefixRoute)
}

// cluster has one endpoint per port. status_on_error above is 504, so that a
// Check that failed can not be taken for a 503 of Gatehouse.
func cluster(name string, http2 bool, ports ...int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    type: STATIC\n    connect_timeout: 1s\n", name)
	if http2 {
		b.WriteString(`    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    circuit_breakers: {thresholds: [{max_retries: 1000}]}
`)
	}
	if len(ports) > 1 {
		b.WriteString(`    health_checks:
    - {timeout: 1s, interval: 0.5s, unhealthy_threshold: 1, healthy_threshold: 1, no_traffic_interval: 0.5s, grpc_health_check: {}}
`)
	}
	fmt.Fprintf(&b, "    load_assignment:\n      cluster_name: %s\n      endpoints:\n      - lb_endpoints:\n", name)
	for _, p := range ports {
		fmt.Fprintf(&b, "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", p)
	}
	return b.String()
}
