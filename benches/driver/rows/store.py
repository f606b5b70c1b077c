"""Introspect not in memory: the server's memory is so small that nearly every call reads the store.

No process is pinned to a core: the server, Postgres and the generator share the machine, as pgbench and Postgres do.
"""

from bench import LIVE, log

from . import per_round, ratios

FLAGS = ["--connections", 50, "--tokens", LIVE]
# All statements except those of the sync loop, the health check, new connections and the benchmark.
CALLS = """
SELECT COALESCE(sum(calls), 0) FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query NOT ILIKE '%set_config%' AND query NOT ILIKE 'SELECT CASE WHEN NOT pg_is_in_recovery%'
  AND query NOT ILIKE '%replicas%' AND query NOT ILIKE '%default_transaction_read_only%' AND query NOT ILIKE '%pg_stat_statements%'
"""


def calls(bench, database):
    return int(bench.psql(database, CALLS))


def run(bench, report):
    postgres(bench, report)
    sqlite(bench, report)


def postgres(bench, report):
    database = bench.database()
    server = bench.start_server(bench.url(database), "--cache-capacity", 64)
    bench.drive(server, *FLAGS, core=None)
    ours, same, plain, trips = [], [], [], []
    for number in range(bench.rounds):
        before = calls(bench, database)
        ours.append(bench.drive(server, *FLAGS, core=None))
        trips.append((calls(bench, database) - before) / (ours[-1]["requests"] + ours[-1]["late"]))
        same.append(bench.pgbench(database, "look_up", 50))
        plain.append(bench.pgbench(database, "select", 50))
        log(f"  round {number + 1}: ours {ours[-1]['rate']:,.0f}/s, pgbench {same[-1]:,.0f}/s, plain {plain[-1]:,.0f}/s")
    # One connection, in alternation. The difference is small, and shows only without other load.
    alone, placed = [], []
    for number in range(bench.rounds):
        alone.append(bench.pgbench(database, "look_up", 1))
        placed.append(bench.pgbench(database, "look_up_placed", 1))
        log(f"  round {number + 1}: one connection {alone[-1]:,.0f}/s, asking whether it is the primary {placed[-1]:,.0f}/s")
    added = [1e6 / asking - 1e6 / plain for asking, plain in zip(placed, alone)]
    report.absolute("store", "pgbench, one connection: what asking for the primary adds to a look-up", added, "µs")
    rate = per_round(ours, "rate")
    report.ratio("store", "Introspect from Postgres ÷ pgbench's select of the same rows, 50 connections", ratios(rate, same), at_least=0.6)
    report.ratio("store", "Introspect from Postgres ÷ pgbench's select of the credential alone, 50 connections", ratios(rate, plain))
    report.absolute("store", "statements at Postgres for each Introspect", trips, "", at_most=1.01)
    report.absolute("store", "Introspect from Postgres, 50 connections: rate", rate, "/s")
    report.absolute("store", "Introspect from Postgres, 50 connections: p99", per_round(ours, "p99_us"), "µs")
    report.absolute("store", "pgbench, the same rows: rate", same, "/s")
    report.absolute("store", "pgbench, the credential alone: rate", plain, "/s")
    bench.stop(server)


def sqlite(bench, report):
    path = bench.sqlite()
    server = bench.start_server(f"sqlite:{path}", "--cache-capacity", 64)
    ours, alone = [], []
    for number in range(bench.rounds):
        ours.append(bench.drive(server, *FLAGS, core=None))
        flags = ["--path", path, "--live", LIVE, "--seconds", bench.seconds]
        alone.append(bench.measure("sqlite-alone", *flags)["look_up"])
        log(f"  round {number + 1}: ours {ours[-1]['rate']:,.0f}/s, the query alone {alone[-1]['rate']:,.0f}/s")
    report.ratio("store", "Introspect from SQLite ÷ the same query alone in process, 50 at once", ratios(per_round(ours, "rate"), per_round(alone, "rate")))
    report.absolute("store", "Introspect from SQLite, 50 connections: rate", per_round(ours, "rate"), "/s")
    report.absolute("store", "the same query alone in process: rate", per_round(alone, "rate"), "/s")
