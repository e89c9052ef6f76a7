#!/usr/bin/env bash
# Makes the images that the tests in containers run, where nothing can be pulled: a base of Debian's own packages, ours
# from compose/Dockerfile, the same again as a newer version, and a stand-in for the official PostgreSQL.
#
#   tests/containers/images.sh
#
# Needs root and podman; what is missing is installed where apt-get is. The base is kept in ~/.cache/forebay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=(podman runc netavark aardvark-dns debootstrap)
suite=bookworm
base=localhost/forebay-base:$suite
tarball=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/$suite.tar
limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! podman image exists "$base"; then
    if [ ! -s "$tarball" ]; then
        echo "making the base image's files with debootstrap"
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$folder/root" >"$folder/log" \
            || { tail -20 "$folder/log" >&2; exit 1; }
        mkdir -p "$(dirname "$tarball")"
        tar -C "$folder/root" --exclude='./var/cache/apt/archives/*' --exclude='./var/lib/apt/lists/*' -cf "$folder/tar" .
        mv "$folder/tar" "$tarball"
    fi
    podman import -q --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$tarball" "$base" >/dev/null
fi

# What this machine trusts, and where it finds packages, holds inside the build too.
mounts=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
[ ! -e /etc/pip.conf ] || mounts+=(--volume /etc/pip.conf:/etc/pip.conf:ro)
build() {
    podman build --quiet --format docker --network host --runtime runc "${limits[@]}" "$@" >/dev/null
}
build "${mounts[@]}" --build-arg BASE="$base" -f compose/Dockerfile --target service --tag localhost/forebay:0.1.0 .
build --build-arg BASE=localhost/forebay:0.1.0 --label org.opencontainers.image.version=0.1.1 \
    --tag localhost/forebay:0.1.1 -f tests/containers/newer.Dockerfile tests/containers
build --build-arg BASE="$base" --tag localhost/forebay-postgres:15 -f tests/containers/postgres.Dockerfile tests/containers
podman images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep '^localhost/forebay'
