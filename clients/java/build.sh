#!/usr/bin/env bash
# Builds the Java client with its examples into .build, offline, against Debian's gRPC; `build.sh check` tests it too.
# What has not changed is not built again.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
libraries=(grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub protobuf guava gson
  perfmark-api netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-common netty-handler netty-resolver
  netty-transport netty-transport-native-unix-common geronimo-annotation-1.3-spec error-prone-annotations)
test_libraries=(junit-platform-console junit-platform-engine junit-platform-launcher junit-platform-commons
  junit-platform-reporting junit-jupiter-api junit-jupiter-engine junit-jupiter-params opentest4j
  opentest4j-reporting-events apiguardian-api picocli netty-tcnative)

jars() {
  local name
  for name in "$@"; do
    [ -e "/usr/share/java/$name.jar" ] || { echo "error: $name.jar is missing; run: compose/tools.sh java" >&2; return 3; }
    printf '/usr/share/java/%s.jar:' "$name"
  done
}

# Whether the files named on standard input, or the tools, have changed since `stamp` was last called with this name.
changed() {
  { xargs cat; protoc --version; javac -version; } | sha256sum >".build/$1.new"
  ! cmp -s ".build/$1.new" ".build/$1.sum"
}
stamp() { mv ".build/$1.new" ".build/$1.sum"; }

# The classes of some sources in a folder of their own; the rest is for javac.
compile() {
  local to=$1
  shift
  rm -rf "$to"
  mkdir -p "$to"
  javac -encoding UTF-8 --release 17 -proc:none -d "$to" "$@"
}

for tool in javac protoc grpc_java_plugin; do
  command -v $tool >/dev/null || { echo "error: $tool is missing; run: compose/tools.sh java" >&2; exit 3; }
done
path=$(jars "${libraries[@]}") || exit $?
mkdir -p .build
exec 9>.build/lock
flock 9 # one build at a time

if find ../../protos/lmaas -name '*.proto' | sort | changed stubs; then
  rm -rf .build/generated
  mkdir -p .build/generated
  protoc -I../../protos --java_out=.build/generated --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" \
    --grpc-java_out=.build/generated ../../protos/lmaas/*/v1/*.proto
  compile .build/stubs -nowarn -cp "$path" $(find .build/generated -name '*.java')
  rm -f .build/classes.sum .build/tests.sum
  stamp stubs
fi

if find src/main src/examples -name '*.java' | sort | changed classes; then
  compile .build/classes -Xlint:all -Werror -cp "$path.build/stubs" $(find src/main -name '*.java')
  compile .build/examples -Xlint:all -Werror -cp "$path.build/stubs:.build/classes" $(find src/examples -name '*.java')
  for name in scenario bench place; do
    printf '#!/bin/sh\nexec java -Xshare:auto -XX:TieredStopAtLevel=%s -cp "%s" dev.forebay.examples.%s "$@"\n' \
      "$([ $name = bench ] && echo 4 || echo 1)" "$path$here/.build/stubs:$here/.build/classes:$here/.build/examples" \
      "${name^}" >".build/$name"
    chmod +x ".build/$name"
  done
  rm -f .build/tests.sum
  stamp classes
fi

if [ "${1:-}" = check ]; then
  test_path="$path$(jars "${test_libraries[@]}").build/stubs:.build/classes:.build/tests" || exit $?
  if find src/test -name '*.java' | sort | changed tests; then
    compile .build/tests -Xlint:all,-path -Werror -cp "$test_path" $(find src/test -name '*.java')
    stamp tests
  fi
  # Debian's netty speaks HTTP/2 over TLS only by OpenSSL, whose library it looks for by another name than Debian's.
  mkdir -p .build/native
  cp /usr/lib/*/jni/libnetty-tcnative.so .build/native/libnetty_tcnative.so
  java -XX:TieredStopAtLevel=1 -Djava.library.path=.build/native -cp "$test_path" org.junit.platform.console.ConsoleLauncher --disable-banner \
    --details=summary --fail-if-no-tests --scan-classpath=.build/tests
fi
