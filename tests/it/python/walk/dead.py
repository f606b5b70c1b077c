"""Purge: a server's task and the command delete credentials that were revoked long ago. The log keeps their history. (In the
walk "long ago" is a microsecond.)"""

import json
import signal
import subprocess

from calls import get, revoke, state
from client import PATIENCE_S, expect, holds
from scene import until


def walk(s):
    by_a_server(s)
    by_the_command(s)
    retention(s)


def gone(s, made):
    s.root.refused(get(made.id), "CREDENTIAL_NOT_FOUND")
    for actor in (s.root, s.there):
        expect("its token", s.ask(actor, made.token).active, False)
    last = s.events(target_id=made.id, action="credential.purge")[-1]
    expect("its last event", (json.loads(last.before)["state"], last.after), ("revoked", ""))


def by_a_server(s):
    dead, alive = s.key(), s.key()
    s.root.do(revoke(dead.id))
    living = [one.id for one in s.listed(page_size=1_000) if state(one) in ("ACTIVE", "DISABLED")]
    flags = ["--purge-every", "50ms", "--purge-dead-after", "1us", "--purge-changes-after", "1us"]
    listen = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log", "off"]
    quiet = subprocess.DEVNULL
    serving = s.world.program.start("serve", *listen, *flags, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        until("revoked credentials are gone", lambda: [one.id for one in s.listed(page_size=1_000)] == living)
        serving.send_signal(signal.SIGTERM)
        expect("its exit code", serving.wait(PATIENCE_S), 0)
    finally:
        serving.kill()
    gone(s, dead)
    s.allowed(alive.token, "read")
    s.ok("a server's task deletes credentials that were revoked long ago, and active ones stay")


def by_the_command(s):
    dead, alive = s.key(), s.key()
    s.root.do(revoke(dead.id))
    run = s.world.program.json
    expect("nothing is old enough", run("purge")["purged_credential_count"], 0)
    # Credentials that earlier steps gave a short lifetime may have expired since the last purge.
    number = len(s.events(action="credential.purge"))
    purged = run("purge", "--dead-after", "1us", "--changes-after", "1us")
    number = len(s.events(action="credential.purge")) - number
    expect("the number deleted", purged["purged_credential_count"], number)
    gone(s, dead)
    s.allowed(alive.token, "read")
    s.root.do(revoke(alive.id))
    s.denied(alive.token, "TOKEN_REVOKED")
    s.ok("`purge` does the same, and servers keep following changes")


def retention(s):
    number = len(s.events())
    run = s.world.program.json
    expect("nothing is old enough", run("audit", "purge", "--older-than", "400d")["purged_count"], 0)
    # The purge that deleted nothing has an event too.
    expect("the number deleted", run("audit", "purge", "--older-than", "0s")["purged_count"], number + 1)
    # Each batch has an event with its number.
    left = s.events()
    found = {(event.action, event.target_kind) for event in left}
    expect("the remaining events", found, {("audit.purge", "audit")})
    counted = [json.loads(event.after)["purged_count"] for event in left]
    expect("each batch", (sum(counted), max(counted)), (number + 1, 500))
    for event in left:
        holds("the caller is the operator", event.caller.startswith("operator:"), event.caller)
    s.ok("the log is purged by a separate command, which records an event")
