"""CreateKey and Revoke, beside a bare insert and a bare update of the same durability: fsync on, synchronous_commit on,
synchronous=FULL. The service also writes an audit event and a row of the change log, and waits for replicas."""

from bench import LIVE, log

from . import ratios

TABLE = """
CREATE TABLE IF NOT EXISTS bench_credentials (LIKE credentials INCLUDING ALL);
INSERT INTO bench_credentials SELECT * FROM credentials ON CONFLICT DO NOTHING;
"""


def run(bench, report):
    postgres(bench, report)
    sqlite(bench, report)


def measure(bench, server, connections):
    flags = ["--address", server.address, "--caller-token", server.token]
    return bench.measure("writes", *flags, "--connections", connections, "--seconds", bench.seconds)


def postgres(bench, report):
    database = bench.database()
    bench.psql(database, TABLE)
    server = bench.start_server(bench.url(database))
    for connections in (1, 16):
        ours, insert, update = [], [], []
        for number in range(bench.rounds):
            ours.append(measure(bench, server, connections))
            insert.append(bench.pgbench(database, "insert", connections))
            update.append(bench.pgbench(database, "update", connections))
            log(f"  round {number + 1}, {connections} at once: CreateKey {ours[-1]['create']['rate']:,.0f}/s, insert {insert[-1]:,.0f}/s, "
                f"Revoke {ours[-1]['revoke']['rate']:,.0f}/s, update {update[-1]:,.0f}/s")
        report_figures(report, f"Postgres, {connections} at once", ours, insert, update)


def sqlite(bench, report):
    path = bench.sqlite()
    server = bench.start_server(f"sqlite:{path}")
    ours, insert, update = [], [], []
    for _ in range(bench.rounds):
        ours.append(measure(bench, server, 1))
        alone = bench.measure("sqlite-alone", "--path", path, "--live", LIVE, "--seconds", bench.seconds)
        insert.append(alone["insert"]["rate"])
        update.append(alone["update"]["rate"])
    report_figures(report, "SQLite, 1 at once", ours, insert, update)


def report_figures(report, where, ours, insert, update):
    for call, verb, bare in (("CreateKey", "create", insert), ("Revoke", "revoke", update)):
        statement = "insert" if verb == "create" else "update"
        rate = [one[verb]["rate"] for one in ours]
        report.ratio("writes", f"{call} ÷ a bare {statement}, {where}: rate", ratios(rate, bare))
        report.absolute("writes", f"{call}, {where}: rate", rate, "/s")
        report.absolute("writes", f"{call}, {where}: p50", [one[verb]["p50_us"] / 1000 for one in ours], "ms")
        report.absolute("writes", f"{call}, {where}: p99", [one[verb]["p99_us"] / 1000 for one in ours], "ms")
        report.absolute("writes", f"a bare {statement}, {where}: rate", bare, "/s")
        refused = [one[verb]["refusals"] for one in ours]
        if any(refused):
            example = next(one[verb]["example"] for one in ours if one[verb]["example"])
            report.absolute("writes", f"{call}, {where}: refused, such as {example}", refused, "", at_most=0)
