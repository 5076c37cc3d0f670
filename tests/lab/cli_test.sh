#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rows: C8 C357 C358 C361
# The chimney command as an operator uses it: usage errors, exit codes, the one line on stderr, and,
# where namespaces can be made, every command against a daemon with live connections.
#
#     namespace A: chimneyd, a program of libchimney          namespace B: plain kernel
#     ve0 10.9.0.1, fd09::1  ---------------------------------------  ve1 10.9.0.2, fd09::2
set -u
build=$1
chimney=$build/src/cli/chimney chimneyd=$build/src/daemon/chimneyd traffic=$build/tests/lab/traffic
dir=$(mktemp -d /tmp/chimney-cli.XXXXXX)
a=clia$$ b=clib$$
failed=0 passed=0 pids=()

cleanup() {
    # Traffic first: the daemon then has nothing left to bring home.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null
    done
    for pid in "${pids[@]}"; do
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null
    done
    ip netns del "$a" 2>/dev/null
    ip netns del "$b" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT

fail() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    sed 's/^/    out: /' "$dir/out" | head -n 20
    sed 's/^/    err: /' "$dir/err" | head -n 20
}

# expect CODE PATTERN arguments...: exit code, and a pattern in stdout (code 0) or in the one line of
# stderr (else).  A pattern beginning with "out:" is looked for in stdout whatever the code.
expect() {
    local code=$1 pattern=$2 file=$dir/err got
    shift 2
    timeout 60 "${in_a[@]}" "$chimney" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ "$code" = 0 ] && file=$dir/out
    case $pattern in out:*) pattern=${pattern#out:} file=$dir/out ;; esac
    if [ "$got" != "$code" ]; then
        fail "chimney $*: exit code $got, not $code"
    elif ! grep -qE -- "$pattern" "$file"; then
        fail "chimney $*: no '$pattern' in the output"
    elif [ "$code" != 0 ] && [ "$(wc -l <"$dir/err")" != 1 ]; then
        fail "chimney $*: $(wc -l <"$dir/err") lines on stderr, not 1"
    elif [ "$code" != 0 ] && ! grep -q '^chimney: ' "$dir/err"; then
        fail "chimney $*: the line does not begin with 'chimney: '"
    else
        passed=$((passed + 1))
    fi
}

# Evaluates a Python expression over the JSON on the last command's stdout, as j.
json() {
    if python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)' "$dir/out" "$1" 2>>"$dir/err"; then
        passed=$((passed + 1))
    else
        fail "JSON: not $1"
    fi
}

in_a=()
export CHIMNEY_RUNDIR=$dir/none

echo "== usage"
expect 2 'which command'
expect 2 "no command 'bogus'" bogus
expect 2 'unknown option --bogus' --bogus
expect 2 '--rundir needs a value' --rundir
for command in status list offload upload pause resume events doctor help version; do
    expect 0 "Usage: chimney $command" "$command" --help
    expect 0 "Usage: chimney $command" help "$command"
    expect 2 'unknown option --bogus.*chimney '"$command"' --help' "$command" --bogus
    expect 2 'unknown option -x' "$command" -x
    expect 2 '--rundir needs a value' "$command" --rundir
done
expect 2 "unexpected argument 'extra'" status extra
expect 2 "unexpected argument 'extra'" version extra
expect 2 "unexpected argument 'extra'" events extra
expect 2 "unexpected argument 'two'" pause one two
expect 2 "no command 'bogus'" help bogus
expect 2 "no state 'Gone'" list --state Gone
expect 2 'which connections' offload
expect 2 'which connections' upload --wait
expect 2 'not both' upload --all id 3
expect 2 '--by-target needs --all' upload --by-target id 3
expect 2 '--target needs --by-target' upload --all --target ve0
expect 2 'unknown option --by-target' offload --all --by-target
expect 2 '--timeout must be a number' offload --all --timeout -1
expect 2 '--timeout must be a number' offload --all --timeout 3601
expect 2 '--timeout must be a number' offload --all --timeout 1x
expect 2 '--capacity must be a number' resume --capacity 0
expect 2 '--capacity must be a number' resume --capacity 99999999999999999999
expect 2 '--count must be a number' events --count none
expect 0 '^chimney [0-9]' version
expect 0 '^chimney [0-9]' --version
expect 0 'Commands:' help
expect 0 'Commands:' --help
expect 0 . version --json
json 'j["ok"] and j["version"]'

echo "== no daemon"
for arguments in status list 'list tcp port 80' 'offload id 1' 'upload --all' pause resume events \
    'status --json'; do
    # shellcheck disable=SC2086
    expect 1 "no daemon at $dir/none \(start it with: chimneyd --port IFACE\)" $arguments
done
expect 1 "no daemon at $dir/other" --rundir "$dir/other" status
expect 1 "no daemon at $dir/other" status --rundir="$dir/other"
expect 1 "too long for a socket's path" status --rundir "/$(printf '%0120d' 0)"
mkdir "$dir/hang"
python3 - "$dir/hang/control.sock" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
for answer in (b"", b"nonsense\n", b"[1]\n", b'{"ok":false,"error":"no"}\n', b'{"ok":true}\n'):
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(answer)
    c.close()
PY
pids+=($!)
for _ in $(seq 50); do [ -S "$dir/hang/control.sock" ] && break; sleep 0.1; done
expect 1 'hung up without an answer' status --rundir "$dir/hang"
expect 1 'not JSON' status --rundir "$dir/hang"
expect 1 '^chimney: ' status --rundir "$dir/hang"
expect 1 '^chimney: no$' list --rundir "$dir/hang"
expect 1 'the daemon is gone' events --rundir "$dir/hang"

if [ "$(id -u)" != 0 ] || [ ! -x "$chimneyd" ] || [ ! -x "$traffic" ]; then
    echo "not root, or no daemon was built: the rest is left out"
    echo "$passed passed, $failed failed"
    [ $failed = 0 ] && exit 77
    exit 1
fi

echo "== doctor"
ip netns add "$a" && ip netns add "$b" || exit 1
ip -n "$a" link add ve0 type veth peer name ve1 netns "$b"
ip -n "$a" addr add 10.9.0.1/24 dev ve0
ip -n "$b" addr add 10.9.0.2/24 dev ve1
ip -n "$a" addr add fd09::1/64 dev ve0 nodad
ip -n "$b" addr add fd09::2/64 dev ve1 nodad
for ns in "$a" "$b"; do
    ip -n "$ns" link set lo up
    ip netns exec "$ns" sysctl -qw net.ipv4.tcp_congestion_control=reno
done
ip -n "$a" link set ve0 up
ip -n "$b" link set ve1 up
in_a=(ip netns exec "$a")
expect 0 'ok +peer.s checksums' doctor
expect 0 'the port finishes them' doctor ve0
expect 1 'out:no such interface' doctor ve7
expect 1 'out:"result": "fail"' doctor ve7 --json
json 'not j["ok"] and j["failures"] == 1 and all(c["result"] == "ok" or c["change"] for c in j["checks"])'
expect 0 'failed: 0' doctor ve0

echo "== daemon"
export CHIMNEY_RUNDIR=$dir/run
"${in_a[@]}" "$chimneyd" --port ve0 2>"$dir/daemon.log" &
pids+=($!)
daemon=$!
for _ in $(seq 100); do [ -S "$dir/run/control.sock" ] && break; sleep 0.1; done
[ "$(stat -c %a "$dir/run/control.sock")" = 600 ] || fail "mode of the control socket"
expect 0 'connections +0 attached' status
expect 0 . list --json
json 'j["ok"] and j["connections"] == []'
expect 0 'no connections' offload --all --wait
expect 1 'no connection matches' offload --wait id 1
"${in_a[@]}" "$chimneyd" --port ve0 >"$dir/out" 2>"$dir/err" && fail "a second daemon started"
grep -q 'another chimneyd' "$dir/err" || fail "a second daemon does not say why it ends"
"${in_a[@]}" "$traffic" server --rundir "$dir/run" --listen 10.9.0.1,7000 --listen fd09::1,7000 \
    --accept 4 --rate 1000000 --summary "$dir/server.json" >"$dir/server.log" 2>&1 &
pids+=($!)
server=$!
sleep 0.5
ip netns exec "$b" "$traffic" client --connect 10.9.0.1,7000,2 --connect fd09::1,7000,2 \
    --rate 1000000 --summary "$dir/client.json" >"$dir/client.log" 2>&1 &
pids+=($!)
client=$!
for _ in $(seq 50); do
    "${in_a[@]}" "$chimney" status | grep -q '4 attached' && break
    sleep 0.1
done
timeout 60 "${in_a[@]}" "$chimney" events --json >"$dir/events" 2>"$dir/events.err" &
pids+=($!)
events=$!
sleep 0.3
expect 0 '4 attached: 4 InHost' status
expect 0 'InHost .*10\.9\.0\.1:7000.*traffic\[' list
expect 0 '4 of 4 offloaded in' offload --all --wait
expect 0 '4 attached: 4 Offloaded' status
expect 0 '4 already Offloaded' offload --all --wait
expect 0 've0 +running +4 of' status
expect 0 'HAND-OFF STEP' status --verbose
expect 0 . status --json
json 'j["connections"]["offloaded"] == 4 and j["moves"]["offloads"] == 4 and j["verifier"]["breaches"] == 0'
json 'j["ports"][0]["name"] == "ve0" and j["ports"][0]["link"] == "up" and j["targets"][0]["state"] == "running"'
expect 0 . list --json ip6
json 'len(j["connections"]) == 2 and all(c["tuple"].startswith("[fd09::1]:7000-[fd09::2]:") for c in j["connections"])'
json 'all(c["state"] == "Offloaded" and c["last_move"]["direction"] == "offload" for c in j["connections"])'
expect 0 '2 of 2 uploaded' upload --wait host 10.9.0.2 and tcp
expect 0 . list --json --state InHost
json 'len(j["connections"]) == 2 and all(c["tuple"].startswith("10.9.0.1:") and c["why_not"] for c in j["connections"])'
expect 1 'no connection matches' upload tcp port 1
expect 1 'names are not looked up' upload host localhost
expect 1 'pcap-filter' list 'tcp port'
expect 1 'after .id. give numbers' list id x

echo "== pause"
expect 1 "no target 've9': there is ve0" pause ve9
expect 0 've0 paused' pause ve0
expect 1 'target ve0 is paused: chimney resume ve0' offload --all --wait
expect 0 '4 attached: 2 Offloaded, 2 InHost' status
expect 0 've0 +paused' status
expect 0 've0 resumed' resume
expect 0 've0 pauses when the next offload is under way' pause --on-initiate
expect 0 '2 of 4 on their way, 2 already Offloaded' offload --all
sleep 0.3
expect 1 'queued in a pause: chimney resume' offload --wait --timeout 0 ip
expect 0 'Offloading, queued' list ip
expect 0 '2 queued in a pause' status
expect 0 've0 resumed' resume --capacity 3000
sleep 0.3
expect 0 '4 attached: 4 Offloaded' status
expect 0 've0 +running +4 of 3000' status
expect 1 'capacity must be' resume --capacity 20000
expect 0 '4 of 4 uploaded' upload --all --by-target --target ve0 --wait
expect 0 've0 +uploading-all' status
expect 0 've0 resumed' resume
expect 0 '4 of 4 offloaded' offload --all -w

echo "== end"
kill -TERM "$daemon"
wait "$daemon" || fail "chimneyd: exit code $?, not 0"
wait "$events" || fail "chimney events: exit code $?, not 0"
cp "$dir/events" "$dir/out"
python3 - "$dir/events" <<'PY' || fail "events"
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
assert [e["seq"] for e in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))
kinds = [e["kind"] for e in events]
assert kinds.count("pause") == 2 and kinds.count("resume") == 3 and kinds.count("upload-all") == 1
assert kinds.count("queued") == 2 and kinds.count("stop") == 1
moves = [(e["direction"], e["failed"]) for e in events if e["kind"] == "move"]
assert moves.count(("offload", False)) == 10 and moves.count(("upload", False)) == 10, moves
assert [e["time"] for e in events] == sorted(e["time"] for e in events)
PY
expect 1 'no daemon' status
kill -TERM "$client" "$server"
wait "$client" || fail "traffic client: $(tail -n 1 "$dir/client.log")"
wait "$server" || fail "traffic server: $(tail -n 1 "$dir/server.log")"
[ $failed = 0 ] || sed 's/^/    daemon: /' "$dir/daemon.log"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
