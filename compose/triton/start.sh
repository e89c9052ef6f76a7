#!/usr/bin/env bash
# Start one Triton on this machine's loopback address and become it: the pid of this script is the server's.
#
#   compose/triton/start.sh [--model-repository DIR] --http-port N --grpc-port N --metrics-port N
#                           [--load-model NAME]... [further tritonserver flags]
#
# Models are loaded explicitly: by --load-model here, or later through the model repository API. A flag given twice counts
# the last time, so any default below can be overridden. FOREBAY_TRITON_DIR names the installation (default: .triton in
# the repository root, made by install.sh).
#
# SIGTERM ends the server after the requests in flight. One that still answers 30 s later breaks off and may hang in its
# own exit: whoever stops a server drains it first and sends SIGKILL in the end; its models end within 20 s of that.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${FOREBAY_TRITON_DIR:-$here/../../.triton}

site=$(echo "$root"/lib/python3.*/site-packages)
server=$site/pytriton/tritonserver
[ -x "$server/bin/tritonserver" ] || { echo "start.sh: no Triton in $root; run compose/triton/install.sh first" >&2; exit 1; }

arguments=()
repository=(--model-repository "$here/models")
while [ $# -gt 0 ]; do
    case $1 in
        --model-repository) repository=(--model-repository "$2"); shift 2 ;;
        *) arguments+=("$1"); shift ;;
    esac
done

# Python models talk to the server through shared memory. The names carry the pid, so that servers on one machine do not
# meet and what a killed server leaves behind is known by its dead owner.
prefix=forebay_triton_
for region in /dev/shm/${prefix}*; do
    owner=${region#/dev/shm/$prefix}
    owner=${owner%%_*}
    if [ -e "$region" ] && [ ! -d "/proc/$owner" ]; then rm -f "$region"; fi
done

export LD_LIBRARY_PATH=$site/nvidia_pytriton.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# The embedded Python of a model ignores this variable; model.py reads its packages' folder from it.
export PYTHONPATH=$site

# --exit-on-error=false: one model that fails to load does not take the others down.
# The metrics configuration turns on latency quantiles, which are off by default.
exec "$server/bin/tritonserver" "${repository[@]}" \
    --backend-directory "$root/backends" --cache-directory "$server/caches" \
    --model-control-mode=explicit --exit-on-error=false --exit-timeout-secs 30 \
    --http-address 127.0.0.1 --grpc-address 127.0.0.1 --metrics-address 127.0.0.1 \
    --backend-config=python,shm-default-byte-size=16777216 --backend-config=python,shm-region-prefix-name=$prefix$$_ \
    --metrics-interval-ms 500 --metrics-config summary_latencies=true --metrics-config histogram_latencies=true \
    "${arguments[@]}"
