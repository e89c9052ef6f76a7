#!/usr/bin/env bash
# Builds the client, its examples and tests into dist/; exits with 3 where the tool chain is absent.
set -euo pipefail
cd "$(dirname "$0")"
command -v npm >/dev/null || { echo "node 20 and npm are missing; run: sudo apt-get install nodejs npm" >&2; exit 3; }
if ! cmp -s package-lock.json node_modules/.forebay-lock; then
  npm ci --silent >&2
  cp package-lock.json node_modules/.forebay-lock
fi
node_modules/.bin/tsc
