"""Runs the selected rows, prints one table, and writes benches/RESULTS.md.

Started by scripts/bench, which has a Postgres ready. Progress goes to standard error, the table to standard output.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import machine
from bench import Bench, Failed, log
from report import Report
from rows import flood, growth, http, memory, micro, revoke, store, watch, writes

ROWS = {
    "micro": micro.run,
    "memory": memory.run,
    "batch": memory.run_batch,
    "store": store.run,
    "writes": writes.run,
    "revoke": revoke.run,
    "growth": growth.run,
    "flood": flood.run,
    "watch": watch.run,
    "http": http.run,
}


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="take seconds instead of minutes, to check that everything works")
    parser.add_argument("--full", action="store_true", help="also measure ten million credentials, which takes 15 minutes more")
    parser.add_argument("--rows", help=f"rows to run, separated by commas: {','.join(ROWS)}")
    parser.add_argument("--rounds", type=int, help="number of alternating rounds [default: 5; quick: 2]")
    parser.add_argument("--seconds", type=float, help="duration of each measurement [default: 4; quick: 0.5]")
    parser.add_argument("--results", type=Path, help="file for the table [default: benches/RESULTS.md; quick: nowhere]")
    parser.add_argument("--no-build", action="store_true", help="use the newest existing binaries")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = args.seconds or (0.5 if args.quick else 4.0)
    names = args.rows.split(",") if args.rows else list(ROWS)
    for name in names:
        if name not in ROWS:
            parser.error(f"no row is called {name}")
    if args.results is None and not args.quick:
        args.results = Path("benches/RESULTS.md")
    return args, names


def main():
    args, names = arguments()
    # Without a backtrace, an error of `load` is one line.
    os.environ["RUST_BACKTRACE"] = "0"
    report = Report()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sophic-auth-bench.") as folder, Bench(args, Path(folder)) as bench:
        about = machine.describe(args, names)
        for name in names:
            log(f"row {name}")
            since = time.monotonic()
            try:
                ROWS[name](bench, report)
            except Exception as failure:  # noqa: BLE001: the other rows continue, and the report shows the error
                if not isinstance(failure, Failed):
                    traceback.print_exc()
                report.failed(name, f"{type(failure).__name__}: {failure}")
                log(f"row {name} FAILED: {failure}")
            finally:
                bench.stop_all()
            log(f"row {name} done in {time.monotonic() - since:.0f} s")
    text = report.render(about, time.monotonic() - started)
    print(text)
    if args.results:
        args.results.write_text(text + "\n")
        log(f"written to {args.results}")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
