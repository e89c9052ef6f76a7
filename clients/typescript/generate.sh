#!/usr/bin/env bash
# Regenerates src/gen from the contract, and src/service_config.ts from clients/service_config.json; needs no network.
# The plugin comes with `npm ci`, protoc and google.rpc's protos with the repository's .venv (make dev).
set -euo pipefail
cd "$(dirname "$0")"
root=../..
python="$root/.venv/bin/python"
plugin=node_modules/.bin/protoc-gen-es
[ -x "$plugin" ] || { echo "error: $plugin is missing; run: npm ci" >&2; exit 1; }
[ -x "$python" ] || { echo "error: $python is missing; run: make dev" >&2; exit 1; }
google=$("$python" -c 'import google.rpc, pathlib; print(pathlib.Path(list(google.rpc.__path__)[0]).parents[1])')
rm -rf src/gen
mkdir -p src/gen
"$python" -m grpc_tools.protoc --plugin="protoc-gen-es=$plugin" -I"$root/protos" -I"$google" \
  --es_out=src/gen --es_opt=target=ts,import_extension=js \
  $(cd "$root/protos" && find lmaas -name '*.proto' | sort) google/rpc/status.proto google/rpc/error_details.proto
{
  echo '// Made by generate.sh from clients/service_config.json.'
  echo
  echo '/** gRPC'"'"'s service config: every write carries an id that makes it safe to repeat, so one policy serves all methods. */'
  printf 'export const SERVICE_CONFIG = `%s`;\n' "$(cat ../service_config.json)"
} > src/service_config.ts
