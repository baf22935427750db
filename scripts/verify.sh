#!/usr/bin/env bash
# Proves that what is generated or formatted is current: runs the generators in a copy of the tree and compares.
set -eu -o pipefail
cd "$(dirname "$0")/.."
faults=0
complain() { printf '%s\n' "$1" >&2; faults=1; }

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C "$copy"
(cd "$copy" && scripts/generate.sh)
diff -r -q proto "$copy/proto" || complain "generated code is not current: run make generate and commit what changes"

unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | grep -v '\.connect\.go$' | xargs go tool -modfile=scripts/tools.mod gofumpt -l)
[[ -z $unformatted ]] || complain "not formatted (gofumpt -w): $unformatted"

go mod tidy -diff >/dev/null || complain "go.mod or go.sum is not tidy: run go mod tidy"
go mod verify >/dev/null || complain "a module differs from go.sum"
go vet ./... || complain "go vet"
[[ $faults -eq 0 ]] && echo "verify: generated code, formatting and go.mod are current"
exit "$faults"
