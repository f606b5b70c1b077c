"""`request_id`: a retried call creates nothing twice. (tests/it/grpc/retries.rs tests with a
simulated clock that an id is free again after a day, and that a retry is too late after ten minutes.)"""

import uuid

from calls import create_key, create_pat, put_workspace, revoke, scopes, span
from client import Refused, expect, holds, race
from scene import PERMISSIONS, until


def fresh():
    return str(uuid.uuid4())


def walk(s):
    again(s)
    another_body(s)
    racing(s)
    too_late(s)
    ids(s)


def again(s):
    for call in (create_key(s.workspace, request_id=fresh()), create_pat(s.owner, request_id=fresh())):
        first, second = s.root.do(call), s.there.do(call)
        expect("the credential", second.credential.id, first.credential.id)
        holds("its token is a fresh one", first.token != second.token)
        s.denied(first.token, "TOKEN_UNKNOWN")
        s.allowed(second.token, "read")
        # The last four characters of the body, before the six check characters.
        holds("the hint is of the token that works", second.credential.hint.endswith(second.token[-10:-6]))
        story = s.history(first.credential.id)
        made = "key.create" if call.rpc == "CreateKey" else "pat.create"
        expect("its story", story, [made, "credential.replay"])
    expect("how many there are", len(s.listed(creator=f"caller:{s.root.name}")), 2)
    s.ok("the same id with the same request makes no second credential, and shows a fresh token")


def another_body(s):
    call = create_key(s.workspace, granted=("read", "admin"), request_id=fresh())
    made = s.root.do(call)
    changes = [
        {"name": "cd"}, {"scopes": scopes("read")}, {"ttl": span(60)}, {"ip_allowlist": ["192.0.2.1"]},
        {"annotations": {"a": "b"}},
    ]
    for change in changes:
        s.root.invalid(call.but(**change), "request_id")
    s.root.invalid(create_pat(s.owner, request_id=call.fields["request_id"]), "request_id")
    same = call.but(scopes=scopes("admin", "read", "read"), request_id=call.fields["request_id"].upper())
    expect("the order of scopes is no other request", s.root.do(same).credential.id, made.credential.id)
    s.ok("another request under the same id is INVALID_ARGUMENT")


def racing(s):
    before = len(s.listed(creator=f"caller:{s.root.name}"))
    for call in (create_key(s.workspace, request_id=fresh()), create_pat(s.owner, request_id=fresh())):
        for servers in ((s.root, s.there), (s.root, s.root)):
            call = call.but(request_id=fresh())
            outcomes = race(*[(actor, call) for actor in servers])
            for outcome in outcomes:
                holds("a retry that races is answered", not isinstance(outcome, Refused), outcome)
            expect("how many were made", len({outcome.credential.id for outcome in outcomes}), 1)
            living = [outcome for outcome in outcomes if s.ask(s.root, outcome.token).allowed]
            expect("the number of active tokens", len(living), 1)
            s.allowed(living[0].token, "read")
    many = create_key(s.workspace, request_id=fresh())
    outcomes = race(*[(actor, many) for actor in (s.root, s.there) * 10])
    holds("all are answered", not any(isinstance(outcome, Refused) for outcome in outcomes), outcomes)
    expect("how many were made", len({outcome.credential.id for outcome in outcomes}), 1)
    expect("the number of active tokens", sum(s.ask(s.root, outcome.token).allowed for outcome in outcomes), 1)
    expect("how many there are more", len(s.listed(creator=f"caller:{s.root.name}")) - before, 5)
    s.ok("calls that race with the same id, at one server or two, make one credential")


def too_late(s):
    call = create_key(s.workspace, request_id=fresh())
    made = s.root.do(call)
    s.allowed(made.token, "read")
    until("the use is written", lambda: s.get(made.credential.id).HasField("last_use_time"))
    for actor in (s.root, s.there):
        found = actor.refused(call, "REQUEST_REPLAYED")
        expect("which it names", found["credential_id"], made.credential.id)
    s.allowed(made.token, "read")
    call = create_key(s.workspace, request_id=fresh())
    made = s.root.do(call)
    s.root.do(revoke(made.credential.id))
    found = s.root.refused(call, "REQUEST_REPLAYED")
    expect("which it names", found["credential_id"], made.credential.id)
    s.denied(made.token, "TOKEN_REVOKED")
    s.ok("a retry for a used or revoked credential is ALREADY_EXISTS, and names the credential")


def ids(s):
    for wrong in ("1", "3f0c9a528f3e4d599b1c6a1c2a7f0e11", "x" * 1_024):
        s.root.invalid(create_key(s.workspace, request_id=wrong), "request_id")
    shared = fresh()
    other = s.world.caller("retries-other", *PERMISSIONS)
    one = s.root.do(create_key(s.workspace, request_id=shared))
    two = other.do(create_key(s.workspace, name="another", request_id=shared))
    holds("each caller has ids of its own", one.credential.id != two.credential.id)
    call = create_key("retries-later", request_id=fresh())
    s.root.refused(call, "WORKSPACE_NOT_FOUND")
    s.root.do(put_workspace("retries-later"))
    made = s.root.do(call.but(name="cd"))
    s.allowed(made.token, "read", workspace="")
    s.ok("an id is a UUID, belongs to its caller, and can be reused after a failed call")
