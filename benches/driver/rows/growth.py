"""Ten thousand, a million and (with --full) ten million credentials: the rate with the same ten thousand in memory, the
memory that each cached entry takes, and the size of the store."""

from bench import OTHER_CORES, SERVER_CORE, log

from . import per_round, ratios

SET = 10_000


def run(bench, report):
    large = 100_000 if bench.args.quick else 1_000_000
    sizes = [SET, large] + ([10_000_000] if bench.args.full else [])
    servers = {}
    for size in sizes:
        servers[size] = bench.start_server(bench.url(bench.database(size)), "--cache-capacity", 1_500_000, core=SERVER_CORE)
        bench.fill(servers[size], SET)
    rounds = {size: [] for size in sizes}
    for number in range(bench.rounds):
        order = sizes[number % len(sizes):] + sizes[:number % len(sizes)]
        for size in order:
            flags = ["--connections", 50, "--tokens", SET]
            rounds[size].append(bench.drive(servers[size], *flags, core=OTHER_CORES))
    for size in sizes[1:]:
        what = f"rate at {size:,} credentials ÷ at {SET:,}, the same {SET:,} in memory"
        report.ratio("growth", what, ratios(per_round(rounds[size], "rate"), per_round(rounds[SET], "rate")), at_least=0.95)
    for size in sizes:
        report.absolute("growth", f"rate at {size:,} credentials", per_round(rounds[size], "rate"), "/s")
        store(bench, report, size)
    memory(bench, report, servers[large], large)


def store(bench, report, size):
    database = bench.database(size)
    total = int(bench.psql(database, "SELECT pg_database_size(current_database())"))
    rows = int(bench.psql(database, "SELECT pg_total_relation_size('credentials')"))
    report.absolute("growth", f"Postgres at {size:,} credentials: the database", [total / 2**20], "MiB")
    report.absolute("growth", f"Postgres at {size:,} credentials: each with its indexes", [rows / (size * 1.05)], "bytes")


def memory(bench, report, server, entries):
    """Measures how much private memory filling the cache adds."""
    before = server.rss()
    bench.fill(server, entries)
    each = (server.rss() - before) / (entries - SET)
    log(f"  {each:.0f} bytes of memory for each of {entries:,} cached entries")
    report.absolute("growth", f"memory for each cached entry, {entries:,} of them", [each], "bytes", at_most=512)
    report.absolute("growth", f"memory of the server with {entries:,} cached entries", [server.rss() / 2**20], "MiB")
