"""The servers: three places, in each of which the old or the new program runs."""

import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path

# A short lease, so that the calls that wait for a killed server go on soon.
LEASE_S = 2
FLAGS = f"serve --log info --lease {LEASE_S}s --last-use-flush 1s --drain-delay 200ms"
# How long after a start clients may still fail to connect: their channels wait between two tries.
RECONNECT_S = 1.0
START_S = 60


class Place:
    """A pair of ports at which one server runs after another."""

    def __init__(self, name, url, folder):
        self.name, self.url, self.folder = name, url, Path(folder)
        self.grpc, self.http = free_port(), free_port()
        self.process, self.kind, self.starts, self.kinds = None, None, 0, set()
        # Times between which calls may fail, as pairs. The last one is open while the place has no server.
        self.gaps = [[time.monotonic(), float("inf")]]

    @property
    def target(self):
        return f"127.0.0.1:{self.grpc}"

    def may_fail(self, begin, end):
        """Whether a call between these times may have met a stopped server."""
        return any(begin <= up and end >= down for down, up in self.gaps[-3:])

    def start(self, kind, program):
        """Starts a program, and waits until it is ready."""
        self.starts, self.kinds = self.starts + 1, self.kinds | {kind}
        log = self.folder / f"{self.name}-{self.starts:03}-{kind}.log"
        command = [program, "--database-url", self.url, *FLAGS.split()]
        command += ["--listen", self.target, "--http-listen", f"127.0.0.1:{self.http}"]
        with log.open("w") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        end = time.monotonic() + START_S
        while not self.ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{kind} at {self.name} does not start: {log.read_text().strip()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{kind} at {self.name} is not ready in {START_S} s: {log.read_text().strip()}")
            time.sleep(0.02)
        self.kind = kind
        self.gaps[-1][1] = time.monotonic() + RECONNECT_S

    def stop(self, kill):
        """Ends the server: gracefully, or by SIGKILL. Returns what is wrong with how it ended."""
        self.gaps.append([time.monotonic(), float("inf")])
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"{self.kind} at {self.name} did not stop within 30 s"
        return None if kill or code == 0 else f"{self.kind} at {self.name} stopped with exit code {code}"

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=2) as answer:
                return b"management: ready" in answer.read()
        except OSError:
            return False


class Fleet:
    """Three places, and the plan by which their servers are replaced."""

    def __init__(self, old, new, url, folder):
        self.programs, self.url, self.folder = {"old": old, "new": new}, url, Path(folder)
        self.places = [Place(name, url, folder) for name in "ABC"]
        self.replacements, self.kills, self.wrong = Counter(), [], []
        self.turn = 0

    def start(self, place, kind):
        place.start(kind, self.programs[kind])

    def replace(self, kill):
        """Replaces one server by the other program. Three calls roll the whole fleet forth, the next three back."""
        place = self.places[self.turn % 3]
        self.turn += 1
        before, after = place.kind, "old" if place.kind == "new" else "new"
        if kill:
            self.kills.append(time.monotonic())
        wrong = place.stop(kill)
        if wrong:
            self.wrong.append(wrong)
        self.start(place, after)
        self.replacements[f"{before} -> {after}" + (" after SIGKILL" if kill else "")] += 1
        return f"{place.name}: {before} -> {after}{' after SIGKILL' if kill else ''}; now {self.described()}"

    def killed_lately(self, begin):
        """Whether a wait that began then may have been for a killed server."""
        return any(begin - 2 * LEASE_S - RECONNECT_S <= at for at in list(self.kills))

    def replaced_lately(self):
        now = time.monotonic()
        return any(place.may_fail(now - 5, now) for place in self.places)

    def described(self):
        return " ".join(f"{place.name}={place.kind or '-'}" for place in self.places)

    def end(self):
        for place in self.places:
            if place.process and place.process.poll() is None:
                wrong = place.stop(kill=False)
                if wrong:
                    self.wrong.append(wrong)

    def logged(self):
        """Returns the warnings and errors in the logs, without numbers, and how often each occurs."""
        found = Counter()
        for log in sorted(self.folder.glob("*.log")):
            kind = log.stem.rsplit("-", 1)[1]
            for line in log.read_text(errors="replace").splitlines():
                level = re.match(r"\S+Z +(WARN|ERROR) +(.*)", line)
                if level or "panicked" in line:
                    level, text = level.groups() if level else ("ERROR", line)
                    found[(kind, level, re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d[\d.]*", "#", text))] += 1
        return found

    def ask_store(self, statement):
        """Runs a statement in the store by its shell, and returns the lines of its result."""
        if self.url.startswith("sqlite:"):
            command = ["python3", "-c", SQLITE, self.url.removeprefix("sqlite:"), statement]
        else:
            command = ["psql", "-XAtq", self.url, "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.splitlines() if done.returncode == 0 else [f"? {done.stderr.strip()}"]


SQLITE = """
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print("|".join(map(str, row)))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
