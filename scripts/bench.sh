#!/usr/bin/env bash
# Figures as ratios of one run: the hot paths alone, links with 1 GiB each way beside bare TLS, the whole path beside the bare
# application, and 200 people for a minute. Takes about five minutes on two cores; nothing else should run meanwhile.
set -eu -o pipefail
cd "$(dirname "$0")/.."

# bench runs benchmarks and leaves out what go test says around them; it fails as they do.
bench() {
  go test -run '^$' -timeout 10m "$@" | sed -uE '/^(goos|goarch|cpu|PASS|ok|\?)/d; s/^pkg: .*\/pkg\//\n/'
}

echo "== hot paths"
bench -bench . -benchtime 200ms -benchmem ./pkg/urlpath ./pkg/wire ./pkg/exchange ./pkg/token ./pkg/access ./pkg/audit \
  ./pkg/route ./pkg/registry ./pkg/proxy ./pkg/ingress
echo
echo "== links: a stream opened, 1 KiB each way, ended"
bench -bench './open' -benchtime 5000x -benchmem ./pkg/tunnel/quiclink ./pkg/tunnel/wslink
echo
echo "== links: bytes"
bench -bench './(edge|connector|calibration)' -benchtime 1x ./pkg/tunnel/quiclink ./pkg/tunnel/wslink
echo
echo "== the whole path"
bench -bench . -benchtime 1x ./pkg/edgetest
