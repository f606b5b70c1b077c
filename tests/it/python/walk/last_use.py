"""Last use: its time and address, without a write on Introspect. The servers of the walk write it every 50 ms."""

from calls import bulk_revoke, disable, from_now, micros, update
from client import expect, holds
from scene import until


def walk(s):
    it_shows(s)
    never_backwards(s)
    no_use(s)


def use(s, actor, made, client_ip=""):
    """Uses a token, and returns the earliest and latest possible time of the use."""
    before = micros(from_now(0))
    answer = s.ask(actor, made.token, client_ip=client_ip)
    expect("a use is answered", answer.active, True)
    return before, micros(from_now(0))


def it_shows(s):
    for made in (s.key(), s.pat()):
        holds("it was never used", not made.credential.HasField("last_use_time"))
        revision = s.revision()
        before, after = use(s, s.root, made, "192.0.2.7")
        find = lambda: [one for one in s.listed(family_id=made.id) if one.HasField("last_use_time")]
        [used] = until("List shows the use", find)
        holds("its time is that of the use", before - 1_000 <= micros(used.last_use_time) <= after, used.last_use_time)
        expect("its address", used.last_use_ip, "192.0.2.7")
        expect("a use is no change", used.etag, made.credential.etag)
        expect("nor has it a revision", s.revision(), revision)
        expect("nor an audit event", len(s.history(made.id)), 1)
        use(s, s.there, made, "2001:db8::7")
        until("a use elsewhere shows", lambda: s.get(made.id).last_use_ip == "2001:db8::7")
        use(s, s.root, made)
        until("a use from an unknown address shows", lambda: s.get(made.id).last_use_ip == "")
    s.ok("a use eventually shows in List, with its time and the client's address")


def never_backwards(s):
    made = s.key()
    last, latest = 0, 0
    for number in range(40):
        _, latest = use(s, (s.root, s.there)[number % 2], made, f"192.0.2.{number + 1}")
        shown = micros(s.get(made.id).last_use_time)
        holds("the last use does not move backwards", shown >= last, (shown, last))
        last = shown
    until("the latest is what stays", lambda: s.get(made.id).last_use_ip == "192.0.2.40")
    holds("with its time", last <= micros(s.get(made.id).last_use_time) <= latest)
    s.ok("it never moves backwards where two servers write it")


def no_use(s):
    off, other, control = s.key(), s.key(), s.key()
    s.root.do(disable(off.id))
    s.root.do(update(other.id, ip_allowlist=["192.0.2.1"]))
    s.denied(off.token, "TOKEN_DISABLED")
    s.denied(other.token, "IP_NOT_ALLOWED")
    # It is written in the same batch or a later one, so once it shows, the others would too.
    for actor in (s.root, s.there):
        before, _ = use(s, actor, control, "192.0.2.9")
        until("the control shows", lambda: micros(s.get(control.id).last_use_time) >= before)
    holds("a refused token is not used", not s.get(off.id).HasField("last_use_time"))
    dry = s.root.do(bulk_revoke(workspace=s.workspace, last_used_before=from_now(-3_600), dry_run=True))
    expect("what was not used for an hour", off.id in [one.id for one in dry.sample], True)
    s.ok("a refused token is not used")
