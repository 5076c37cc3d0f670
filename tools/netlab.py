# SPDX-License-Identifier: Apache-2.0
"""What demo and benchmarks stand on: two namespaces joined by a veth pair, programs inside them."""
import collections
import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import threading
import time

PREFIX = "chimney-lab-"
DESCRIPTORS = 65536  # of each program
PR_SET_PDEATHSIG = 1
SERVER_ADDRESSES = ("10.77.0.1", "fd77::1")
CLIENT_ADDRESSES = ("10.77.0.2", "fd77::2")
SERVER_PORT_NAME, CLIENT_PORT_NAME = "server0", "client0"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def sweep():
    """Removes namespaces of those that were killed before they could do it themselves."""
    for line in run("ip", "netns", "list").splitlines():
        found = re.match(PREFIX + r"(\d+)-", line)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            run("ip", "netns", "del", line.split()[0])


class Lab:
    """Server and client namespace.  The link joins nothing else; the machine's own are not touched."""

    def __init__(self):
        self.server, self.client = (f"{PREFIX}{os.getpid()}-{side}" for side in ("server", "client"))

    def up(self):
        sweep()
        for ns in (self.server, self.client):
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        run("ip", "-n", self.server, "link", "add", SERVER_PORT_NAME, "type", "veth", "peer", "name",
            CLIENT_PORT_NAME, "netns", self.client)
        for ns, port, addresses in ((self.server, SERVER_PORT_NAME, SERVER_ADDRESSES),
                                    (self.client, CLIENT_PORT_NAME, CLIENT_ADDRESSES)):
            run("ip", "-n", ns, "addr", "add", f"{addresses[0]}/24", "dev", port)
            run("ip", "-n", ns, "addr", "add", f"{addresses[1]}/64", "dev", port, "nodad")
            run("ip", "-n", ns, "link", "set", port, "up")

    def down(self):
        for ns in (self.server, self.client):
            subprocess.run(("ip", "netns", "del", ns), capture_output=True)

    @staticmethod
    def counters(ns):
        """The kernel's TCP counters of a namespace, by name."""
        counters = {}
        lines = run("ip", "netns", "exec", ns, "cat", "/proc/net/snmp", "/proc/net/netstat")
        lines = [line.split() for line in lines.splitlines() if line.startswith("Tcp")]
        for names, values in zip(lines[::2], lines[1::2]):
            counters.update((name, int(value)) for name, value in zip(names[1:], values[1:]))
        return counters

    def sockets(self, path):
        """Writes down what both kernels know of their TCP sockets; returns the path."""
        with open(path, "w") as f:
            for ns in (self.server, self.client):
                f.write(f"== {ns}\n" + run("ip", "netns", "exec", ns, "ss", "-tinmoe"))
        return path

    def resets_sent(self):
        """Segments with RST that the two kernels say they sent."""
        return sum(self.counters(ns)["OutRsts"] for ns in (self.server, self.client))


def own_session():
    """In the child: out of reach of the terminal's Ctrl-C, but not surviving us."""
    os.setsid()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
    except (ValueError, OSError):  # not even root may, everywhere: as many as we are given
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Program:
    """A process in a namespace (None: the one we are in).

    Lines of JSON on its standard output go to `on_record`, from a thread.
    """

    def __init__(self, name, ns, command, log, on_record=None, env=None):
        self.name, self.log, self.on_record = name, log, on_record
        self.records = collections.deque()
        inside = ("ip", "netns", "exec", ns) if ns else ()
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                (*inside, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, bufsize=1, preexec_fn=own_session, env=env)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if self.on_record:
                self.on_record(record)
            self.records.append(record)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_record(self, kind, seconds):
        """The next record of that kind; those before it are dropped."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            while self.records:
                record = self.records.popleft()
                if record.get("kind") == kind:
                    return record
            if self.process.poll() is not None and not self.thread.is_alive():
                break
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} did not say \"{kind}\" within {seconds} s; see {self.log}")

    def ended(self, seconds):
        """Its exit code, once it has ended and all of its output is read; None: it has not."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.thread.join(2)
        return self.process.returncode

    def end(self, seconds=3):
        """Ends it, with force if it must be."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Witness:
    """tcpdump on the client's end of the link: counts TCP segments with RST, both directions."""

    FILTER = "tcp[13] & 4 != 0 or (ip6[6] == 6 and ip6[53] & 4 != 0)"

    def __init__(self, ns, capture, log):
        self.capture = capture
        self.program = Program("tcpdump", ns, ("tcpdump", "-i", CLIENT_PORT_NAME, "-n", "-U", "-s",
                                               "96", "-Z", "root", "-w", capture, self.FILTER), log)
        self.log = log
        deadline = time.monotonic() + 5
        while "listening on" not in open(log).read():
            if time.monotonic() > deadline:
                raise RuntimeError(f"tcpdump does not listen; see {log}")
            time.sleep(0.02)

    def count(self):
        """Ends it.  Segments seen; a packet it missed counts as one, for it may have been."""
        time.sleep(0.2)
        self.program.process.send_signal(signal.SIGINT)
        self.program.ended(5)
        seen = len(run("tcpdump", "-n", "-r", self.capture).splitlines())
        missed = re.search(r"(\d+) packets? dropped by kernel", open(self.log).read())
        return seen + (int(missed[1]) if missed else 0)
