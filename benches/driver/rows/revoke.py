"""How long a Revoke takes, and how long its token stays active anywhere: with one, three and eight replicas, and with one
of three frozen. Beside one durable commit on the same store, in alternation."""

import signal
import time

from bench import Failed, log

REPLICAS = (1, 3, 8)


def run(bench, report):
    url = bench.url(bench.database())
    for count in REPLICAS:
        servers = [bench.start_server(url) for _ in range(count)]
        awake(bench, count)
        measured = [once(bench, servers, "--iterations", 10 if bench.args.quick else 60) for _ in range(bench.rounds)]
        for server in servers:
            bench.stop(server)
        report_figures(report, f"{count} replica{'s' if count > 1 else ''}", measured, goal=count == 3)
        log(f"  {count} replicas: Revoke {measured[-1]['revoke']['p50_ms']:.2f} ms, commit {measured[-1]['commit']['p50_ms']:.2f} ms")
    frozen(bench, report, url)


def once(bench, servers, *flags):
    replicas = [flag for server in servers for flag in ("--replica", server.address)]
    arguments = ["--caller-token", servers[0].token, "--postgres", bench.url(bench.database()), *replicas, *flags]
    return bench.measure("revoke", *arguments)


def report_figures(report, where, measured, goal):
    def figures(kind, key):
        return [one[kind][key] for one in measured]

    def against_commit(kind):
        return [one[kind]["p50_ms"] / one["commit"]["p50_ms"] for one in measured]

    report.ratio("revoke", f"Revoke ÷ one durable commit, {where}: median", against_commit("revoke"), at_most=5 if goal else None)
    report.ratio("revoke", f"last stale answer ÷ one durable commit, {where}: median", against_commit("stale"))
    report.absolute("revoke", f"one durable commit, {where}: median", figures("commit", "p50_ms"), "ms")
    for kind, name in (("revoke", "Revoke until it returns"), ("stale", "from Revoke's call to the last stale answer")):
        report.absolute("revoke", f"{name}, {where}: median", figures(kind, "p50_ms"), "ms")
        report.absolute("revoke", f"{name}, {where}: longest", figures(kind, "max_ms"), "ms")
    late = [one["violations"] for one in measured]
    report.absolute("revoke", f"stale answers after Revoke had returned, {where}", late, "", at_most=0)


def frozen(bench, report, url):
    """One of three replicas stops without deregistering, so a Revoke waits for the rest of its lease."""
    lease = 2.0 if bench.args.quick else 10.0
    servers = [bench.start_server(url, "--lease", f"{lease}s") for _ in range(3)]
    took = []
    for number in range(min(bench.rounds, 3)):
        awake(bench, 3)
        servers[2].signal(signal.SIGSTOP)
        try:
            measured = once(bench, servers[:2], "--iterations", 1, "--alone")
        finally:
            servers[2].signal(signal.SIGCONT)
        took.append(measured["revoke"]["p50_ms"] / 1000)
        log(f"  one of three frozen, round {number + 1}: Revoke {took[-1]:.2f} s of a lease of {lease} s")
    report.ratio("revoke", "Revoke ÷ one lease, one of three replicas frozen", [one / lease for one in took], at_most=1.1)
    report.absolute("revoke", f"Revoke, one of three replicas frozen, a lease of {lease:.0f} s", took, "s")


def awake(bench, count):
    """Waits until this many replicas are registered and answer."""
    for _ in range(400):
        if int(bench.psql(bench.database(), "SELECT count(*) FROM replicas WHERE end_time IS NULL")) == count:
            return
        time.sleep(0.05)
    raise Failed(f"there are never {count} replicas")
