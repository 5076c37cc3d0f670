#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo (tools/demo.py) on a build folder.  RATE=0 lets every connection send as fast as it can.
set -eu
build=${1:?usage: tools/demo.sh BUILD}
exec python3 -B "$(dirname "$0")/demo.py" "$build"
