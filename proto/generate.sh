#!/bin/sh
# Writes the Go code beside each .proto. Needs buf and the plugins (versions
# below) on the PATH, and no network.
set -eu
cd "$(dirname "$0")"
need() { # need PLUGIN VERSION PACKAGE
	got=$("$1" --version) || { echo "$1 $2 is not on the PATH: go install $3/cmd/$1@$2" >&2; exit 1; }
	test "v${got##*[ v]}" = "$2" || { echo "found $got, want $1 $2" >&2; exit 1; }
}
need protoc-gen-go v1.36.12 google.golang.org/protobuf
need protoc-gen-go-grpc v1.6.2 google.golang.org/grpc
buf --version >/dev/null || { echo "buf (v1.75.0) is not on the PATH: go install github.com/bufbuild/buf/cmd/buf@v1.75.0" >&2; exit 1; }
buf lint
buf generate
