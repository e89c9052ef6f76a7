#!/usr/bin/env bash
# Builds the Go client's examples into .build/bin, offline, against Debian's gRPC; `build.sh check` checks and tests it too.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
if ! command -v go >/dev/null || [ ! -d /usr/share/gocode/src/google.golang.org/grpc ]; then
  echo "error: Go or its gRPC is missing; run: compose/tools.sh go" >&2
  exit 3
fi
# Debian's packages have no module cache: the folder is found as a path of a GOPATH instead.
mkdir -p .build/bin .build/gopath/src/forebay.dev
ln -sfn "$here" .build/gopath/src/forebay.dev/client-go
export GO111MODULE=off GOPATH="$here/.build/gopath:/usr/share/gocode" GOFLAGS= HOME="${HOME:-$here/.build}"
cd .build/gopath/src/forebay.dev/client-go
go build -o "$here/.build/bin/" ./examples/...
if [ "${1:-}" = check ]; then
  badly=$(gofmt -l ./*.go examples)
  [ -z "$badly" ] || { echo "error: gofmt would change: $badly" >&2; exit 1; }
  go vet . ./examples/...
  # grpc-go 1.33 retries only when it is told to.
  GRPC_GO_RETRY=on go test -timeout 180s .
fi
