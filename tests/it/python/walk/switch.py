"""Disable and Enable, which unlike Revoke can be undone."""

from calls import disable, enable, revoke, state
from client import Refused, expect, holds, race


def walk(s):
    off_and_on(s)
    twice(s)
    for_good(s)
    racing(s)
    who_may(s)


def off_and_on(s):
    key, pat = s.key(), s.pat()
    for made in (key, pat):
        for _ in range(3):
            s.allowed(made.token, "read")
            off = s.root.do(disable(made.id, reason="to see what breaks")).credential
            expect("its state", (state(off), off.HasField("disable_time")), ("DISABLED", True))
            s.denied(made.token, "TOKEN_DISABLED", "read")
            on = s.root.do(enable(made.id)).credential
            expect("its state", (state(on), on.HasField("disable_time")), ("ACTIVE", False))
        s.allowed(made.token, "read")
    reasons = [event.reason for event in s.events(target_id=key.id, action="credential.disable")]
    expect("the reasons in the log", reasons, ["to see what breaks"] * 3)
    s.ok("a disabled credential is refused at every server at once, until it is enabled")


def twice(s):
    made = s.key()
    fresh = s.root.do(enable(made.id)).credential
    expect("enabling what is on changes nothing", fresh, made.credential)
    off = s.root.do(disable(made.id)).credential
    holds("the etag moves", off.etag != fresh.etag)
    expect("disabling it twice", s.root.do(disable(made.id)).credential, off)
    on = s.root.do(enable(made.id)).credential
    expect("enabling it twice", s.root.do(enable(made.id)).credential, on)
    s.ok("both calls are idempotent")


def for_good(s):
    made = s.key()
    s.root.do(disable(made.id))
    s.root.do(revoke(made.id))
    s.root.refused(enable(made.id), "CREDENTIAL_REVOKED")
    expect("it is off, as was asked", state(s.root.do(disable(made.id)).credential), "REVOKED")
    s.denied(made.token, "TOKEN_REVOKED")
    s.ok("a revoked credential cannot be enabled")


def racing(s):
    made = s.key()
    s.root.do(disable(made.id))
    calls = [(actor, make(made.id)) for make in (enable, revoke) for actor in (s.root, s.there) for _ in range(25)]
    for (_, call), outcome in zip(calls, race(*calls)):
        if isinstance(outcome, Refused):
            expect("the losing call", (call.rpc, outcome.reason), ("Enable", "CREDENTIAL_REVOKED"))
    expect("its state", state(s.get(made.id)), "REVOKED")
    s.denied(made.token, "TOKEN_REVOKED")
    s.ok("one hundred Enables and Revokes that race at two servers end revoked")


def who_may(s):
    made = s.key()
    for make in (disable, enable):
        s.dashboard.refused(make(made.id), "ACTING_USER_REQUIRED")
        s.dashboard.refused(make(made.id, acting_user=s.member), "CREDENTIAL_NOT_FOUND")
    s.allowed(made.token, "read")
    s.dashboard.do(disable(made.id, acting_user=s.owner))
    s.denied(made.token, "TOKEN_DISABLED")
    s.dashboard.do(enable(made.id, acting_user=s.owner))
    s.allowed(made.token, "read")
    s.root.invalid(disable(made.id, reason="x" * 257), "reason")
    s.ok("an acting user who may not see a key can neither disable nor enable it")
