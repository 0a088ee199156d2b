#!/bin/sh
# Writes the Go code beside each .proto. Needs buf and protoc-gen-go (versions
# below) on the PATH, and no network.
set -eu
cd "$(dirname "$0")"
want="protoc-gen-go v1.36.12"
got=$(protoc-gen-go --version) || { echo "$want is not on the PATH: go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12" >&2; exit 1; }
test "$got" = "$want" || { echo "found $got, want $want" >&2; exit 1; }
buf --version >/dev/null || { echo "buf (v1.75.0) is not on the PATH: go install github.com/bufbuild/buf/cmd/buf@v1.75.0" >&2; exit 1; }
buf lint
buf generate
