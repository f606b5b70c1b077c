"""Ten thousand watchers of one server: its memory for each, and how long until the last receives a change."""

import json
import subprocess

from bench import Failed, log


def run(bench, report):
    server = bench.start_server(bench.url(bench.database()))
    watchers = 1_000 if bench.args.quick else 10_000
    before = server.rss()
    command = [bench.load, "watch", "--address", server.address, "--caller-token", server.token, "--watchers", str(watchers), "--pause"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watching:
        if not watching.stdout.readline():
            raise Failed(f"{watchers} watchers did not begin")
        each = (server.rss() - before) / watchers
        said, _ = watching.communicate("\n")
    if watching.returncode:
        raise Failed("a watcher was dropped")
    told = json.loads(said)
    log(f"  {watchers:,} watchers: {each:,.0f} bytes each; all have heard after {told['median_s'] * 1000:.0f} ms")
    report.absolute("watch", f"{watchers:,} watchers of one server: memory of the server for each", [each], "bytes")
    report.absolute("watch", f"{watchers:,} watchers: to begin all of them", [told["opened_s"]], "s")
    report.absolute("watch", "from CreateKey's call until the last has heard: median", [told["median_s"] * 1000], "ms")
    report.absolute("watch", "from CreateKey's call until the last has heard: longest", [told["max_s"] * 1000], "ms")
