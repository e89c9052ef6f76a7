#!/usr/bin/env bash
# Generates the stubs in lmaas/ from the contract, offline, with Debian's protoc and its Go plugins.
set -euo pipefail
cd "$(dirname "$0")"
for tool in protoc protoc-gen-go protoc-gen-go-grpc; do
  command -v $tool >/dev/null || { echo "error: $tool is missing; run: compose/tools.sh go" >&2; exit 3; }
done
protos=../../protos
module=forebay.dev/client-go
names=()
options=()
for file in "$protos"/lmaas/*/v1/*.proto; do
  name=${file#"$protos"/}
  folder=${name%/*}
  service=${folder#lmaas/}
  # The contract names no language's packages, so each file's is told here.
  options+=("--go_opt=M$name=$module/$folder;${service%%/*}v1" "--go-grpc_opt=M$name=$module/$folder;${service%%/*}v1")
  names+=("$name")
done
rm -rf lmaas
protoc -I"$protos" --go_out=. --go_opt=module=$module --go-grpc_out=. --go-grpc_opt=module=$module "${options[@]}" \
  "${names[@]}"
