"""A flood of well-formed made-up tokens from one caller, beside the good traffic of another.

The server has one core, and both generators and Postgres share the other. The good traffic is therefore measured beside
three loads: the flood; a second caller with the same load of live tokens, which shows the effect of the made-up tokens;
and such a caller with pgbench reading the store at the rate of the flood's misses, which is the same work for the machine
and shows the effect inside the server.
"""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from bench import LIVE, OTHER_CORES, drive_command, log

from . import per_round, ratios
from .memory import start
from .store import calls

GOOD = ["--connections", 10, "--tokens", LIVE]
SECOND = ["--connections", 10, "--streams", 4, "--tokens", LIVE]
# Each flood uses new tokens.
EACH = 1 << 32
# Default of `serve` for the look-ups of unknown tokens per caller and second.
UNKNOWN_RATE_MAX = 1_000


def run(bench, report):
    database = bench.database()
    server = start(bench, limited=True)
    flooder = bench.caller(bench.url(database), "flooder")
    alone, beside, flooded, mirrored, misses, floods = [], [], [], [], [], []
    for number in range(bench.rounds):
        alone.append(good(bench, server))
        beside.append(beside_second_caller(bench, server, flooder, [])[0])
        before = calls(bench, database)
        one, flood = beside_second_caller(bench, server, flooder, ["--flood", number * EACH])
        flooded.append(one)
        floods.append(flood["rate"] + flood["refusals"] / flood["seconds"])
        misses.append((calls(bench, database) - before) / flood["seconds"])
        with ThreadPoolExecutor() as pool:
            reads = pool.submit(bench.pgbench, database, "look_up", 10, bench.seconds + 1, max(1, round(misses[-1])))
            mirrored.append(beside_second_caller(bench, server, flooder, [])[0])
            reads.result()
        log(f"  round {number + 1}: alone {alone[-1]['rate']:,.0f}/s, beside good {beside[-1]['rate']:,.0f}/s, beside a flood "
            f"{flooded[-1]['rate']:,.0f}/s ({misses[-1]:,.0f} misses/s), with as many reads {mirrored[-1]['rate']:,.0f}/s")
    rate = per_round(flooded, "rate")
    report.ratio("flood", "good traffic beside a flood ÷ beside as much good traffic of the flooder's", ratios(rate, per_round(beside, "rate")), at_least=0.8)
    report.ratio("flood", "the same, with as many reads of the store in the second", ratios(rate, per_round(mirrored, "rate")), at_least=0.8)
    report.ratio("flood", "good traffic beside a flood ÷ alone on the machine", ratios(rate, per_round(alone, "rate")))
    report.ratio("flood", "p99 of good traffic beside a flood ÷ beside as much good traffic", ratios(per_round(flooded, "p99_us"), per_round(beside, "p99_us")))
    report.absolute("flood", "good traffic beside a flood: rate", rate, "/s")
    report.absolute("flood", "good traffic beside as much good traffic: rate", per_round(beside, "rate"), "/s")
    report.absolute("flood", "good traffic alone: rate", per_round(alone, "rate"), "/s")
    report.absolute("flood", "the flood: answers and refusals", floods, "/s")
    # The token bucket holds one second's worth. A tenth is added for look-ups in flight.
    bound = UNKNOWN_RATE_MAX * (1.1 + 1 / bench.seconds)
    report.absolute("flood", "reads of the store during the flood", misses, "/s", at_most=bound)


def good(bench, server):
    return bench.drive(server, *GOOD, core=OTHER_CORES)


def beside_second_caller(bench, server, second_caller, flags):
    """Measures the good traffic beside a second caller, which starts first and ends last. Returns both reports."""
    command = drive_command(server, bench.seconds + 0.6, second_caller, SECOND + flags)
    second = subprocess.Popen([bench.load, *map(str, command)], stdout=subprocess.PIPE, text=True, preexec_fn=pin)
    # The generator encodes its requests before it starts.
    time.sleep(0.4)
    measured = good(bench, server)
    said, _ = second.communicate()
    return measured, json.loads(said)


def pin():
    os.sched_setaffinity(0, OTHER_CORES)
