#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The benchmarks of a build folder; bench/README.md says how to read them.
set -eu
build=${1:?usage: bench/run.sh BUILD}
exec python3 -B "$(dirname "$0")/idle.py" "$build"
