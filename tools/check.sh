#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests: unit, fuzz, simulation and lab on the plain build; unit, fuzz and simulation under
# ASan and UBSan; style; contract coverage.  Ends with one line of counts.
set -u
build=$1 san=$2
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here" || exit 1
failed=0 passed=0 skipped=0
logs=$build/check
mkdir -p "$logs"

# Runs one meson suite selection and adds its counts.
suite() { # name, build folder, meson test arguments
    local name=$1 dir=$2
    shift 2
    local log=$logs/$name.log start=$SECONDS
    echo "== $name"
    meson test -C "$dir" --no-rebuild --print-errorlogs "$@" >"$log" 2>&1
    local ok fail skip
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log" | tail -n 1)
    fail=$(awk '/^(Fail|Timeout|Unexpected Pass): /{n += $NF} END{print n + 0}' "$log")
    skip=$(sed -n 's/^Skipped: *\([0-9]*\).*/\1/p' "$log" | tail -n 1)
    if [ -z "$ok" ]; then
        tail -n 40 "$log"
        echo "   $name: the test runner did not finish; the log is $log"
        failed=$((failed + 1))
        return
    fi
    [ "$fail" -gt 0 ] && grep -vE '^(ninja|Entering)' "$log" | tail -n 150
    passed=$((passed + ok)) failed=$((failed + fail)) skipped=$((skipped + ${skip:-0}))
    echo "   $name: $ok passed, $fail failed, ${skip:-0} skipped ($((SECONDS - start)) s)"
}

# One check that is not a meson test.
single() { # name, command...
    local name=$1
    shift
    echo "== $name"
    if "$@" >"$logs/$name.log" 2>&1; then
        passed=$((passed + 1))
        tail -n 1 "$logs/$name.log" | sed 's/^/   /'
    else
        failed=$((failed + 1))
        tail -n 40 "$logs/$name.log"
        echo "   $name: failed"
    fi
}

suite fast "$build" --suite unit --suite fuzz --num-processes 2
suite sim "$build" --suite sim --num-processes 2
suite lab "$build" --suite lab --num-processes 1

test -f "$san/build.ninja" || meson setup "$san" -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
single sanitizer-build ninja -C "$san"
suite fast-sanitized "$san" --suite unit --suite fuzz --num-processes 2
suite sim-sanitized "$san" --suite sim --num-processes 2

single style bash -c 'git ls-files "*.c" "*.h" | xargs clang-format --dry-run -Werror && echo "clang-format: clean"'
single coverage bash -c 'tools/contract-coverage.py --check A B C E F G H I J C357-C364 && git diff --exit-code --stat docs/contract-coverage.md && echo "docs/contract-coverage.md is current"'

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
