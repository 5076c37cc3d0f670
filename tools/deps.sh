#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Chimney needs to build, run its demo and run its tests, from Debian's packages.
# Does nothing, quickly, when everything is there.
set -eu
packages=(
    build-essential pkg-config meson ninja-build     # build
    clang llvm bpftool libbpf-dev libelf-dev zlib1g-dev libxdp-dev # BPF and AF_XDP
    libclang-rt-14-dev                               # fuzzers
    libmnl-dev libnetfilter-conntrack-dev            # routes, neighbors, connection tracking
    libpcap-dev libjansson-dev                       # selectors, JSON
    libcmocka-dev                                    # unit tests
    iproute2 ethtool nftables tcpdump procps python3 # the lab
    libssl-dev librsvg2-bin fonts-dejavu-core        # the demo: SHA-256, the picture
    clang-format                                     # the style check
)
missing=()
for p in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "chimney: run as root, or install these first: ${missing[*]}" >&2
    exit 1
fi
echo "chimney: installing ${#missing[@]} Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "chimney: apt-get failed; the whole output is in $log" >&2
    exit 1
}
rm -f "$log"
