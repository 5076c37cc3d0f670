#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Offload and upload of many idle connections, beside the system calls alone.  See bench/README.md.

usage: bench/idle.py BUILD [--connections N] [--runs N]

Prints a table; writes BUILD/bench/idle.json and idle.md.  Exit code 1 if a connection did not
answer afterwards.
"""
import argparse
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

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from netlab import SERVER_ADDRESSES, SERVER_PORT_NAME, Lab, Program  # noqa: E402

CHIMNEY_TCP_PORT, FLOOR_TCP_PORT = 7001, 7002
LIMIT_S = 300
FLOOR_STEPS = {"offload": ("options", "freeze", "dump", "park"), "upload": ("restore", "thaw")}


class Bench:
    def __init__(self, build, connections, runs):
        self.build, self.connections, self.runs = build, connections, runs
        self.out = f"{build}/bench"
        os.makedirs(self.out, exist_ok=True)
        for name in ("idle.json", "idle.md"):  # of an earlier run
            if os.path.exists(f"{self.out}/{name}"):
                os.unlink(f"{self.out}/{name}")
        self.lab = Lab()
        self.rundir = tempfile.mkdtemp(prefix="chimney-bench-")
        self.env = dict(os.environ, CHIMNEY_RUNDIR=self.rundir)
        self.programs = []

    def start(self, name, ns, *command):
        program = Program(name, ns, command, f"{self.out}/idle-{name}.log", None, self.env)
        self.programs.append(program)
        return program

    def chimney(self, *arguments):
        done = subprocess.run((f"{self.build}/src/cli/chimney", *arguments, "--json"), text=True,
                              capture_output=True, env=self.env, timeout=120)
        if done.returncode:
            raise RuntimeError(f"chimney {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def pair(self, name, tcp_port, *server):
        """A server, and a client with all its connections to it."""
        server = self.start(name, self.lab.server, *server, str(tcp_port), str(self.connections))
        server.wait_record("ready", 20)
        client = self.start(f"{name}-client", self.lab.client, f"{self.build}/bench/idle_client",
                            SERVER_ADDRESSES[0], str(tcp_port), str(self.connections))
        client.wait_record("ready", 60)
        server.wait_record("attached", 60)
        return server, client

    def set_up(self):
        self.lab.up()
        daemon = self.start("chimneyd", self.lab.server, f"{self.build}/src/daemon/chimneyd",
                            "--port", SERVER_PORT_NAME, "--rundir", self.rundir)
        deadline = time.monotonic() + 15
        while not os.path.exists(f"{self.rundir}/control.sock"):
            if daemon.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"chimneyd did not start: {open(daemon.log).read().strip()}")
            time.sleep(0.02)
        print(f"opening twice {self.connections} connections", flush=True)
        _, self.client = self.pair("server", CHIMNEY_TCP_PORT, f"{self.build}/bench/idle_server")
        self.floor, self.floor_client = self.pair("floor", FLOOR_TCP_PORT,
                                                  f"{self.build}/bench/floor")
        while self.chimney("status")["connections"]["attached"] < self.connections:
            time.sleep(0.05)

    def clean_up(self):
        for program in reversed(self.programs):
            program.end(30 if program.name == "chimneyd" else 10)
        self.lab.down()
        shutil.rmtree(self.rundir, ignore_errors=True)

    def alive(self, client):
        client.tell("check")
        return client.wait_record("check", 120)["alive"]

    def move(self, verb):
        """Moves all; (microseconds of the whole, silences of the connections, alive)."""
        answer = self.chimney(verb, "--all", "--wait", "--timeout", "60")
        if answer["moved"] != self.connections:
            raise RuntimeError(f"{verb}: only {answer['moved']} moved")
        rows = self.chimney("list")["connections"]
        silences = [row["last_move"]["duration_us"] for row in rows]
        return answer["duration_us"], silences, self.alive(self.client)

    def run(self):
        self.set_up()
        result = {"connections": self.connections, "runs": self.runs,
                  "kernel": platform.release(), "cpus": os.cpu_count(), "floor": [], "chimney": [],
                  "alive": []}
        for n in range(self.runs):
            self.floor.tell("round")
            floor = self.floor.wait_record("round", 60)
            alive = [self.alive(self.floor_client)]
            out_us, out_silence, out_alive = self.move("offload")
            back_us, back_silence, back_alive = self.move("upload")
            alive += [out_alive, back_alive]
            result["floor"].append(floor)
            result["chimney"].append({"offload_us": out_us, "upload_us": back_us,
                                      "offload_silence_us": spread(out_silence),
                                      "upload_silence_us": spread(back_silence)})
            result["alive"] += alive
            print(f"run {n + 1} of {self.runs}: offload {out_us / 1e3:.0f} ms (floor "
                  f"{floor['offload_us'] / 1e3:.0f}), upload {back_us / 1e3:.0f} ms (floor "
                  f"{floor['upload_us'] / 1e3:.0f}), alive {' '.join(map(str, alive))}", flush=True)
        status = self.chimney("status")
        result["steps"] = status["handoff"]
        result["moves"], result["barrier"] = status["moves"], status["barrier"]
        result["ok"] = (set(result["alive"]) == {self.connections}
                        and status["moves"]["failed"] == 0)
        return result


def spread(values):
    values = sorted(values)
    return {"median": values[len(values) // 2], "p99": values[len(values) * 99 // 100],
            "max": values[-1]}


def summarize(result):
    """Medians over the runs, per connection, and the ratio to the floor."""
    n = result["connections"]
    summary = {}
    for verb in ("offload", "upload"):
        floor, own = ([run[f"{verb}_us"] / n for run in result[who]] for who in ("floor", "chimney"))
        summary[verb] = {
            "floor_us": statistics.median(floor), "chimney_us": statistics.median(own),
            "chimney_us_least": min(own), "chimney_us_most": max(own),
            "chimney_per_s": 1e6 / statistics.median(own),
            "floor_per_s": 1e6 / statistics.median(floor),
            "ratio": statistics.median(own) / statistics.median(floor),
            "silence_us": {k: statistics.median(run[f"{verb}_silence_us"][k]
                                                for run in result["chimney"])
                           for k in ("median", "p99", "max")}}
    return summary


def markdown(result, summary):
    n = result["connections"]
    lines = [f"# {n} idle connections: offload and upload", "",
             f"Medians of {result['runs']} runs. Linux {result['kernel']}, {result['cpus']} CPUs; "
             f"barrier {result['barrier']['method']} "
             f"({result['barrier']['cost_us']:.0f} us at start). How to read this: bench/README.md.",
             "",
             "| | floor, us each | chimney, us each | (least to most) | ratio | chimney, per second |"
             " silence of a connection: median, p99, max |",
             "|---|---|---|---|---|---|---|"]
    for verb, s in summary.items():
        quiet = s["silence_us"]
        lines.append(f"| {verb} | {s['floor_us']:.1f} | {s['chimney_us']:.1f} | "
                     f"{s['chimney_us_least']:.1f} to {s['chimney_us_most']:.1f} | "
                     f"{s['ratio']:.2f} | {s['chimney_per_s']:,.0f} | {quiet['median']:.0f}, "
                     f"{quiet['p99']:.0f}, {quiet['max']:.0f} us |")
    alive = f"all {n} alive after every move" if result["ok"] else \
        f"NOT all alive: {result['alive']}"
    lines += ["", f"{alive}; {result['moves']['offloads']} offloads, "
              f"{result['moves']['uploads']} uploads, {result['moves']['failed']} failed.", "",
              "Mean cost of the steps, us. Steps named in the floor are the same calls; a step of "
              "a batch is counted once per batch of at most 64, all others once per connection.", "",
              "| step | chimney | floor |", "|---|---|---|"]
    for step in result["steps"]:
        if not step["count"]:
            continue
        floor = [run.get(f"{step['step']}_us") for run in result["floor"]]
        lines.append(f"| {step['step']} | {step['mean_us']:.2f} | "
                     + (f"{statistics.median(floor):.2f} |" if floor[0] is not None else "- |"))
    return "\n".join(lines) + "\n"


def show(result, summary):
    print(f"\n  {result['connections']} idle connections, medians of {result['runs']} runs\n")
    print(f"  {'':8} {'floor':>10} {'chimney':>10} {'ratio':>7} {'floor':>12} {'chimney':>12}"
          f"   silence of a connection")
    print(f"  {'':8} {'us each':>10} {'us each':>10} {'':>7} {'per s':>12} {'per s':>12}"
          f"   median / p99 / max, us")
    for verb, s in summary.items():
        quiet = s["silence_us"]
        print(f"  {verb:8} {s['floor_us']:10.1f} {s['chimney_us']:10.1f} {s['ratio']:7.2f} "
              f"{s['floor_per_s']:12,.0f} {s['chimney_per_s']:12,.0f}   "
              f"{quiet['median']:.0f} / {quiet['p99']:.0f} / {quiet['max']:.0f}")
    print(f"\n  alive after every move: {'all' if result['ok'] else result['alive']}\n")


def interrupted(number, frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: run as root: it makes network namespaces and attaches BPF programs")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupted)
    signal.alarm(LIMIT_S)
    bench = Bench(args.build, args.connections, args.runs)
    try:
        result = bench.run()
    except (KeyboardInterrupt, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error or 'interrupted'}", flush=True)
        return 1
    finally:
        signal.alarm(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        bench.clean_up()
    summary = summarize(result)
    show(result, summary)
    with open(f"{bench.out}/idle.json", "w") as f:
        json.dump(dict(result, summary=summary), f, indent=2)
        f.write("\n")
    with open(f"{bench.out}/idle.md", "w") as f:
        f.write(markdown(result, summary))
    print(f"{bench.out}/idle.json, {bench.out}/idle.md")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
