#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goodput over a bad wire: chimney beside Linux, same peer, same wire, same seeds, CUBIC on both.

Three variants at every point, interleaved, the median of the runs of each:
  linux      Linux sends to Linux
  sender     chimney sends to Linux
  receiver   Linux sends to chimney
Writes BUILD/bench/loss.json and loss.md; prints a line per point.

--handback: instead, one connection handed back and forth every 50 ms on a path of 20 ms and 1 %
loss, beside the same path without moves.  --fairness: one chimney and one Linux flow through one
bottleneck of 100 Mbit/s.

usage: loss.py BUILD [--runs N] [--seconds S] [--rate MBIT] [--only TEXT] [--quick]
                     [--handback | --fairness]
"""
import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

IMPAIRMENTS = [
    ("loss 0", []),
    ("loss 0.01%", ["--loss-ppm", "100"]),
    ("loss 0.1%", ["--loss-ppm", "1000"]),
    ("loss 1%", ["--loss-ppm", "10000"]),
    ("loss 3%", ["--loss-ppm", "30000"]),
    ("bursts of 10", ["--burst-ppm", "200", "--burst-len", "10"]),
    ("reorder 1% by 1 ms", ["--reorder-ppm", "10000", "--reorder-us", "1000"]),
    ("reorder 3% by 5 ms", ["--reorder-ppm", "30000", "--reorder-us", "5000"]),
]
RTTS_MS = [1, 20, 66, 200]
VARIANTS = ["linux", "sender", "receiver"]
PORT = 6100


class Lab:
    """Three namespaces: host a (with chimneyd), wire w, host b."""

    def __init__(self, build):
        self.build = build
        self.tag = "loss%d" % os.getpid()
        self.ns = {n: "%s-%s" % (self.tag, n) for n in "awb"}
        self.processes = []
        self.rundir = tempfile.mkdtemp(prefix="chimney-loss-")

    def sh(self, *args, check=True):
        return subprocess.run(args, check=check, capture_output=True, text=True)

    def inside(self, n, *args):
        return ["ip", "netns", "exec", self.ns[n], *args]

    def start(self):
        for n in self.ns.values():
            self.sh("ip", "netns", "add", n)
            self.sh("ip", "-n", n, "link", "set", "lo", "up")
        for host, end in (("a", "va"), ("b", "vb")):
            self.sh("ip", "link", "add", end, "netns", self.ns[host], "type", "veth", "peer",
                    "name", "w" + host, "netns", self.ns["w"])
        self.sh(*self.inside("w", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"))
        self.sh("ip", "-n", self.ns["a"], "addr", "add", "10.57.0.1/24", "dev", "va")
        self.sh("ip", "-n", self.ns["b"], "addr", "add", "10.57.0.2/24", "dev", "vb")
        for n, dev in (("a", "va"), ("b", "vb"), ("w", "wa"), ("w", "wb")):
            self.sh("ip", "-n", self.ns[n], "link", "set", dev, "up")
            self.sh(*self.inside(n, "ethtool", "-K", dev, "tx", "off", "tso", "off", "gso", "off",
                                 "gro", "off"), check=False)
        for n in "ab":
            for knob in ("net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_rmem=4096 131072 16777216",
                         "net.ipv4.tcp_wmem=4096 65536 16777216"):
                self.sh(*self.inside(n, "sysctl", "-qw", knob))
        self.daemon = subprocess.Popen(
            self.inside("a", self.build + "/src/daemon/chimneyd", "--port", "va", "--rundir",
                        self.rundir), stderr=open(self.rundir + "/log", "w"))
        self.processes.append(self.daemon)
        for _ in range(100):
            if os.path.exists(self.rundir + "/session.sock"):
                break
            time.sleep(0.05)
        else:
            raise SystemExit("loss: chimneyd did not start: " + open(self.rundir + "/log").read())

    def stop(self):
        for p in self.processes:
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
                try:
                    p.wait(10)
                except subprocess.TimeoutExpired:
                    p.kill()
        for n in self.ns.values():
            self.sh("ip", "netns", "del", n, check=False)

    def control(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.rundir + "/control.sock")
        return s.makefile("rw")

    def hand_back(self, stop, period, moves):
        """Moves every connection every @period seconds until @stop is set."""
        f = self.control()
        offloaded = True
        while not stop.wait(period):
            command = "upload" if offloaded else "offload"
            f.write(json.dumps({"command": command, "all": True, "wait": True}) + "\n")
            f.flush()
            answer = json.loads(f.readline())
            moves[0] += answer.get("moved", 0)
            offloaded = not offloaded

    def wire(self, args, seed):
        return subprocess.Popen(self.inside("w", self.build + "/tests/lab/wire", "--a", "wa", "--b",
                                            "wb", "--seed", str(seed), "--seconds", "200", *args),
                                stdout=subprocess.DEVNULL)

    def bulk(self, n, *args):
        p = subprocess.Popen(self.inside(n, self.build + "/bench/bulk", *args),
                             stdout=subprocess.PIPE, text=True)
        self.processes.append(p)
        return p

    def sends(self, port, seconds, chimney):
        """Host a sends to host b; returns both processes, the receiver first."""
        rx = self.bulk("b", "recv", str(port))
        rx.stdout.readline()
        extra = ["--rundir", self.rundir] if chimney else []
        return rx, self.bulk("a", "send", "10.57.0.2", str(port), str(seconds), *extra)

    def transfer(self, variant, wire_args, seconds, seed):
        """One transfer; goodput in Mbit/s, or None if it failed."""
        # The data always enters at the wire's first end: the same seed loses the same data frames.
        first, second = ("wb", "wa") if variant == "receiver" else ("wa", "wb")
        wire = subprocess.Popen(self.inside("w", self.build + "/tests/lab/wire", "--a", first,
                                            "--b", second, "--seed", str(seed), "--seconds", "90",
                                            *wire_args), stdout=subprocess.DEVNULL)
        bulk = self.build + "/bench/bulk"
        chimney = ["--rundir", self.rundir]
        try:
            if variant == "receiver":
                rx_ns, tx_ns, address, rx_extra, tx_extra = "a", "b", "10.57.0.1", chimney, []
            else:
                rx_ns, tx_ns, address, rx_extra = "b", "a", "10.57.0.2", []
                tx_extra = chimney if variant == "sender" else []
            time.sleep(0.1)
            rx = subprocess.Popen(self.inside(rx_ns, bulk, "recv", str(PORT), *rx_extra),
                                  stdout=subprocess.PIPE, text=True)
            rx.stdout.readline()
            tx = subprocess.Popen(self.inside(tx_ns, bulk, "send", address, str(PORT), str(seconds),
                                              *tx_extra), stdout=subprocess.PIPE, text=True)
            try:
                out, _ = rx.communicate(timeout=seconds + 60)
                tx.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                rx.kill()
                tx.kill()
                return None
            if rx.returncode or tx.returncode:
                return None
            r = json.loads(out)
            return r["bytes"] * 8 / r["seconds"] / 1e6 if r["seconds"] > 0 else None
        finally:
            wire.send_signal(signal.SIGTERM)
            wire.wait()


def goodput(rx):
    out, _ = rx.communicate(timeout=200)
    if rx.returncode:
        raise SystemExit("loss: a transfer failed: " + out)
    r = json.loads(out)
    if r["wrong"]:
        raise SystemExit("loss: %d wrong bytes" % r["wrong"])
    return r["bytes"] * 8 / r["seconds"] / 1e6


def handback(lab, a):
    """The path with moves every 50 ms beside the same path without."""
    args = ["--latency-us", "10000", "--rate-mbit", "100", "--queue", "300", "--loss-ppm", "10000"]
    rows = []
    for run in range(a.runs):
        got = {}
        for moving in (False, True):
            wire = lab.wire(args, 77 + run)
            time.sleep(0.1)
            stop, moves = threading.Event(), [0]
            rx, tx = lab.sends(PORT, a.seconds, True)
            mover = threading.Thread(target=lab.hand_back, args=(stop, 0.05, moves))
            time.sleep(0.5)
            if moving:
                mover.start()
            got["moving" if moving else "still"] = goodput(rx)
            stop.set()
            if moving:
                mover.join()
                got["moves"] = moves[0]
            tx.communicate(timeout=60)
            wire.send_signal(signal.SIGTERM)
            wire.wait()
        got["ratio"] = got["moving"] / got["still"]
        rows.append(got)
        print("still %.2f Mbit/s, handed back and forth %.2f Mbit/s (%d moves): %.2f" % (
            got["still"], got["moving"], got["moves"], got["ratio"]), flush=True)
    print("median ratio %.2f" % statistics.median(r["ratio"] for r in rows))
    return {"handback": rows}


def fairness(lab, a):
    """A chimney flow and a Linux flow through one bottleneck."""
    rows = []
    for run in range(a.runs):
        wire = lab.wire(["--latency-us", "10000", "--rate-mbit", "100", "--queue", "170"], 99 + run)
        time.sleep(0.1)
        first = lab.sends(PORT, a.seconds, True)
        second = lab.sends(PORT + 1, a.seconds, False)
        share = [goodput(first[0]), goodput(second[0])]
        first[1].communicate(timeout=60)
        second[1].communicate(timeout=60)
        wire.send_signal(signal.SIGTERM)
        wire.wait()
        rows.append({"chimney": share[0], "linux": share[1], "share": share[0] / sum(share)})
        print("chimney %.1f, Linux %.1f Mbit/s: chimney has %.0f %%" % (
            share[0], share[1], 100 * rows[-1]["share"]), flush=True)
    print("median share of chimney %.0f %%" % (100 * statistics.median(r["share"] for r in rows)))
    return {"fairness": rows}


def points(lab, a):
    rows = []
    for rtt in RTTS_MS:
        if a.quick and rtt != 20:
            continue
        for name, args in IMPAIRMENTS:
            point = "%s, RTT %d ms" % (name, rtt)
            if a.only not in point:
                continue
            # Half of the round trip each way, a queue of half the bandwidth-delay product or 100.
            bdp = a.rate * 1e6 / 8 * rtt / 1e3 / 1500
            wire = ["--latency-us", str(rtt * 500), "--rate-mbit", str(a.rate), "--queue",
                    str(max(100, int(bdp / 2))), *args]
            got = {v: [] for v in VARIANTS}
            failed = 0
            for run in range(a.runs):
                for v in VARIANTS:
                    g = lab.transfer(v, wire, a.seconds, 1000 * run + rtt)
                    if g is None:
                        failed += 1
                    else:
                        got[v].append(g)
            med = {v: statistics.median(got[v]) if got[v] else 0.0 for v in VARIANTS}
            base = med["linux"] or float("nan")
            row = {"point": point, "rtt_ms": rtt, "impairment": name, "runs": a.runs,
                   "failed": failed, "mbit": med,
                   "ratio": {v: med[v] / base for v in VARIANTS[1:]}, "all": got}
            rows.append(row)
            print("%-28s linux %7.1f  sender %7.1f (%.2f)  receiver %7.1f (%.2f)%s" % (
                point, med["linux"], med["sender"], row["ratio"]["sender"], med["receiver"],
                row["ratio"]["receiver"], "  %d FAILED" % failed if failed else ""), flush=True)
    return {"rate_mbit": a.rate, "seconds": a.seconds, "rows": rows}


def main():
    p = argparse.ArgumentParser(description="goodput over a bad wire, chimney beside Linux")
    p.add_argument("build")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--seconds", type=float, default=6)
    p.add_argument("--rate", type=int, default=200, help="Mbit/s of the wire")
    p.add_argument("--only", default="", help="points whose name contains this")
    p.add_argument("--quick", action="store_true", help="RTT 20 ms only, 3 runs of 3 s")
    p.add_argument("--handback", action="store_true")
    p.add_argument("--fairness", action="store_true")
    a = p.parse_args()
    if a.quick:
        a.runs, a.seconds = 3, 3
    allowed = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
    before = open(allowed).read().strip()
    if "cubic" not in before.split():
        open(allowed, "w").write(before + " cubic")
    lab = Lab(os.path.abspath(a.build))
    name = "handback" if a.handback else "fairness" if a.fairness else "loss"
    try:
        lab.start()
        result = {"handback": handback, "fairness": fairness, "loss": points}[name](lab, a)
    finally:
        lab.stop()
        if "cubic" not in before.split():
            open(allowed, "w").write(before)
    out = os.path.join(a.build, "bench")
    os.makedirs(out, exist_ok=True)
    with open("%s/%s.json" % (out, name), "w") as f:
        json.dump(result, f, indent=1)
    if name == "loss":
        with open(out + "/loss.md", "w") as f:
            f.write("| point | Linux Mbit/s | chimney sends | ratio | chimney receives | ratio |\n"
                    "|---|---|---|---|---|---|\n")
            for r in result["rows"]:
                f.write("| %s | %.1f | %.1f | %.2f | %.1f | %.2f |\n" % (
                    r["point"], r["mbit"]["linux"], r["mbit"]["sender"], r["ratio"]["sender"],
                    r["mbit"]["receiver"], r["ratio"]["receiver"]))
    print("written: %s/%s.json" % (out, name))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
