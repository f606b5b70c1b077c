"""Runs the fleet, the load and the replacements, and prints what was seen. See scripts/rolling-upgrade."""

import argparse
import random
import signal
import statistics
import subprocess
import sys
import time

from calls import Wire
from fleet import Fleet
from load import Load, Token
from stories import STORIES

# Seconds under load between two replacements.
PAUSE_S = 6
# Every so many replacements one is by SIGKILL.
KILL_EVERY = 4
WORKERS, ASKERS = 6, 3
PERMISSIONS = ["introspect", "credentials.read", "credentials.write", "credentials.admin", "directory.read",
               "directory.write", "audit.read", "callers.admin"]


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def version(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(prog="scripts/rolling-upgrade")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--minutes", type=float, default=10, help="how long servers are replaced")
    parser.add_argument("--store", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--url", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--folder", required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    random.seed(given.seed)
    say(f"old is {version(given.old)} ({given.old}), new is {version(given.new)} ({given.new}), store {given.store}, seed {given.seed}")
    fleet = Fleet(given.old, given.new, given.url, given.folder)
    try:
        return run(fleet, given)
    except RuntimeError as error:
        say(f"FAILED: {error}")
        return 1
    finally:
        fleet.end()


def run(fleet, given):
    say("phase 1: three old servers; the first one creates the store")
    for place in fleet.places:
        fleet.start(place, "old")
    create = [given.old, "--database-url", given.url, "caller", "create", "roll", "--output", "token"]
    create += [word for permission in PERMISSIONS for word in ("--permission", permission)]
    root = subprocess.run(create, capture_output=True, text=True, check=True).stdout.strip()
    wire = Wire(fleet)
    load = Load(wire, root)
    load.start(STORIES, WORKERS, ASKERS)
    time.sleep(PAUSE_S)
    say("phase 2: a server at a time is replaced under load, the whole fleet to the new program and back, again and again")
    end, number = time.monotonic() + given.minutes * 60, 0
    while time.monotonic() < end:
        number += 1
        # The first one migrates the store under load, while two old servers use it.
        say(fleet.replace(kill=number % KILL_EVERY == 0))
        time.sleep(PAUSE_S)
    say("phase 3: the load ends, and the servers stop")
    load.end()
    control(load)
    live = fleet.ask_store("SELECT count(*) FROM replicas WHERE end_time IS NULL")
    schema = fleet.ask_store("SELECT max(version) FROM _sqlx_migrations")
    fleet.end()
    left = fleet.ask_store("SELECT count(*) FROM replicas WHERE end_time IS NULL")
    return report(fleet, wire, load, {"live replicas": live, "after the stop": left, "newest migration": schema})


def control(load):
    """Checks that the rig notices a server that still accepts a token, by a call that ends nothing."""
    token = Token(load.key("ws-0").token, "ws-0")
    found, load.wire.wrong, checked, load.wire.quiet = load.wire.wrong, [], load.checked.copy(), True
    load.takes("control", "GetWorkspace", [token], ["TOKEN_REVOKED"], workspace="ws-0")
    noticed, load.wire.wrong, load.checked, load.wire.quiet = load.wire.wrong, found, checked, False
    if len(noticed) != 3:
        load.wire.report(f"a stale answer would not be noticed: {noticed}")


def report(fleet, wire, load, store):
    wrong = wire.wrong + fleet.wrong
    stale = sum("STALE" in one for one in wrong)
    print(f"\nreplacements: {sum(fleet.replacements.values())}")
    table(fleet.replacements)
    print("store: " + ", ".join(f"{name} {' '.join(lines)}" for name, lines in store.items()))
    print(f"calls: {sum(wire.calls.values())}, of them introspections by askers (a batch counts as many): {load.asked}")
    print(f"stories: {dict(load.stories)}")
    print(f"accepted tokens that had to be: {load.accepted}; changes seen by Watch at old and new: "
          f"{load.watched['old']} and {load.watched['new']}")
    checked(load.checked)
    print(f"retries: {wire.retries}; errors:")
    table({" ".join(filter(None, key)): count for key, count in wire.errors.items()})
    print("warnings and errors in the logs:")
    logged = fleet.logged()
    table({f"{kind} {level} {text[:200]}": count for (kind, level, text), count in logged.items()})
    wrong += [f"{kind} logged {text}" for (kind, level, text) in logged if level == "ERROR"]
    latencies(wire)
    for pair in ("old to new", "new to old"):
        if not any(how == pair for _, how in load.checked):
            wrong.append(f"nothing was checked from {pair}")
    print(f"stale answers: {stale}; violations: {len(wrong)}")
    for one in wrong[:50]:
        print(f"  {one}")
    print("ok" if not wrong else "NOT ok")
    return 1 if wrong else 0


def checked(counts):
    """Prints how many answers were checked at once after a call had taken something: by the program that made the change,
    and the program of another server that was asked. `itself` is the server that made it."""
    ways = ["old to new", "new to old", "old to old", "new to new", "itself"]
    print("answers checked at once after a call had taken something:")
    print("  " + "".join(f"{way:>11}" for way in ways))
    for what in [*sorted({what for what, _ in counts}), "all"]:
        numbers = [sum(count for key, count in counts.items() if key[1] == way and what in (key[0], "all")) for way in ways]
        print("  " + "".join(f"{number:11}" for number in numbers) + f"  {what}")


def table(counts):
    for name, count in sorted(counts.items()):
        print(f"  {count:8} {name}")


def latencies(wire):
    """Prints the median of each call, by program. Calls that met a replacement are left out."""
    print("median in ms where no server was being replaced, old and new, and new ÷ old:")
    for rpc in sorted({rpc for rpc, _ in wire.took}):
        old, new = (wire.took.get((rpc, kind), []) for kind in ("old", "new"))
        if len(old) >= 20 and len(new) >= 20:
            old_ms, new_ms = statistics.median(old) * 1e3, statistics.median(new) * 1e3
            print(f"  {rpc:20} {old_ms:8.2f} {new_ms:8.2f} {new_ms / old_ms:6.2f}   ({len(old)} and {len(new)} calls)")


if __name__ == "__main__":
    sys.exit(main())
