#!/usr/bin/env bash
# Installs what some clients and tests need and a plain machine lacks: compose/tools.sh NAME…, on Debian 12. What is there
# already costs no time. One function a tool; its comment says what needs it.
set -euo pipefail

# clients/go: compiler, plugins of protoc, and gRPC with what it needs as sources
go() {
  packages golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev golang-google-protobuf-dev \
    protobuf-compiler protoc-gen-go protoc-gen-go-grpc
}

# clients/java: compiler, plugins of protoc, gRPC with what it needs, JUnit
java() {
  packages openjdk-17-jdk-headless libgrpc-java libnetty-java libnetty-tcnative-java libperfmark-java libprotobuf-java \
    libguava-java libgoogle-gson-java libgeronimo-annotation-1.3-spec-java liberror-prone-java junit5 \
    protobuf-compiler protobuf-compiler-grpc-java-plugin
}

# the plugin of Dynamo's planner: the planner itself, beside our packages and not among them
dynamo() {
  [ -d .tools/dynamo/dynamo ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --target .tools/dynamo ai-dynamo==1.6.1 msgspec==0.22.0
}

# tests/integration/test_page_browser.py, benchmarks/page.py: the live page in a browser, with a font
chromium() {
  packages chromium fonts-dejavu-core
}

# tests/integration/test_boards.py: the boards' and alerts' queries, and promtool, which tests the alerts
prometheus() {
  packages prometheus
}

packages() {
  local missing=()
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

tools=$(declare -F | awk '{print $3}' | grep -vx -e packages -e as_root)
[ $# -gt 0 ] || { echo "usage: compose/tools.sh NAME…, of:" $tools >&2; exit 2; }
for tool in "$@"; do
  grep -qx -- "$tool" <<<"$tools" || { echo "error: no tool is named '$tool'; there are:" $tools >&2; exit 2; }
  "$tool"
done
