"""In process: check characters, digest, look-up, lease and decision of one token, and the number of allocations."""

import json

from bench import LIVE, OTHER_CORES, run as command

from . import ratios


def run(bench, report):
    path = bench.sqlite()
    flags = ["--path", str(path), "--live", str(LIVE), "--rounds", str(bench.rounds)]
    measured = json.loads(command(["taskset", "-c", ",".join(map(str, OTHER_CORES)), bench.micro, *flags]))
    floor = [measured["digest_ns"]] * len(measured["median_ns"])
    report.ratio("micro", "decide + look-up + digest ÷ digest alone, in process: median", ratios(measured["median_ns"], floor))
    report.absolute("micro", "decide + look-up + digest, in process: median", measured["median_ns"], "ns", at_most=1000)
    report.absolute("micro", "decide + look-up + digest, in process: p99", measured["p99_ns"], "ns")
    report.absolute("micro", "check characters and digest alone", [measured["digest_ns"]], "ns")
    report.absolute("micro", f"allocations in {LIVE * bench.rounds:,} of them", [measured["allocations"]], "", at_most=0)
