#!/bin/sh
# Regenerates everything that is generated: Go code from proto/. Running it twice changes nothing; `make verify` runs it
# and fails if the tree changed. buf is pinned in scripts/tools.mod (it needs a newer protobuf than the one we release
# with, hence its own module file); protoc-gen-go and protoc-gen-connect-go come from go.mod itself, so that generator
# and runtime cannot drift apart.
set -eu
cd "$(dirname "$0")/.."

export GOFLAGS=-mod=readonly
go build -modfile=scripts/tools.mod -o bin/buf github.com/bufbuild/buf/cmd/buf
go build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go

cd proto
../bin/buf lint
../bin/buf generate
