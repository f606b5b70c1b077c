"""Introspect from memory, beside a tonic echo, a bare hyper server and Redis; and BatchIntrospect.

Each server has one core and the generator the other, so that they do not compete. A round measures each server in turn,
and every round starts with a different one.
"""

import subprocess

import bench as runner
from bench import LIVE, OTHER_CORES, SERVER_CORE, Process, free_port, log

from . import per_round, ratios

# Connections, and calls in flight on each.
SHAPES = [(10, 1), (50, 1), (10, 16)]
NAMES = {"ours": "Introspect", "echo": "tonic echo", "hyper": "bare hyper", "redis": "Redis GET"}


class Redis:
    """A Redis server with as many values, each as long as an answer."""

    def __init__(self, bench, size):
        self.port = free_port()
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = bench.keep(Process([*command, "--daemonize", "no"], SERVER_CORE, stdout=subprocess.DEVNULL))
        fill = "for i=0,tonumber(ARGV[1])-1 do redis.call('SET', string.format('key:%012d', i), ARGV[2]) end"
        client = ["redis-cli", "-p", str(self.port)]
        for _ in range(100):
            if "PONG" in subprocess.run([*client, "ping"], capture_output=True, text=True, check=False).stdout:
                break
        runner.run([*client, "eval", fill, "0", str(LIVE), "x" * size])

    def get(self, connections, seconds, core=OTHER_CORES):
        """Gets random keys, one command at a time on each connection. A short run first finds how many fit into the time."""
        rate = self._get(connections, 5_000, core)["rate"]
        before = self.process.cpu()
        report = self._get(connections, max(5_000, round(rate * seconds)), core)
        report["cpu_us"] = (self.process.cpu() - before) * 1e6 / report["requests"]
        return report

    def _get(self, connections, count, core):
        command = ["taskset", "-c", ",".join(map(str, core)), "redis-benchmark", "-p", str(self.port), "-t", "get", "--csv"]
        said = runner.run([*command, "-c", str(connections), "-n", str(count), "-r", str(LIVE), "-P", "1"])
        fields = [field.strip('"') for field in said.strip().splitlines()[-1].split(",")]
        return {"requests": count, "rate": float(fields[1]), "p50_us": float(fields[4]) * 1000, "p99_us": float(fields[6]) * 1000}


def run(bench, report):
    server = start(bench)
    sizes = bench.probe(server)
    peers = {"echo": bench.start_peer("echo", sizes, SERVER_CORE), "hyper": bench.start_peer("hyper", sizes, SERVER_CORE)}
    redis = Redis(bench, sizes["key_bytes"])
    report.note("memory", "a request is {request_bytes} bytes, an answer {key_bytes} for a key and {pat_bytes} for a personal "
                "access token; half of the {0:,} live tokens each".format(LIVE, **sizes))
    for connections, streams in SHAPES:
        shape = f"{connections} connections" + (f" × {streams} streams" if streams > 1 else "")
        rounds = [one_round(bench, server, peers, redis, connections, streams, number) for number in range(bench.rounds)]
        report_figures(report, shape, {name: [one[name] for one in rounds] for name in rounds[0]}, streams)


def start(bench, limited=False):
    """Starts a server with every token in memory. `limited` keeps the default limit on unknown tokens."""
    server = bench.start_server(bench.url(bench.database()), core=SERVER_CORE, unknown_rate_max=1_000 if limited else 0)
    few = LIVE // 20
    bench.fill(server, extra=["--revoked", 1])
    pace = ["--rate", 800] if limited else []
    bench.fill(server, extra=["--revoked", 1, "--unknown", 1, "--from", LIVE + few, *pace])
    return server


def one_round(bench, server, peers, redis, connections, streams, number):
    shape = ["--connections", connections, "--streams", streams, "--tokens", LIVE]
    mixed = [*shape, "--revoked", 5, "--unknown", 5]
    turns = {
        "ours": lambda: bench.drive(server, *shape),
        "mixed": lambda: bench.drive(server, *mixed),
        "echo": lambda: bench.drive(peers["echo"], *shape),
        "hyper": lambda: bench.drive(peers["hyper"], *shape),
    }
    if streams == 1:
        turns["redis"] = lambda: redis.get(connections, bench.seconds)
    names = list(turns)
    begin = number % len(names)
    measured = {name: turns[name]() for name in names[begin:] + names[:begin]}
    log(f"  round {number + 1}, {connections} × {streams}: " + ", ".join(f"{name} {measured[name]['rate']:,.0f}/s" for name in names))
    return measured


def report_figures(report, shape, rounds, streams):
    ours = rounds["ours"]
    # The goals are for one call in flight on each connection. More of them is for information.
    goals = streams == 1
    for peer in ("echo", "hyper", "redis"):
        if peer not in rounds:
            continue
        against = f"Introspect ÷ {NAMES[peer]}, {shape}"
        goal = peer == "echo" and goals
        report.ratio("memory", f"{against}: rate", ratios(per_round(ours, "rate"), per_round(rounds[peer], "rate")), at_least=0.95 if goal else None)
        report.ratio("memory", f"{against}: p99", ratios(per_round(ours, "p99_us"), per_round(rounds[peer], "p99_us")), at_most=1.1 if goal else None)
        report.ratio("memory", f"{against}: core time a call", ratios(per_round(ours, "cpu_us"), per_round(rounds[peer], "cpu_us")))
    mixed = ratios(per_round(rounds["mixed"], "rate"), per_round(ours, "rate"))
    report.ratio("memory", f"with 5 % unknown, 5 % revoked ÷ all live, {shape}: rate", mixed, at_least=0.95 if goals else None)
    for name, reports in rounds.items():
        called = NAMES.get(name, "Introspect, 5 % unknown, 5 % revoked")
        report.absolute("memory", f"{called}, {shape}: rate", per_round(reports, "rate"), "/s")
        report.absolute("memory", f"{called}, {shape}: p50", per_round(reports, "p50_us"), "µs")
        report.absolute("memory", f"{called}, {shape}: p99", per_round(reports, "p99_us"), "µs")
        report.absolute("memory", f"{called}, {shape}: core time a call", per_round(reports, "cpu_us"), "µs")
        if name in ("ours", "echo", "hyper"):
            report.absolute("memory", f"{called}, {shape}: the generator's share of its core", per_round(reports, "generator_cpu"), "")


def run_batch(bench, report):
    server = start(bench)
    single, batch = [], []
    for number in range(bench.rounds):
        single.append(bench.drive(server, "--connections", 10, "--tokens", LIVE))
        flags = ["--address", server.address, "--caller-token", server.token, "--connections", 10, "--tokens", LIVE]
        batch.append(bench.measure("batch", *flags, "--seconds", bench.seconds, core=OTHER_CORES))
        log(f"  round {number + 1}: single {single[-1]['rate']:,.0f}/s, batch {batch[-1]['rate']:,.0f}/s")
        if batch[-1]["mismatches"]:
            report.failed("batch", f"{batch[-1]['mismatches']} wrong answers, such as {batch[-1]['example']}")
    report.ratio("batch", "BatchIntrospect of 1,000 ÷ single calls, 10 connections each: tokens a second",
                 ratios(per_round(batch, "rate"), per_round(single, "rate")), at_least=10)
    report.absolute("batch", "BatchIntrospect: tokens a second", per_round(batch, "rate"), "/s")
    report.absolute("batch", "BatchIntrospect: p99 of a call", per_round(batch, "p99_us"), "µs")
    report.absolute("batch", "single calls: tokens a second", per_round(single, "rate"), "/s")
