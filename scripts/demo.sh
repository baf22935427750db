#!/usr/bin/env bash
# Builds the programs and runs the demo; flags go to scripts/demo (see -help there).
set -eu -o pipefail
cd "$(dirname "$0")/.."
mkdir -p bin
echo "building …"
CGO_ENABLED=0 go build -o bin/ ./cmd/edge ./cmd/connector ./scripts/demo ./testdata/smtpsink ./testdata/standin
exec bin/demo "$@"
