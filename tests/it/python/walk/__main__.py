"""Walks through the life of a credential, as a service in another language sees it.

    python tests/it/python/walk --here URL --there URL --strict URL --program PATH --database-url URL

Uses three servers on one store (see `scene.World`) and the command line. Prints each step that passes. The first that fails
ends the walk with exit code 1. PYTHONPATH has the code generated from proto/.
"""

import argparse
import sys
import time
import traceback

import audit
import bulk
import dead
import expiry
import last_use
import leaked
import lists
import policy
import retries
import rotate
import switch
import transfer
import update
from client import Refused, Wrong
from scene import Program, World

# The topics that delete data come last.
TOPICS = [update, switch, rotate, retries, policy, lists, last_use, expiry, bulk, leaked, transfer, audit, dead]


def main():
    parser = argparse.ArgumentParser()
    for name in ("here", "there", "strict", "program", "database-url"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--topic", action="append", help="run only these topics; audit requires all topics before it")
    given = parser.parse_args()
    program = Program(given.program, given.database_url)
    world = World(given.here, given.there, given.strict, program)
    for topic in TOPICS:
        name = topic.__name__.replace("_", "-")
        if given.topic and name not in given.topic:
            continue
        begin = time.monotonic()
        try:
            topic.walk(world.scene(name))
        except (Wrong, Refused) as wrong:
            frames = traceback.extract_tb(wrong.__traceback__)
            line = [frame.lineno for frame in frames if frame.filename == topic.__file__][-1]
            print(f"NOT ok {name} (line {line}): {wrong}", flush=True)
            return 1
        print(f"   {name}: {time.monotonic() - begin:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
