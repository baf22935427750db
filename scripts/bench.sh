#!/usr/bin/env bash
# Figures as ratios of one run: the hot paths alone, links with 1 GiB each way, the whole path beside the bare application, and
# 200 people for a minute. Beside each stands a calibration row. Takes about ten minutes.
set -eu -o pipefail
cd "$(dirname "$0")/.."
echo "== hot paths"
go test -run '^$' -bench . -benchtime 200ms -benchmem ./pkg/urlpath ./pkg/wire ./pkg/exchange ./pkg/token ./pkg/access ./pkg/audit \
  ./pkg/route ./pkg/registry ./pkg/proxy ./pkg/ingress
echo "== links"
go test -run '^$' -bench . -benchtime 1x ./pkg/tunnel/...
echo "== the whole path"
go test -run '^$' -bench . -benchtime 1x -timeout 20m ./pkg/edgetest
