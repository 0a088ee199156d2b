// Package config reads the configuration file and says precisely what is wrong with it.
//
// The comments of the types below are the reference that users read, and their
// tags are the schema that editors use: both are generated (see gen).
package config

import "time"

//go:generate go run ./gen

// Config is the whole file. A Config that Load returned is complete: defaults
// are filled in and every check that needs no other file has passed. It must
// not be changed.
type Config struct {
	// Listen says where Gatehouse is reached. Changes need a restart.
	Listen Listen `yaml:"listen" required:"true"`
	// ClientAddress says how to find the address of the client, for the access log and the list of sessions. It never decides anything.
	ClientAddress ClientAddress `yaml:"client_address"`
	// LoginURL is the origin of the login host, for example https://auth.example.com. With it the providers know one redirect URI for all hosts, LOGIN_URL/oauth2/callback, and who is signed in for one host needs no way to the provider for the next. Route the prefix of that host to listen.http; Check lets exactly it through. Without it every host signs in by itself.
	LoginURL string `yaml:"login_url"`
	// Prefix is the path below which Gatehouse answers itself on every host with a login: start, callback, sign_out, signed_out, userinfo. On the login host there is sessions, too, where users see and end their sign-ins, and backchannel-logout for the logout tokens of providers; without login_url the latter is on every host of listen.http, for the operator to route.
	Prefix string `yaml:"prefix" default:"/oauth2"`
	// CheckTimeout bounds one Check. Keep it below the timeout of ext_authz in Envoy, so that Envoy hears a refusal with its reason and not nothing.
	CheckTimeout time.Duration `yaml:"check_timeout" default:"1s"`
	// Providers are the OpenID providers and token issuers that rules can name.
	Providers []Provider `yaml:"providers"`
	// Sessions says how sign-ins are kept. Required when a rule has a login.
	Sessions Sessions `yaml:"sessions"`
	// Rules say who may go where. A request that no rule matches is refused.
	Rules []Rule `yaml:"rules" required:"true"`
	// Log is what is written to standard error, one JSON object per line.
	Log Log `yaml:"log"`
	// Tracing sends traces to an OpenTelemetry collector. Without it there are none.
	Tracing *Tracing `yaml:"tracing"`
	// Shutdown says how a process that was told to end takes its leave.
	Shutdown Shutdown `yaml:"shutdown"`
	// Probe asks every protected host through its real front door, again and again, and reports which lets a stranger in. Without it only "gatehouse probe" does.
	Probe *Probe `yaml:"probe"`

	file      string
	place     places
	hosts     []Host
	loginHost *Host
}

// Listen says where Gatehouse is reached.
type Listen struct {
	// GRPC is the port of Envoy's ext_authz: Check and gRPC health. Whoever reaches it may ask for identities, so only Envoy should.
	GRPC GRPC `yaml:"grpc" required:"true"`
	// HTTP serves the login endpoints to browsers, when the prefix is routed there. Without it they are answered in band, by Check. Required with login_url.
	HTTP *HTTP `yaml:"http"`
	// Ops serves /healthz, /readyz and /metrics. It tells no secret, but keep it inside the cluster.
	Ops *HTTP `yaml:"ops"`
	// Admin is where operators list and end sessions (gatehouse sessions, or any gRPC client). Every call is logged. Without it nobody can.
	Admin *Admin `yaml:"admin"`
	// ForwardAuth are the listeners of proxies that ask over HTTP before they pass a request on: nginx, ingress-nginx, Traefik, Caddy, and Envoy's ext_authz with http_service. They ask at PREFIX/auth. Listeners of nginx need listen.http, too, with the prefix routed to it.
	ForwardAuth []ForwardAuth `yaml:"forward_auth"`
}

// ForwardAuth is a listener for one kind of proxy. Whoever may ask there may claim any request and learn whom a cookie belongs to, so that only the proxies should reach it.
type ForwardAuth struct {
	// Address is host:port or :port.
	Address string `yaml:"address" required:"true"`
	// Profile is the proxy that asks. It says which headers hold the original request, and which statuses the proxy understands.
	Profile string `yaml:"profile" required:"true" oneof:"nginx ingress-nginx traefik caddy envoy"`
	// TrustedProxies are the addresses of the proxies, as networks such as 10.0.0.0/8. They alone may ask, and their forwarding headers count. No address is spared a login.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// TLS encrypts the listener. With client_ca_file every proxy must show a certificate; name those that may in client_ids, or each of the authorities' may.
	TLS *TLS `yaml:"tls"`
	// SecretFile holds a secret of at least 32 characters that the proxy has to send as X-Gatehouse-Secret. It is read again at every question. Tokens of users (forward) go only to proxies that prove who they are by it or by a certificate.
	SecretFile string `yaml:"secret_file"`
}

// Admin is the listener of the admin API, gRPC with reflection. Whoever may call it may sign anybody out, so that an address on the network needs client certificates (tls with client_ca_file), a token, or both.
type Admin struct {
	// Address is unix:///run/gatehouse/admin.sock, a socket that only the user of this process can open; or host:port or :port.
	Address string `yaml:"address" required:"true"`
	// TLS encrypts the listener. With client_ca_file every client must show a certificate; name those that may in client_ids, or each of the authorities' may.
	TLS *TLS `yaml:"tls"`
	// TokenFile holds a token of at least 32 characters that callers send as "authorization: Bearer". It is read again at every call.
	TokenFile string `yaml:"token_file"`
}

// GRPC is the listener of Check.
type GRPC struct {
	// Address is host:port or :port.
	Address string `yaml:"address" required:"true"`
	// TLS encrypts the listener. Without it the listener speaks plain text HTTP/2, for a mesh that encrypts by itself.
	TLS *TLS `yaml:"tls"`
	// MaxInFlight is how many Checks may run at once; the next is refused with 503.
	MaxInFlight int `yaml:"max_in_flight" default:"10000"`
	// Reflection serves gRPC reflection, for grpcurl.
	Reflection bool `yaml:"reflection"`
}

// HTTP is a listener of plain HTTP or HTTPS.
type HTTP struct {
	// Address is host:port or :port.
	Address string `yaml:"address" required:"true"`
	// TLS encrypts the listener.
	TLS *TLS `yaml:"tls"`
}

// TLS is TLS on a listener, version 1.2 or newer. The files are read again when they change.
type TLS struct {
	// CertFile is the certificate chain, PEM.
	CertFile string `yaml:"cert_file" required:"true"`
	// KeyFile is the private key, PEM.
	KeyFile string `yaml:"key_file" required:"true"`
	// ClientCAFile holds the authorities of client certificates, PEM. With it every client must show one.
	ClientCAFile string `yaml:"client_ca_file"`
	// ClientIDs are the SPIFFE ids that may connect, exact text. Needs client_ca_file. Not for listen.http and listen.ops.
	ClientIDs []string `yaml:"client_ids"`
}

// Provider is an OpenID provider that signs users in, an issuer of bearer tokens, or both.
type Provider struct {
	// Name is how rules, logs and the cookie call the provider: a letter, then letters, digits or "-", in lower case; not "p".
	Name string `yaml:"name" required:"true"`
	// Issuer is the provider's issuer URL, exactly as its discovery document and tokens write it. https, or http on a loopback name.
	Issuer string `yaml:"issuer" required:"true"`
	// CAFile holds authorities, PEM, that may vouch for the provider's certificate beside those of the system. It is read again when it changes.
	CAFile string `yaml:"ca_file"`
	// Client is Gatehouse's registration at the provider. Without it nobody can sign in there.
	Client *Client `yaml:"client"`
	// Bearer accepts JWTs of this issuer as bearer tokens.
	Bearer *Bearer `yaml:"bearer"`
	// Claims says in which claims identities are found, as member name or JSON Pointer.
	Claims Claims `yaml:"claims"`
	// EmailVerified says when an e-mail address counts: "claim" when the provider says that it is verified, "trust" also when it says nothing. One that does not count opens nothing and is not sent to the application. Trust only a provider that lets nobody choose an address freely.
	EmailVerified string `yaml:"email_verified" default:"claim" oneof:"claim trust"`
	// Algorithms are the signatures that tokens of this issuer may have.
	Algorithms []string `yaml:"algorithms" default:"RS256" oneof:"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"`
	// AuthorizationParams are added to the authorization request, for example {acr_values: mfa}. None of Gatehouse's own can be replaced.
	AuthorizationParams map[string]string `yaml:"authorization_params"`
	// Userinfo asks the userinfo endpoint at login, for providers that give groups only there.
	Userinfo bool `yaml:"userinfo"`
	// Skew is how far the provider's clock may differ from ours.
	Skew time.Duration `yaml:"skew" default:"60s" zero:"ok"`
}

// Client is a registration at a provider. Its redirect URIs are https://HOST/oauth2/callback for every host with a login; with login_url there is one, LOGIN_URL/oauth2/callback. Post-logout redirect URIs are the same with signed_out in the place of callback; the back-channel logout URI is LOGIN_URL/oauth2/backchannel-logout.
type Client struct {
	// ID is the client id.
	ID string `yaml:"id" required:"true"`
	// SecretFile holds the client secret. It is read again at every use.
	SecretFile string `yaml:"secret_file"`
	// AuthMethod is how the client proves itself. "none" is a public client, without a secret.
	AuthMethod string `yaml:"auth_method" default:"client_secret_basic" oneof:"client_secret_basic client_secret_post none"`
	// Scopes are asked for at login; openid is always added.
	Scopes []string `yaml:"scopes" default:"openid email profile"`
	// MaxAge makes the provider ask for the password again when the user typed it longer ago. Not asked when left out.
	MaxAge time.Duration `yaml:"max_age"`
}

// Bearer says which JWTs of an issuer are accepted.
type Bearer struct {
	// Audiences are ours: one of them must be in the token's aud.
	Audiences []string `yaml:"audiences" required:"true"`
	// AlsoIssuers are other names of the same issuer that tokens may carry as iss, for a move from one issuer URL to another: they are verified with the same keys, and rules and logs see issuer. Without a client the discovery document may be written under one of them, too.
	AlsoIssuers []string `yaml:"also_issuers"`
	// MaxLifetime refuses tokens that are made to live longer, from iat to exp. Not limited when left out.
	MaxLifetime time.Duration `yaml:"max_lifetime"`
	// MaxTokenAge refuses tokens that were issued longer ago, whatever their exp says; iat is required then. Not limited when left out.
	MaxTokenAge time.Duration `yaml:"max_token_age"`
	// RFC9068 takes only tokens that say by their type at+jwt and by all required claims of RFC 9068 that they are access tokens.
	RFC9068 bool `yaml:"rfc9068"`
	// JWKSURL is where the issuer's key set is, for an issuer without discovery. https, or http on a loopback name.
	JWKSURL string `yaml:"jwks_url"`
	// TokenFile holds a bearer token that is sent to the issuer when its discovery document and its keys are read, such as a projected Kubernetes service account token. It is read again at every use.
	TokenFile string `yaml:"token_file"`
	// Keys verify tokens without asking the issuer: no network is needed. Without them the issuer's key set is fetched.
	Keys []Key `yaml:"keys"`
	// InsecureAcceptLoginTokens accepts tokens issued for a login client as bearer tokens although rules forward users' tokens: an application that received one could use it elsewhere in the user's name.
	InsecureAcceptLoginTokens bool `yaml:"insecure_accept_login_tokens"`
}

// Key is a verification key: exactly one of pem_file, jwk_file, pem and jwk.
type Key struct {
	// Kid is the key id that tokens name in their header.
	Kid string `yaml:"kid" required:"true"`
	// Alg is the one algorithm that the key is used with.
	Alg string `yaml:"alg" required:"true" oneof:"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"`
	// PEMFile holds the public key or certificate, PEM. It is read again when it changes.
	PEMFile string `yaml:"pem_file"`
	// JWKFile holds one public key as JWK. It is read again when it changes.
	JWKFile string `yaml:"jwk_file"`
	// PEM is the public key or certificate itself, PEM, as a block of text (|).
	PEM PEM `yaml:"pem"`
	// JWK is the public key itself, for example {kty: EC, crv: P-256, x: …, y: …}.
	JWK map[string]string `yaml:"jwk"`
}

// Claims says in which claims identities are found: the name of a member, or a JSON Pointer such as /realm_access/roles.
type Claims struct {
	// User becomes X-Auth-Request-User.
	User string `yaml:"user" default:"sub"`
	// Email becomes X-Auth-Request-Email.
	Email string `yaml:"email" default:"email"`
	// EmailVerified says whether the address is verified.
	EmailVerified string `yaml:"email_verified" default:"email_verified"`
	// PreferredUsername becomes X-Auth-Request-Preferred-Username.
	PreferredUsername string `yaml:"preferred_username" default:"preferred_username"`
	// Groups becomes X-Auth-Request-Groups.
	Groups string `yaml:"groups" default:"groups"`
}

// Sessions says how sign-ins are kept.
type Sessions struct {
	// Store is where sessions live. Changes need a restart.
	Store *Store `yaml:"store"`
	// IdleTimeout ends a session that was not used for so long.
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"1h"`
	// AbsoluteTimeout ends every session so long after its sign-in.
	AbsoluteTimeout time.Duration `yaml:"absolute_timeout" default:"12h"`
	// NotBefore ends every session that is older, a time such as 2026-01-02T15:04:05Z. It also ends those that a restored store brings back.
	NotBefore time.Time `yaml:"not_before"`
	// StoreGrace is how long a session that was proven alive last may be served while the store is unreachable. 0s refuses at once.
	StoreGrace time.Duration `yaml:"store_grace" default:"10s" zero:"ok"`
	// ProviderGrace is how long a session may outlive its access token while the provider cannot be asked; never where the application receives that token.
	ProviderGrace time.Duration `yaml:"provider_grace" default:"5m" zero:"ok"`
	// CacheMiB bounds the sessions that each replica keeps opened in memory, so that most requests need no store. 0 asks the store for every request.
	CacheMiB int `yaml:"cache_mib" default:"64" zero:"ok"`
	// KeyFiles are the sealing keys, made by "gatehouse keys new", as file names or patterns with *. They are read again when they change. Required with redis; with memory a key is made at start.
	KeyFiles []string `yaml:"key_files"`
	// ActivationDelay is how long after its creation a key begins to seal, so that it has reached every replica by then.
	ActivationDelay time.Duration `yaml:"activation_delay" default:"5m" zero:"ok"`

	// Hosts are the hosts below wildcard hosts that people sign in on, exact names or origins; hosts that a rule names need no entry. Needs login_url. Sessions are handed over to exact hosts only: a dangling name below a wildcard could fetch one otherwise.
	Hosts []string `yaml:"hosts"`
	// WithoutRefreshToken says what becomes of a session for which the provider gave no refresh token: "keep" lets it live to its own limits with the claims of its login, "reauthenticate" ends it with its access token, when the provider says when that ends.
	WithoutRefreshToken string `yaml:"without_refresh_token" default:"keep" oneof:"keep reauthenticate"`
}

// Store is where sessions live: exactly one of its keys.
type Store struct {
	// Memory keeps sessions in this one process. A restart signs everybody out, and a second replica knows nothing of them.
	Memory *Memory `yaml:"memory"`
	// Redis keeps sessions in Redis or Valkey, for any number of replicas.
	Redis *Redis `yaml:"redis"`
}

// Memory is a store in this process.
type Memory struct {
	// SizeMiB bounds what it holds; 64 MiB are some 20,000 sessions. When it is full new logins are refused; live sessions are never dropped.
	SizeMiB int `yaml:"size_mib" default:"64"`
}

// Redis is a store in Redis or Valkey: one server (addresses), a Cluster (addresses and cluster), or a group of servers with Sentinels (sentinel). Every question goes to a master.
type Redis struct {
	// Addresses is the server's host:port, or those of some nodes of a Cluster. Not with sentinel.
	Addresses []string `yaml:"addresses"`
	// Cluster says that the addresses are nodes of a Cluster; the others are found.
	Cluster bool `yaml:"cluster"`
	// Sentinel finds the master of a group of servers, also after a failover.
	Sentinel *Sentinel `yaml:"sentinel"`
	// Username is the ACL user. Needs password_file.
	Username string `yaml:"username"`
	// UsernameFile holds the ACL user, instead of username. It is read again for every new connection.
	UsernameFile string `yaml:"username_file"`
	// PasswordFile holds the password. It is read again for every new connection. To change it without a refusal let the server accept both (ACL SETUSER name >new), replace the file at every replica, then take the old one away (<old).
	PasswordFile string `yaml:"password_file"`
	// DB is the number of the database. A Cluster has only 0.
	DB int `yaml:"db" default:"0" zero:"ok"`
	// KeyPrefix begins the name of every key.
	KeyPrefix string `yaml:"key_prefix" default:"gh:"`
	// TLS encrypts connections to the servers and to the Sentinels. {} checks their certificates against the system's authorities.
	TLS *RedisTLS `yaml:"tls"`
	// PoolSize is how many connections there may be, to each server of a Cluster; 10 for each CPU when left out. One more listens for endings.
	PoolSize int `yaml:"pool_size"`
	// MinIdle is how many idle connections are kept, to each server of a Cluster. None are made ahead when left out.
	MinIdle int `yaml:"min_idle"`
	// DialTimeout bounds making a connection, with TLS.
	DialTimeout time.Duration `yaml:"dial_timeout" default:"500ms"`
	// Timeout bounds one command; it is tried twice. A Check waits no longer than check_timeout in any case.
	Timeout time.Duration `yaml:"timeout" default:"500ms"`
}

// Sentinel finds the master of a group of Redis servers.
type Sentinel struct {
	// Master is the name that the Sentinels know the group by.
	Master string `yaml:"master" required:"true"`
	// Addresses are host:port of some of the Sentinels; the others are found.
	Addresses []string `yaml:"addresses" required:"true"`
	// Username is the ACL user at the Sentinels. Needs password_file.
	Username string `yaml:"username"`
	// UsernameFile holds the ACL user, instead of username. It is read again for every new connection.
	UsernameFile string `yaml:"username_file"`
	// PasswordFile holds the password of the Sentinels, which is not that of the servers. It is read again for every new connection.
	PasswordFile string `yaml:"password_file"`
}

// RedisTLS is TLS towards Redis, version 1.2 or newer. The files are read again for every new connection.
type RedisTLS struct {
	// CAFile holds the authorities that the server's certificate is checked against, PEM, instead of those of the system.
	CAFile string `yaml:"ca_file"`
	// CertFile is our client certificate, PEM.
	CertFile string `yaml:"cert_file"`
	// KeyFile is its private key, PEM.
	KeyFile string `yaml:"key_file"`
	// ServerName is the name in the server's certificate, when it is not the host of its address.
	ServerName string `yaml:"server_name"`
}

// Rule says who may pass on some hosts and paths. It has either allow: anonymous, or login or bearer (or both) with require.
type Rule struct {
	// Name is how logs and metrics call the rule: letters, digits, "-", "_" and ".".
	Name string `yaml:"name" required:"true"`
	// Hosts are exact names, *.example.com for every name below, or an origin such as http://app.localhost:10000 where it is not https on 443.
	Hosts []string `yaml:"hosts" required:"true"`
	// Paths are exact, or end in /** for a path and everything below it. All paths when left out. There are no regular expressions.
	Paths []string `yaml:"paths"`
	// Methods are HTTP methods in upper case. All methods when left out.
	Methods []string `yaml:"methods"`
	// Allow is "anonymous": everybody may pass and nobody is recognised.
	Allow string `yaml:"allow" oneof:"anonymous"`
	// Login is the provider where browsers sign in, or a list of providers that they can choose from. Each has a session of its own; the first that may pass counts.
	Login Names `yaml:"login"`
	// Bearer are the providers whose bearer tokens are accepted. A bearer token is judged before a session.
	Bearer []string `yaml:"bearer"`
	// Audience narrows the audiences of bearer tokens for this rule.
	Audience []string `yaml:"audience"`
	// Require says who of those who were recognised may pass. "any_user" is everybody the provider knows.
	Require Require `yaml:"require"`
	// Forward says what the application receives beside the usual identity headers: tokens, headers made of claims, and which of the groups.
	Forward *Forward `yaml:"forward"`
	// Overrides names rules of a wildcard host that this rule hides on purpose although they are stricter.
	Overrides []string `yaml:"overrides"`
}

// Forward says what the application receives beside the usual identity headers. No more than 100 headers and 60 KiB in all may reach it: what goes beyond is refused with 403 headers_too_large, never cut.
type Forward struct {
	// AccessToken is sent as X-Auth-Request-Access-Token. Needs login.
	AccessToken bool `yaml:"access_token"`
	// IDToken is sent as Authorization: Bearer. Needs login.
	IDToken bool `yaml:"id_token"`
	// Headers are headers made of claims, by name: text in which {claim} stands for a claim (member name or JSON Pointer), for example {X-Team: "{team}", X-Tenant: "{/org/id}/{team}"}. A claim is a text, a number or a bool; one that is a list needs a header of its own, joined as groups are. Where a claim is missing the header is not sent. Values are percent-encoded (control and non-ASCII bytes, %, a space at either end, and the first character of the text between two claims). Headers of these names are removed from every request that any rule allows.
	Headers map[string]string `yaml:"headers"`
	// Groups are those that the application learns of, * stands for any run of characters. All when left out. What the rule requires is not affected.
	Groups []string `yaml:"groups"`
}

// Conditions must all hold. The values in a list are alternatives. What cannot be evaluated, because a claim is missing or of another type, does not hold, also under not.
type Conditions struct {
	// Provider is the provider that recognised the user. Needed beside groups, emails, email_domains, subjects, claims, scopes and cel when the rule has several.
	Provider string `yaml:"provider"`
	// AnyUser holds for everybody whom the provider knows.
	AnyUser bool `yaml:"any_user"`
	// Groups holds for members of one of them.
	Groups []string `yaml:"groups"`
	// Emails holds for these verified addresses.
	Emails []string `yaml:"emails"`
	// EmailDomains holds for verified addresses in these domains; *.example.com is every domain below.
	EmailDomains []string `yaml:"email_domains"`
	// Subjects holds for these values of sub; * stands for any run of characters.
	Subjects []string `yaml:"subjects"`
	// Claims holds when every named claim (member name or JSON Pointer) has one of the values, or is a list that contains one.
	Claims map[string]Values `yaml:"claims"`
	// Scopes holds for a token with one of these scopes: exact tokens of the claim scope, a text with spaces between them or a list.
	Scopes []string `yaml:"scopes"`
	// Peer holds for callers whose certificate Envoy verified, in addition to who they sign in as.
	Peer *Peer `yaml:"peer"`
	// CEL holds when this expression is true (https://cel.dev). It reads request.method, request.host, request.path and request.headers (what the client sent, names in lower case); identity.provider, .issuer, .subject, .user, .email (if verified), .email_verified, .preferred_username, .groups and .audience; claims; peer.principal. Functions are the standard ones without matches, macros are has, all, exists and exists_one. What is not known has no value: whatever needs it does not hold, and neither does its opposite. This includes a path that applications could read in two ways.
	CEL *Expression `yaml:"cel"`
	// All are conditions that must all hold.
	All []Conditions `yaml:"all"`
	// Any are conditions of which one must hold.
	Any []Conditions `yaml:"any"`
	// Not are conditions that, taken together, must not hold. Somebody of whom it is not known whether they hold does not pass: not: {groups: [guests]} also shuts out those whose groups nobody knows.
	Not *Conditions `yaml:"not"`
}

// Peer says which workloads may call.
type Peer struct {
	// SPIFFE are the ids in the certificates of callers, for example spiffe://cluster.local/ns/web/sa/*. The trust domain is exact; * stands for any run of characters within one segment of the path.
	SPIFFE []string `yaml:"spiffe" required:"true"`
}

// Log is what is written to standard error.
type Log struct {
	// Level is the least severity that is written.
	Level string `yaml:"level" default:"info" oneof:"debug info warn error"`
	// Access says which Checks get a line: all, denied (everything but an allow), or none.
	Access string `yaml:"access" default:"all" oneof:"all denied none"`
}

// Tracing sends traces to an OpenTelemetry collector.
type Tracing struct {
	// OTLPEndpoint is the collector's gRPC address, for example http://otel-collector:4317; http is plain text.
	OTLPEndpoint string `yaml:"otlp_endpoint" required:"true"`
	// Sample is the share of Checks that are traced when Envoy did not decide, from 0 to 1. Envoy's decision wins.
	Sample float64 `yaml:"sample" default:"1"`
	// ServiceName is how Gatehouse is called in traces.
	ServiceName string `yaml:"service_name" default:"gatehouse"`
}

// Probe asks every protected host through its real front door as nobody, with garbage and with a token that no rule accepts. Whatever is not a refusal is logged as an error and shows in the metric gatehouse_probe_failed. Hosts behind a wildcard are not asked.
type Probe struct {
	// Interval is the time between two rounds.
	Interval time.Duration `yaml:"interval" default:"30s"`
	// Timeout bounds one request.
	Timeout time.Duration `yaml:"timeout" default:"5s"`
	// CAFile holds the authorities that certificates of the hosts are checked against, PEM, instead of those of the system.
	CAFile string `yaml:"ca_file"`
	// TokenFile holds a bearer token for another audience, which no rule accepts. It is read again for every round.
	TokenFile string `yaml:"token_file"`
	// Connect is where to connect to instead of host:port, for front doors that names do not resolve to from here.
	Connect map[string]string `yaml:"connect"`
}

// Shutdown says how a process that was told to end (SIGTERM) takes its leave: it reports NOT_SERVING, pauses, finishes what it began, and stops. A second signal stops it at once.
type Shutdown struct {
	// Pause is how long it goes on serving after NOT_SERVING, until every Envoy has noticed.
	Pause time.Duration `yaml:"pause" default:"5s" zero:"ok"`
	// Timeout bounds finishing: Checks in flight, requests, logins that talk to a provider.
	Timeout time.Duration `yaml:"timeout" default:"20s"`
}
