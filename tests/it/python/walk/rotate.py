"""Rotate: one successor, an overlap, a family."""

import time
import uuid

import calls
from calls import HOUR, bulk_revoke, without_last_use, disable, micros, revoke, rotate, span, state
from client import Refused, expect, holds, race
from scene import until

NOBODY = "0195f2d4-7c1e-7b3a-9d58-0242ac120002"


def walk(s):
    at_once(s)
    with_overlap(s)
    overlap_that_ends(s)
    lifetimes(s)
    not_twice(s)
    racing(s)
    retried(s)
    families(s)
    refusals(s)


def at_once(s):
    fields = {"ip_allowlist": ["192.0.2.0/24"], "annotations": {"team": "search"}, "max_role": calls.role("viewer")}
    made = s.pat(**fields)
    s.allowed(made.token, "read", client_ip="192.0.2.1")
    rotated = s.root.do(rotate(made.id))
    old, new = made.credential, rotated.credential
    expect("its place", (new.predecessor_id, new.family_id), (old.id, old.id))
    for field in ("kind", "user_id", "name", "scopes", "max_role", "ip_allowlist", "annotations", "state"):
        expect(f"the successor's {field}", getattr(new, field), getattr(old, field))
    holds("it is another", len({old.id, new.id}) == len({old.hint, new.hint}) == 2)
    expect("what it says of the old one", without_last_use(rotated.predecessor), without_last_use(s.get(old.id)))
    expect("the old one's state", state(rotated.predecessor), "REVOKED")
    s.denied(made.token, "TOKEN_REVOKED", "read", client_ip="192.0.2.1")
    s.allowed(rotated.token, "read", client_ip="192.0.2.1")
    s.denied(rotated.token, "IP_NOT_ALLOWED", "read")
    s.denied(rotated.token, "INSUFFICIENT_SCOPE", "capture", client_ip="192.0.2.1")
    s.ok("without an overlap the old token is revoked at every server at once, and the successor has the same fields")


def with_overlap(s):
    made = s.key()
    rotated = s.root.do(rotate(made.id, HOUR))
    end = micros(rotated.predecessor.expire_time)
    expect("the overlap", end - micros(rotated.credential.create_time), HOUR * 10**6)
    expect("the old one's state", state(rotated.predecessor), "ACTIVE")
    answer = s.allowed(made.token, "read")
    expect("the end that introspection reports", micros(answer.credential.expire_time), end)
    holds("no cache holds it longer", answer.cache_ttl.seconds <= HOUR)
    s.allowed(rotated.token, "read")
    short = s.key(ttl=span(600))
    rotated = s.root.do(rotate(short.id, 24 * HOUR))
    expect("never past its own end", rotated.predecessor.expire_time, short.credential.expire_time)
    s.ok("during an overlap both are active, and the old one has an expiry")


def overlap_that_ends(s):
    made = s.key()
    rotated = s.root.do(rotate(made.id, 1.5))
    s.allowed(rotated.token, "read")
    for actor in (s.root, s.there):
        until("the old one is dead by itself", lambda: not s.ask(actor, made.token).active)
        holds("and not before its time", time.time() * 1e6 >= micros(rotated.predecessor.expire_time))
    s.denied(made.token, "TOKEN_EXPIRED")
    s.allowed(rotated.token, "read")
    s.ok("the end of an overlap is kept")


def lifetimes(s):
    made = s.key(ttl=span(600))

    def lifetime(credential):
        return micros(credential.expire_time) - micros(credential.create_time)

    rotated = s.root.do(rotate(made.id))
    expect("as long as the old one", lifetime(rotated.credential), lifetime(made.credential))
    rotated = s.root.do(rotate(rotated.credential.id, ttl=span(7_200)))
    expect("as long as was asked", lifetime(rotated.credential), 7_200 * 10**6)
    off = s.key()
    s.root.do(disable(off.id))
    rotated = s.root.do(rotate(off.id))
    expect("the successor of a disabled one", state(rotated.credential), "DISABLED")
    s.denied(rotated.token, "TOKEN_DISABLED")
    s.ok("a successor has the lifetime of its predecessor, and is disabled if its predecessor was")


def not_twice(s):
    made = s.key()
    rotated = s.root.do(rotate(made.id, HOUR))
    found = s.root.refused(rotate(made.id, HOUR), "ALREADY_ROTATED")
    expect("whom it names", found["successor_id"], rotated.credential.id)
    s.root.do(revoke(rotated.credential.id))
    again = s.root.do(rotate(made.id, HOUR))
    s.allowed(made.token, "read")
    s.allowed(again.token, "read")
    s.denied(rotated.token, "TOKEN_REVOKED")
    s.ok("a credential with an active successor gets no second one, and the error names the successor")


def racing(s):
    made = s.key()
    # A separate caller, because only a hundred refusals of one caller are recorded at once.
    racer = s.world.caller("rotate-racer", "credentials.admin")
    actors = (racer, racer.at(s.world.there))
    outcomes = race(*[(actor, rotate(made.id, overlap)) for actor in actors for overlap in (None, HOUR) * 25])
    won = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    lost = {outcome.reason for outcome in outcomes if isinstance(outcome, Refused)}
    expect("how many successors were made", len(won), 1)
    holds("the others fail with the right reason", lost <= {"ALREADY_ROTATED", "CREDENTIAL_REVOKED"}, lost)
    expect("the family", [one.id for one in s.listed(family_id=made.id)], [made.id, won[0].credential.id])
    s.allowed(won[0].token, "read")
    s.ok("one hundred that race at two servers make one successor")


def retried(s):
    made = s.key()
    call = rotate(made.id, HOUR, request_id=str(uuid.uuid4()))
    first, again = s.root.do(call), s.there.do(call)
    expect("the successor", again.credential.id, first.credential.id)
    expect("the predecessor", without_last_use(again.predecessor), without_last_use(first.predecessor))
    s.denied(first.token, "TOKEN_UNKNOWN")
    s.allowed(again.token, "read")
    s.allowed(made.token, "read")
    s.root.invalid(call.but(overlap=span(60)), "request_id")
    expect("the family", len(s.listed(family_id=made.id)), 2)
    other = s.key()
    call = rotate(other.id, request_id=str(uuid.uuid4()))
    outcomes = race((s.root, call), (s.there, call))
    for outcome in outcomes:
        holds("a retry that races is answered", not isinstance(outcome, Refused), outcome)
    expect("how many successors they made", len({outcome.credential.id for outcome in outcomes}), 1)
    expect("the number of active tokens", sum(s.ask(s.root, outcome.token).allowed for outcome in outcomes), 1)
    s.denied(other.token, "TOKEN_REVOKED")
    s.ok("a retried Rotate gives the same successor, also where two race")


def families(s):
    made = s.key()
    s.key()
    ids, tokens = [made.id], [made.token]
    for _ in range(3):
        rotated = s.root.do(rotate(ids[-1], HOUR))
        ids.append(rotated.credential.id)
        tokens.append(rotated.token)
    expect("the family, oldest first", [one.id for one in s.listed(family_id=made.id)], ids)
    paged = [one.id for one in s.listed(family_id=made.id, page_size=1)]
    expect("the same page by page", paged, ids)
    dry = s.root.do(bulk_revoke(family_id=made.id, dry_run=True))
    expect("a dry run of its end", (dry.revoked_count, [one.id for one in dry.sample]), (4, ids))
    for token in tokens:
        s.allowed(token, "read")
    done = s.root.do(bulk_revoke(family_id=made.id, reason="the family was leaked"))
    expect("how many it were", done.revoked_count, 4)
    for token in tokens:
        s.denied(token, "TOKEN_REVOKED")
    expect("their states", {state(one) for one in s.listed(family_id=made.id)}, {"REVOKED"})
    s.ok("a family is listed oldest first, and revoked as a whole")


def refusals(s):
    made, dead, brief = s.key(), s.key(), s.key(ttl=span(1))
    s.root.do(revoke(dead.id))
    s.root.refused(rotate(dead.id), "CREDENTIAL_REVOKED")
    until("it is dead by itself", lambda: not s.ask(s.root, brief.token).active)
    s.root.refused(rotate(brief.id), "CREDENTIAL_EXPIRED")
    s.root.refused(rotate(made.id, etag='"ff"'), "ETAG_MISMATCH")
    s.root.refused(rotate(NOBODY), "CREDENTIAL_NOT_FOUND")
    s.root.invalid(rotate(made.id, -1), "overlap")
    s.root.invalid(rotate(made.id, request_id="one"), "request_id")
    s.dashboard.refused(rotate(made.id), "ACTING_USER_REQUIRED")
    s.dashboard.refused(rotate(made.id, acting_user=s.member), "CREDENTIAL_NOT_FOUND")
    expect("nothing was changed", s.get(made.id).etag, made.credential.etag)
    s.allowed(made.token, "read")
    rotated = s.dashboard.do(rotate(made.id, acting_user=s.owner, etag=made.credential.etag))
    expect("the creator of the successor", rotated.credential.creator, f"user:{s.owner}")
    s.ok("a revoked, expired, changed or hidden credential is not rotated")
