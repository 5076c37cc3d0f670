#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: live connections leave the kernel, are paused, queued and uploaded; nothing is lost.

Usage: tools/demo.py BUILD [--rate BYTES_PER_SECOND] [--out DIR]

A server on libchimney (examples/demo_server.c) and a client on plain sockets (demo_client.c) stream
checked data both ways while the `chimney` command moves their connections.  Exit code 1 if anything
is not as it should be.  Writes summary.json, demo.svg and demo.png.
"""
import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import chart
from netlab import (CLIENT_ADDRESSES, SERVER_ADDRESSES, SERVER_PORT_NAME, Lab, Program, Witness)

CONNECTIONS, MORE = 32, 8
TCP_PORT = 7000
LIMIT_S = 150       # the whole demo, whatever happens
ALIVE_S = 0.6       # every connection moves data both ways in this time, ...
PATIENCE_S = 5      # ... or in this, on a busy machine
CHUNK_GAP_S = 1.0   # between two lines of throughput


def size(count):
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def plural(count, what):
    return f"{count} {what}{'' if count == 1 else 's'}"


class Carriers:
    """Who carries each connection, from the daemon's events; and the number of moves."""

    def __init__(self, log):
        self.log = open(log, "w")
        self.where, self.history, self.moves = {}, [], []
        self.failed, self.breaches, self.closed = 0, 0, False
        self.real_offset = time.time() - time.monotonic()

    def counts(self):
        places = list(self.where.values())
        return tuple(places.count(place) for place in ("target", "queued", "kernel"))

    def note(self, when):
        self.history.append((when, *self.counts()))

    def event(self, e):
        print(json.dumps(e), file=self.log, flush=True)
        if self.closed or "time" not in e:
            return
        stamp = datetime.datetime.fromisoformat(e["time"].replace("Z", "+00:00"))
        when = stamp.timestamp() - self.real_offset
        kind = e.get("kind")
        if kind == "attach":
            self.where[e["id"]] = "kernel"
        elif kind == "detach":
            self.where.pop(e["id"], None)
        elif kind == "queued":
            self.where[e["id"]] = "queued"
        elif kind == "breach":
            self.breaches += 1
        elif kind == "move":
            if e["failed"]:
                self.failed += 1
            else:
                self.moves.append((when, e["direction"], e["duration_us"]))
                self.where[e["id"]] = "target" if e["direction"] == "offload" else "kernel"
        else:
            return
        self.note(when)

    def daemon_ended(self):
        """What is attached to nobody is in the kernel."""
        self.closed = True
        self.where = {conn: "kernel" for conn in self.where}
        self.note(time.monotonic())


class Demo:
    def __init__(self, build, out, rate):
        self.build, self.out, self.rate = build, out, rate
        self.lab, self.carriers = Lab(), Carriers(f"{out}/events.json")
        self.rundir = tempfile.mkdtemp(prefix="chimney-demo-")
        self.env = dict(os.environ, CHIMNEY_RUNDIR=self.rundir)
        self.programs, self.events, self.problems = [], [], []
        self.ticks = {"server": [], "client": []}
        self.ends = {"server": {}, "client": {}}
        self.began = time.monotonic()
        self.shown_us = 0

    # ---- what the reader sees

    def now(self):
        return time.monotonic() - self.began

    def line(self, text):
        print(f"  {self.now():5.1f} s  {text}", flush=True)

    def mark(self, text, when=None):
        """An event of the picture."""
        self.events.append((self.now() if when is None else when, text))

    def problem(self, text):
        self.problems.append(text)
        self.line(f"NOT AS IT SHOULD BE: {text}")

    def expect(self, right, text):
        if not right:
            self.problem(text)

    # ---- programs and commands

    def start(self, name, ns, *command, on_record=None):
        program = Program(name, ns, command, f"{self.out}/{name}.log", on_record, self.env)
        self.programs.append(program)
        return program

    def chimney(self, *arguments, fails=False, quiet=False):
        """Runs the command as a user would; returns its answer."""
        if not quiet:
            self.line(f"$ chimney {' '.join(arguments)}")
        done = subprocess.run((f"{self.build}/src/cli/chimney", *arguments, "--json"), text=True,
                              capture_output=True, env=self.env, timeout=40)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            answer = {}
        said = done.stderr.strip() or answer.get("error", "")
        if fails:
            self.expect(done.returncode == 1, f"chimney {' '.join(arguments)}: expected a refusal")
        else:
            self.expect(done.returncode == 0, f"chimney {' '.join(arguments)}: {said}")
        answer.setdefault("error", said)
        return answer

    def record(self, side):
        def take(record):
            if record["kind"] == "tick":
                self.ticks[side].append(record)
            elif record["kind"] == "end":
                self.ends[side][record["client"]] = record
        return take

    def set_up(self):
        self.lab.up()
        self.witness = Witness(self.lab.client, f"{self.out}/resets.pcap", f"{self.out}/tcpdump.log")
        self.programs.append(self.witness.program)
        self.daemon = self.start("chimneyd", self.lab.server, f"{self.build}/src/daemon/chimneyd",
                                 "--port", SERVER_PORT_NAME, "--rundir", self.rundir)
        deadline = time.monotonic() + 15
        while not os.path.exists(f"{self.rundir}/control.sock"):
            if self.daemon.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("chimneyd did not start: " +
                                   open(self.daemon.log).read().strip())
            time.sleep(0.02)
        self.resets_before = self.lab.resets_sent()  # chimneyd's self-test, on loopback
        self.start("events", None, f"{self.build}/src/cli/chimney", "events", "--json",
                   on_record=self.carriers.event)
        pace = ("--port", str(TCP_PORT), "--rate", str(self.rate))
        self.server = self.start("server", self.lab.server, f"{self.build}/examples/demo_server",
                                 "--rundir", self.rundir, *pace, on_record=self.record("server"))
        self.server.wait_record("ready", 10)
        time.sleep(0.3)  # the events' subscription
        self.client = self.start("client", self.lab.client, f"{self.build}/examples/demo_client",
                                 *pace, "--connections", str(CONNECTIONS), *SERVER_ADDRESSES,
                                 on_record=self.record("client"))
        self.client.wait_record("ready", 10)
        time.sleep(0.5)  # past the beginning of the flows

    def clean_up(self):
        for program in reversed(self.programs):
            program.end(25 if program.name == "chimneyd" else 3)
        self.lab.down()
        shutil.rmtree(self.rundir, ignore_errors=True)

    # ---- looking

    def show(self):
        """One line: who carries, how fast, how long the longest silence was since the last line."""
        rates = []
        for side in ("server", "client"):
            ticks = [t for t in self.ticks[side] if t["us"] > self.shown_us]
            if len(ticks) < 2:
                return
            seconds = (ticks[-1]["us"] - ticks[0]["us"]) / 1e6
            rates.append((ticks[-1]["received"] - ticks[0]["received"]) / seconds / 1e6)
        silence = max(t["silence_us"] for side in self.ticks.values() for t in side
                      if t["us"] > self.shown_us)
        self.shown_us = self.ticks["server"][-1]["us"]
        target, queued, kernel = self.carriers.counts()
        wait = f", {queued} queued" if queued else ""
        self.line(f"    target {target:2}, kernel {kernel + queued:2}{wait}  |  to server "
                  f"{rates[0]:5.1f} MB/s, to client {rates[1]:5.1f} MB/s  |  longest silence "
                  f"{silence / 1000:.1f} ms")

    def run_for(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, CHUNK_GAP_S))
            self.show()
            for program in (self.server, self.client):
                if program.process.poll() is not None:
                    raise RuntimeError(f"{program.name} ended: {open(program.log).read().strip()}")

    def progress(self, program):
        program.records.clear()
        program.tell("report")
        rows = {}
        while True:
            row = program.records.popleft() if program.records else None
            if row is None:
                if program.process.poll() is not None:
                    raise RuntimeError(f"{program.name} ended: {open(program.log).read().strip()}")
                time.sleep(0.005)
            elif row["kind"] == "progress":
                rows[row["client"]] = row["received"]
            elif row["kind"] == "progress-end":
                return rows

    def all_alive(self, expected):
        """Every connection moves data, both ways."""
        deadline = time.monotonic() + PATIENCE_S
        before = [self.progress(p) for p in (self.server, self.client)]
        while True:
            time.sleep(ALIVE_S)
            after = [self.progress(p) for p in (self.server, self.client)]
            moving = [sum(new[c] > old.get(c, 0) for c in new) for old, new in zip(before, after)]
            if moving == [expected, expected]:
                return
            if time.monotonic() > deadline:
                self.lab.sockets(f"{self.out}/stalled-{self.now():.0f}s.txt")
                self.problem(f"data arrives at the server on {moving[0]} connections, at the "
                             f"client on {moving[1]}, of {expected}")
                return

    def connections(self):
        return self.chimney("list", quiet=True).get("connections", [])

    def states(self):
        tally = {}
        for conn in self.connections():
            name = "queued" if conn["queued"] else conn["state"]
            tally[name] = tally.get(name, 0) + 1
        return tally

    def expect_states(self, **wanted):
        deadline = time.monotonic() + PATIENCE_S
        while (have := self.states()) != wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        self.expect(have == wanted, f"connections are {have}, should be {wanted}")

    # ---- the story

    def offload_all(self, text):
        start = self.now()
        answer = self.chimney("offload", "--all", "--wait")
        moved, ms = answer.get("moved", 0), answer.get("duration_us", 0) / 1000
        self.line(f"    {plural(moved, 'connection')} offloaded in {ms:.1f} ms")
        self.mark(f"chimney offload --all: {moved} {text}", start)

    def story(self):
        total = CONNECTIONS + MORE
        self.line(f"{CONNECTIONS} connections, half IPv4, half IPv6; both ends in the kernel")
        self.mark(f"{CONNECTIONS} connections, the kernel carries them")
        self.run_for(3)
        self.offload_all("leave the kernel")
        self.expect_states(Offloaded=CONNECTIONS)
        self.run_for(3)

        known = {conn["id"] for conn in self.connections()}
        self.line("the client opens a connection; its offload will meet a pause on the way")
        self.client.tell("open 1")
        deadline = time.monotonic() + 5
        while not (new := {conn["id"] for conn in self.connections()} - known):
            if time.monotonic() > deadline:
                raise RuntimeError("the new connection was not attached")
            time.sleep(0.05)
        number = str(new.pop())
        start = self.now()
        self.chimney("pause", "--on-initiate")
        self.mark("chimney pause --on-initiate", start)
        start = self.now()
        self.chimney("offload", f"id {number}")
        self.mark(f"chimney offload id {number}: caught on its way, queued", start)
        self.expect_states(Offloaded=CONNECTIONS, queued=1)
        self.line(f"    the target has paused; the initiate of connection {number} is queued, its "
                  "traffic flows on in the kernel")
        self.all_alive(CONNECTIONS + 1)
        self.run_for(0.6)

        self.line(f"the client opens {MORE - 1} more connections in the pause")
        self.mark(f"{MORE - 1} new connections in the pause: they work")
        self.client.tell(f"open {MORE - 1}")
        self.expect_states(Offloaded=CONNECTIONS, queued=1, InHost=MORE - 1)
        self.all_alive(total)
        another = max(conn["id"] for conn in self.connections())
        answer = self.chimney("offload", f"id {another}", fails=True)
        self.line(f"    refused: {answer['error']}")
        self.expect_states(Offloaded=CONNECTIONS, queued=1, InHost=MORE - 1)
        self.run_for(1)

        start = self.now()
        self.chimney("resume")
        self.mark("chimney resume: the queued one is offloaded", start)
        self.expect_states(Offloaded=CONNECTIONS + 1, InHost=MORE - 1)
        self.line(f"    connection {number} is offloaded")
        self.run_for(1)
        self.offload_all("more")
        self.run_for(2)

        start = self.now()
        answer = self.chimney("upload", "--all", "--by-target", "--wait")
        self.line(f"    {plural(answer.get('moved', 0), 'connection')} back in the kernel in "
                  f"{answer.get('duration_us', 0) / 1000:.1f} ms, in traffic")
        self.mark(f"chimney upload --all --by-target: {answer.get('moved', 0)} back in the kernel", start)
        self.expect_states(InHost=total)
        self.run_for(2)
        start = self.now()
        self.chimney("resume")
        self.mark("chimney resume", start)
        self.run_for(0.5)
        self.offload_all("leave the kernel again")
        self.expect_states(Offloaded=total)
        self.run_for(3)
        self.all_alive(total)

        self.status = self.chimney("status", quiet=True)
        with open(f"{self.out}/status.json", "w") as f:
            json.dump(self.status, f, indent=2)
        self.line("$ kill -TERM chimneyd")
        start = time.monotonic()
        self.mark("SIGTERM to chimneyd, in traffic: all come back")
        self.daemon.process.terminate()
        code = self.daemon.ended(25)
        self.expect(code == 0, f"chimneyd ended with {code}; see {self.daemon.log}")
        self.carriers.daemon_ended()
        self.line(f"    everything uploaded, chimneyd ended after {time.monotonic() - start:.2f} s")
        self.run_for(2)
        self.all_alive(total)

    def finish(self):
        self.line("the client stops; both ends compare what they sent and received")
        self.mark("the client stops")
        self.stopped = self.now()
        self.client.tell("stop")
        if self.client.ended(15) != 0:
            self.problem("the client did not end by itself: a connection has stalled; "
                         f"see {self.lab.sockets(f'{self.out}/stalled.txt')}")
        self.server.tell("stop")
        if self.server.ended(15) != 0:
            self.problem("the server did not end by itself: a connection has stalled")
        self.resets = self.witness.count()
        self.resets_sent = self.lab.resets_sent() - self.resets_before
        counters = {side: self.lab.counters(ns) for side, ns in
                    (("server", self.lab.server), ("client", self.lab.client))}
        with open(f"{self.out}/kernel-counters.json", "w") as f:
            json.dump(counters, f, indent=2)

    # ---- the result

    def directions(self):
        """Per direction: bytes, connections whose two digests agree, digest over all at both ends."""
        total = max((t[-1]["opened"] for t in self.ticks.values() if t), default=0)
        result = []
        for name, sender, receiver in (("client to server", "client", "server"),
                                       ("server to client", "server", "client")):
            keys = sorted(set(self.ends["client"]) | set(self.ends["server"]))
            sent = {k: self.ends[sender].get(k, {}).get("out", {}) for k in keys}
            got = {k: self.ends[receiver].get(k, {}).get("in", {}) for k in keys}
            digests = [hashlib.sha256("".join(end[k].get("sha256", "-") for k in keys).encode())
                       .hexdigest() for end in (sent, got)]
            same = sum(bool(sent[k]) and sent[k].get("sha256") == got[k].get("sha256")
                       for k in keys)
            result.append({"name": name, "bytes": sum(g.get("bytes", 0) for g in got.values()),
                           "same": same, "of": total, "sent": digests[0], "received": digests[1]})
        return result

    def longest_silence(self, before=None):
        """(microseconds, when it ended in seconds, which end)."""
        worst = (0, 0.0, "")
        if before is not None:
            return max(t["silence_us"] for side in self.ticks.values() for t in side
                       if self.began < t["us"] / 1e6 < self.began + before)
        for side, ends in self.ends.items():
            for end in ends.values():
                d = end["in"]
                worst = max(worst, (d["longest_us"], d["longest_end_us"] / 1e6 - self.began, side))
        return worst

    def result(self):
        directions = self.directions()
        opened = directions[0]["of"]
        ended = [e for side in self.ends.values() for e in side.values()]
        died = sum(bool(e["error"]) for e in ended) + 2 * opened - len(ended)
        target = self.status["targets"][0]
        silence, at, end = self.longest_silence()
        mismatches = sum(e["in"]["mismatches"] for e in ended)
        offloads = sum(direction == "offload" for _, direction, _ in self.carriers.moves)
        uploads = len(self.carriers.moves) - offloads
        first_offload = self.events[1][0]
        self.expect(opened == CONNECTIONS + MORE, f"{opened} connections were opened")
        self.expect(died == 0, f"{died} ends of connections ended with an error or not at all")
        self.expect(mismatches == 0, f"{mismatches} bytes differ")
        self.expect(all(d["same"] == d["of"] for d in directions), "SHA-256 sums differ")
        self.expect(self.resets == 0, f"{self.resets} resets on the wire")
        self.expect(self.resets_sent == 0, f"the kernels sent {self.resets_sent} resets")
        self.expect(target["queued_in_pause"] == 1, "no initiate was queued in the pause")
        self.expect(self.carriers.failed == 0, f"{self.carriers.failed} moves failed")
        self.expect(self.carriers.breaches == 0,
                    f"the verifier saw {self.carriers.breaches} breaches of the contract")
        waits = [duration for _, _, duration in self.carriers.moves] or [0]
        rows = [("connections", f"{opened} opened, {died} ends died"),
                ("moves", f"{offloads + uploads}: {offloads} offloads, {uploads} uploads, "
                          f"{self.carriers.failed} failed"),
                ("silence of a move", f"{statistics.median(waits) / 1000:.1f} ms median, "
                                      f"{max(waits) / 1000:.1f} ms longest (chimneyd's clock)"),
                ("queued in the pause", str(target["queued_in_pause"]))]
        for d in directions:
            rows += [(d["name"], f"{size(d['bytes'])}, SHA-256 equal for {d['same']} of {d['of']}"),
                     ("  SHA-256, sent", d["sent"]), ("  SHA-256, received", d["received"])]
        rows += [("bytes that differ", str(mismatches)),
                 ("resets on the wire", f"{self.resets} (tcpdump), {self.resets_sent} (counters "
                                        "of both kernels)"),
                 ("longest silence at a program", f"{silence / 1000:.1f} ms, at the {end}, at {at:.1f} s "
                                     f"({self.longest_silence(first_offload) / 1000:.1f} ms before "
                                     "the first offload)")]
        width = max(len(name) for name, _ in rows)
        print()
        for name, value in rows:
            print(f"  {name:{width}}  {value}")
        return {"moves": offloads + uploads, "offloads": offloads, "uploads": uploads,
                "bytes": sum(d["bytes"] for d in directions), "mismatches": mismatches,
                "resets": self.resets, "longest_silence_us": silence,
                "longest_silence_before_offload_us": self.longest_silence(first_offload),
                "longest_move_us": max(waits), "median_move_us": statistics.median(waits),
                "queued_in_pause": target["queued_in_pause"], "connections": opened, "died": died,
                "sha256_match": all(d["same"] == d["of"] for d in directions),
                "directions": directions, "rate": self.rate, "seconds": round(self.stopped, 1),
                "kernel": platform.release(), "problems": self.problems}

    def picture(self):
        limit = f"each paced to {size(self.rate)}/s per direction" if self.rate else "unpaced"
        c = chart.Chart("Live TCP connections leave the kernel and come back",
                        f"{CONNECTIONS} to {CONNECTIONS + MORE} connections, {limit}; what the "
                        f"programs received. Linux {platform.release().split('-')[0]}, two network "
                        "namespaces, veth, AF_XDP in copy mode.", self.stopped)
        speed = chart.Panel("Throughput", "MB/s", 190)
        for side, kind, colour, label in (("server", "wide line", chart.BLUE, "client to server"),
                                          ("client", "line", chart.ORANGE, "server to client")):
            ticks = self.ticks[side]
            points = [((b["us"] / 1e6 - self.began),
                       (b["received"] - a["received"]) / (b["us"] - a["us"]))
                      for a, b in zip(ticks, ticks[1:])]
            speed.add(kind, colour, label, [p for p in points if 0 <= p[0] <= self.stopped])
        steps = [(max(0, t - self.began), *n) for t, *n in self.carriers.history
                 if t - self.began <= self.stopped]
        where = chart.Panel("Who carries the connections", "connections", 120,
                            CONNECTIONS + MORE + 4)
        for i, colour, label in ((1, chart.SKY, "offload target"),
                                 (2, chart.GREEN, "queued, meanwhile in the kernel"),
                                 (3, "#cccccc", "kernel")):
            where.add("area", colour, label, [(s[0], s[i]) for s in steps])
        silence = {}
        for t in (t for side in self.ticks.values() for t in side):
            bin_s = round(t["us"] / 1e6 - self.began, 1)
            if 0 < bin_s <= self.stopped:
                silence[bin_s] = max(silence.get(bin_s, 0), t["silence_us"] / 1000)
        quiet = chart.Panel("Longest silence of any connection, in each 0.1 s", "ms", 90)
        quiet.add("bars", chart.GREY, "", sorted(silence.items()))
        c.panels, c.events = [speed, where, quiet], self.events
        svg, png = f"{self.out}/demo.svg", f"{self.out}/demo.png"
        with open(svg, "w") as f:
            f.write(c.svg())
        subprocess.run(("rsvg-convert", "--zoom", "1.5", svg, "-o", png), check=True)
        return svg, png

    def run(self):
        print("Chimney: connections leave the kernel and come back; no program and no peer notices",
              flush=True)
        self.set_up()
        self.began = time.monotonic()
        self.shown_us = self.began * 1e6
        self.carriers.note(self.began)
        self.story()
        self.finish()
        summary = self.result()
        svg, png = self.picture()
        summary["ok"] = not self.problems
        with open(f"{self.out}/summary.json", "w") as f:
            json.dump(summary, f, indent=2)
            f.write("\n")
        print()
        for problem in self.problems:
            print(f"  not as it should be: {problem}")
        print(f"  {'all as it should be' if summary['ok'] else 'FAILED'}; "
              f"{self.out}/summary.json, logs beside it")
        print(f"picture: {png} (and {svg})")
        return 0 if summary["ok"] else 1


def interrupted(number, frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--rate", type=int, default=int(os.environ.get("RATE", 1000000)),
                        help="bytes per second, connection and direction; 0: no limit")
    parser.add_argument("--out", help="default: BUILD/demo")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("demo: run as root: it makes network namespaces and attaches BPF programs")
    out = args.out or f"{args.build}/demo"
    os.makedirs(out, exist_ok=True)
    for name in ("summary.json", "demo.svg", "demo.png"):  # of an earlier run
        if os.path.exists(f"{out}/{name}"):
            os.unlink(f"{out}/{name}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupted)
    signal.alarm(LIMIT_S)
    demo = Demo(args.build, out, args.rate)
    try:
        return demo.run()
    except KeyboardInterrupt as stop:
        print(f"\ndemo: {stop if str(stop) else 'interrupted'}; cleaning up", flush=True)
        return 1
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"demo: {error}; logs are in {out}", flush=True)
        return 1
    finally:
        signal.alarm(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        demo.clean_up()


if __name__ == "__main__":
    sys.exit(main())
