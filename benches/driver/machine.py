"""Describes the machine and the programs of a run."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path


def first_line(*command):
    """Returns the first line of a command's output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else "?"


def describe(args, names):
    cpu = "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    dirty = " with changes" if subprocess.run(["git", "diff", "--quiet", "HEAD"], check=False).returncode else ""
    postgres = os.environ.get("POSTGRES_BIN", "/usr/bin") + "/postgres"
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return [
        f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, commit {first_line('git', 'rev-parse', '--short=12', 'HEAD')}{dirty}",
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Linux {platform.release()}; load before the run {load}",
        f"{first_line('rustc', '--version')}; {first_line(postgres, '--version')}; {first_line('redis-server', '--version')[:22]}; "
        f"{first_line('nginx', '-v')}; {first_line('h2load', '--version')}",
        f"rows {','.join(names)}; {args.rounds} rounds of {args.seconds} s each"
        + ("; QUICK: these figures say only that it works" if args.quick else ""),
    ]
