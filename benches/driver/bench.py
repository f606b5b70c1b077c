"""Shared by all rows: the binaries, processes on their cores, databases with the population, and the generator."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# The core of the server. The generator and the databases use the others.
SERVER_CORE = {0}
OTHER_CORES = set(os.sched_getaffinity(0)) - SERVER_CORE or SERVER_CORE
# Number of live tokens in the store of most rows. It has a twentieth as many revoked ones.
LIVE = 100_000
PERMISSIONS = ["introspect", "credentials.admin", "credentials.read"]


class Failed(Exception):
    """A row could not be measured, or had wrong answers."""


def log(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A server under measurement."""

    def __init__(self, command, core=None, **kwargs):
        pin = (lambda: os.sched_setaffinity(0, core)) if core else None
        self.child = subprocess.Popen(command, preexec_fn=pin, text=True, stdin=subprocess.DEVNULL, **kwargs)
        self.pid = self.child.pid

    def cpu(self):
        """CPU time of all its threads so far, in seconds."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        """Private memory in bytes."""
        with open(f"/proc/{self.pid}/status") as status:
            line = next(line for line in status if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.terminate()
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Listening(Process):
    """A sophic-auth or `load` server. Its first line of output is its address."""

    def __init__(self, command, core=None):
        super().__init__(command, core, stdout=subprocess.PIPE)
        line = self.child.stdout.readline()
        if not line:
            raise Failed(f"did not start: {' '.join(command)}")
        said = json.loads(line)
        self.address = said["grpc"].removeprefix("http://")
        self.http = said.get("http")
        self.token = "none"
        self.peer = []


class Bench:
    """The state of one run."""

    def __init__(self, args, folder):
        self.args = args
        self.folder = folder
        self.rounds = args.rounds
        self.seconds = args.seconds
        url = os.environ["SOPHIC_AUTH_TEST_POSTGRES_URL"]
        self.postgres_port = int(url.rsplit(":", 1)[1].split("/")[0])
        self.postgres_bin = os.environ["POSTGRES_BIN"]
        self.loaded = set()
        self.callers = {}
        self.running = []

    def __enter__(self):
        self.server, self.load, self.micro = built() if self.args.no_build else build()
        return self

    def __exit__(self, *_):
        self.stop_all()

    def stop_all(self):
        while self.running:
            self.running.pop().stop()

    def stop(self, process):
        self.running.remove(process)
        process.stop()

    def keep(self, process):
        """Registers a process that is stopped at the end of the row."""
        self.running.append(process)
        return process

    # Databases.

    def url(self, database):
        return f"postgres://sophic@127.0.0.1:{self.postgres_port}/{database}"

    def psql(self, database, sql, stdin=None):
        command = [f"{self.postgres_bin}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.url(database)]
        command += ["-c", sql] if sql else []
        done = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Failed(f"psql failed in {database}")
        return done.stdout.strip()

    def database(self, live=LIVE):
        """Returns the name of a Postgres database with this many live credentials."""
        name = f"bench_{live}"
        if name not in self.loaded:
            log(f"loading {live:,} credentials into Postgres")
            self.psql("postgres", f"CREATE DATABASE {name}")
            self.psql(name, "CREATE EXTENSION pg_stat_statements")
            run([self.server, "migrate", "--database-url", self.url(name)])
            rows = [self.load, "rows", "--live", str(live), "--revoked", str(live // 20)]
            with subprocess.Popen(rows, stdout=subprocess.PIPE) as made:
                self.psql(name, None, stdin=made.stdout)
            self.loaded.add(name)
        return name

    def sqlite(self, live=LIVE):
        """Returns the path of an SQLite file with this many live credentials."""
        path = self.folder / f"bench_{live}.db"
        if not path.exists():
            log(f"loading {live:,} credentials into SQLite")
            self.measure("sqlite-rows", "--path", path, "--live", live)
        return path

    def caller(self, url, name):
        """Returns the service token of a caller of this store. Creates the caller on first use."""
        if (url, name) not in self.callers:
            command = [self.server, "caller", "create", name, "--database-url", url, "--output", "token"]
            for permission in PERMISSIONS:
                command += ["--permission", permission]
            self.callers[url, name] = run(command).strip()
        return self.callers[url, name]

    # Processes.

    def start_server(self, url, *flags, core=None, unknown_rate_max=0):
        """Starts a sophic-auth server on this store, without a limit on unknown tokens by default, and waits until it is ready."""
        token = self.caller(url, "bench")
        command = [self.server, "serve", "--database-url", url, "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                   # The revoked rows are old, and must not be purged: the rows introspect them.
                   "--purge-dead-after", "0s", "--unknown-rate-max", str(unknown_rate_max)]
        command += ["--output", "json", "--log", "warn", *map(str, flags)]
        server = self.keep(Listening(command, core))
        server.token = token
        for _ in range(200):
            try:
                if urllib.request.urlopen(f"{server.http}/readyz", timeout=2).status == 200:
                    return server
            except (urllib.error.URLError, TimeoutError):
                pass
            time.sleep(0.05)
        raise Failed("our server does not get ready")

    def start_peer(self, kind, sizes, core=None):
        """Starts a `load` server whose answers have the sizes of the service's."""
        lengths = [str(sizes["key_bytes"]), str(sizes["pat_bytes"])]
        command = [self.load, kind, "--key-bytes", lengths[0], "--pat-bytes", lengths[1]]
        server = self.keep(Listening(command, core))
        server.peer = ["--peer", *lengths]
        return server

    def probe(self, server):
        return self.measure("probe", "--address", server.address, "--caller-token", server.token)

    # Measuring.

    def measure(self, *arguments, core=None):
        """Runs a subcommand of `load` and returns its report."""
        pin = (lambda: os.sched_setaffinity(0, core)) if core else None
        command = [self.load, *map(str, arguments)]
        return json.loads(run(command, preexec_fn=pin))

    def drive(self, server, *flags, seconds=None, core=OTHER_CORES, token=None, wrong_ok=False):
        """Runs the generator against a server. Every answer must be right. Adds the server's CPU time to the report."""
        command = drive_command(server, seconds or self.seconds, token or server.token, flags)
        before = server.cpu()
        report = self.measure(*command, core=core)
        report["cpu_us"] = (server.cpu() - before) * 1e6 / max(report["requests"], 1)
        wrong = {kind: report[kind] for kind in ("mismatches", "refusals", "broken") if report[kind]}
        if not wrong_ok and (wrong or not report["requests"]):
            raise Failed(f"{report['requests']} right answers, and {wrong}, such as {report['example']}")
        return report

    def fill(self, server, live=LIVE, extra=()):
        """Introspects every token once, so that the server has all of them in memory."""
        if live > LIVE:
            flags = ["--address", server.address, "--caller-token", server.token, "--connections", 2, "--tokens", live]
            wrong = self.measure("batch", *flags)["mismatches"]
            if wrong:
                raise Failed(f"{wrong} wrong answers while filling")
            return
        flags = ["--once", "--tokens", live, "--connections", 10, "--streams", 8, *extra]
        self.drive(server, *flags, core=None)

    def pgbench(self, database, script, connections, seconds=None, rate=None):
        """Returns the transactions per second of a script. Statements are prepared, and planned once for each connection."""
        command = [f"{self.postgres_bin}/pgbench", "-n", "-M", "prepared", "-c", connections, "-j", 1]
        # Long enough for fifty connections to plan their statement once, as the service did before its measurement.
        command += ["-T", max(4, round(seconds or self.seconds)), "-f", f"benches/sql/{script}.sql", "-D", f"live={LIVE}"]
        command += ["-R", rate] if rate else []
        command += ["-h", "127.0.0.1", "-p", self.postgres_port, "-U", "sophic", database]
        said = run(list(map(str, command)), env={**os.environ, "PGOPTIONS": "-c plan_cache_mode=force_generic_plan -c sophic_auth.system=1"})
        tps = [line for line in said.splitlines() if line.startswith("tps =")]
        if not tps:
            raise Failed(f"pgbench says {said}")
        return float(tps[0].split()[2])


def drive_command(server, seconds, token, flags):
    common = ["--address", server.address, "--caller-token", token, "--seconds", seconds]
    return ["drive", *common, *flags, *server.peer]


def run(command, **kwargs):
    """Runs a command and returns its standard output."""
    kwargs.setdefault("stderr", None)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, stdin=subprocess.DEVNULL, **kwargs)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))[:200]} ended with {done.returncode}")
    return done.stdout


def build():
    """Builds with the profile `dist`, and returns the paths of the three binaries."""
    log("building")
    cargo = os.environ.get("BENCH_CARGO", "cargo")
    command = [cargo, "build", "--profile", "dist", "--locked", "--bin", "sophic-auth", "--bench", "load", "--bench", "micro"]
    messages = run([*command, "--message-format", "json-render-diagnostics"])
    found = {}
    for line in messages.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            found[message["target"]["name"]] = message["executable"]
    return found["sophic-auth"], found["load"], found["micro"]


def built():
    """Returns the paths of the newest existing binaries."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "dist"

    def newest(name):
        found = [path for path in (folder / "deps").glob(f"{name}-*") if not path.suffix]
        return str(max(found, key=lambda path: path.stat().st_mtime))

    return str(folder / "sophic-auth"), newest("load"), newest("micro")
