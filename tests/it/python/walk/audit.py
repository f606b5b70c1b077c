"""The audit log of the whole walk: it contains every call, carried out or refused, and the complete history of every
credential. It contains neither tokens nor digests."""

import base64
import hashlib
import json
from collections import Counter
from datetime import datetime

from calls import create_key, create_pat, from_now, micros, put_user, put_workspace, revoke
from client import Call, expect, holds
from scene import Made
from sophic.auth.v1.credential_pb2 import Role, Scope

# The action in the log of each management call.
ACTIONS = {
    "CreateKey": "key.create", "CreatePat": "pat.create", "UpdateCredential": "credential.update",
    "Rotate": "credential.rotate", "Disable": "credential.disable", "Enable": "credential.enable",
    "Revoke": "credential.revoke", "BulkRevoke": "credential.bulk_revoke", "RevokeLeaked": "credential.revoke_leaked",
    "PutWorkspace": "workspace.put", "PutUser": "user.put", "PutMembership": "membership.put",
    "DeleteWorkspace": "workspace.delete", "DeleteUser": "user.delete", "DeleteMembership": "membership.delete",
    "CreateCaller": "caller.create", "ListAuditEvents": "audit.list",
}
# Calls that record exactly one event of this action each.
ONE_EACH = [
    "UpdateCredential", "Disable", "Enable", "PutWorkspace", "PutUser", "PutMembership", "CreateCaller", "RevokeLeaked",
    "DeleteWorkspace", "DeleteUser", "DeleteMembership",
]


def walk(s):
    s.key()
    owners_gone(s)
    gateway = s.world.caller("audit-gateway", "introspect")
    gateway.refused(Call("ListAuditEvents"), "PERMISSION_MISSING")
    gateway.refused(create_key(s.workspace, acting_user=s.owner), "PERMISSION_MISSING")
    s.root.invalid(create_key("!", acting_user=s.owner), "workspace")
    events = s.events()
    every_refusal(s, events)
    every_change(s, events)
    who_and_where(s, events)
    stories(s, events)
    filters(s, events)
    no_secret(s, events)
    export(s)


def owners_gone(s):
    """Deleting an owner revokes its credentials, with an event for each of them."""
    s.root.do(put_workspace("audit-doomed"))
    s.root.do(put_user("audit-dora"))
    keys = [Made(s.root.do(create_key("audit-doomed"))) for _ in range(3)]
    pats = [Made(s.root.do(create_pat("audit-dora"))) for _ in range(2)]
    s.root.do(revoke(keys.pop().id))
    deletions = [
        (Call("DeleteWorkspace", workspace="audit-doomed"), keys, "workspace id-of-audit-doomed was deleted"),
        (Call("DeleteUser", user="audit-dora"), pats, "user audit-dora was deleted"),
    ]
    for call, died, reason in deletions:
        s.root.do(call)
        s.root.do(call.but(allow_missing=True))
        for made in died:
            s.denied(made.token, "TOKEN_REVOKED", workspace="")
            event = s.events(target_id=made.id)[-1]
            recorded = (event.action, event.caller, event.reason)
            expect("its last event", recorded, ("credential.revoke", s.root.name, reason))
        deleted, missing = [json.loads(event.after) for event in s.events(action=ACTIONS[call.rpc], caller=s.root.name)]
        expect("how many went along", (deleted["revoked_count"], missing["real"]), (2, False))
    s.ok("each credential that is revoked with its owner has an event, and so has the deletion of a missing owner")


def every_refusal(s, events):
    made = Counter(
        (name, ACTIONS[call.rpc], call.fields.get("acting_user", ""), refusal)
        for name, call, refusal, _ in s.world.record.calls
        if refusal and call.rpc in ACTIONS
    )
    without_effect = Counter(key[0] for key in made.elements())
    without_effect.update(
        name for name, call, refusal, answer in s.world.record.calls if is_unknown_revoke(call, refusal, answer)
    )
    for name, number in without_effect.items():
        # Up to a hundred refusals at once are all recorded (docs/operations.md).
        holds(f"{name} was not refused too often for this", number < 100, number)
    recorded = Counter(
        (event.caller, event.action, event.acting_user, event.refusal)
        for event in events if event.refusal and not event.caller.startswith("operator:")
    )
    expect("refusals that are not in the log", made - recorded, Counter())
    expect("refusals in the log that were not met", recorded - made, Counter())
    s.ok(f"each of {made.total()} refused calls is in the log, with who, what and why")


def is_unknown_revoke(call, refusal, answer):
    """Whether the call was to revoke a token that does not exist."""
    return call.rpc == "Revoke" and not refusal and not answer.HasField("effective_time")


def every_change(s, events):
    done, answers = Counter(), {}
    for name, call, refusal, answer in s.world.record.calls:
        if not refusal:
            done[name, call.rpc] += 1
            answers.setdefault((name, call.rpc), []).append((call, answer))
    recorded = Counter((event.caller, event.action) for event in events if not event.refusal)
    views = [(event.caller, event.action, json.loads(event.after)) for event in events if event.after and not event.refusal]
    with_owner, dry_runs = Counter(), Counter()
    for name, action, after in views:
        if action in ("workspace.delete", "user.delete"):
            with_owner[name] += after.get("revoked_count", 0)
        if action == "credential.bulk_revoke" and after.get("dry_run"):
            dry_runs[name] += 1
    for name in {name for name, _ in done}:
        for rpc in ONE_EACH:
            expect(f"events of {name} for {rpc}", recorded[name, ACTIONS[rpc]], done[name, rpc])
        # A rotation has an event for each of its two credentials. A retry that returns a new token has its own event.
        minted = sum(recorded[name, action] for action in ("key.create", "pat.create", "credential.replay"))
        holds("a rotation has two events", recorded[name, "credential.rotate"] % 2 == 0)
        minted += recorded[name, "credential.rotate"] // 2
        expected = sum(done[name, rpc] for rpc in ("CreateKey", "CreatePat", "Rotate"))
        expect(f"events of {name} for tokens that were shown", minted, expected)
        # Revoking a token that does not exist has an event too, without a target.
        revoked = done[name, "Revoke"] + with_owner[name]
        bulk = answers.get((name, "BulkRevoke"), [])
        revoked += sum(answer.revoked_count for call, answer in bulk if not call.fields.get("dry_run"))
        expect(f"events of {name} for dry runs", dry_runs[name], sum(bool(call.fields.get("dry_run")) for call, _ in bulk))
        for _, answer in answers.get((name, "RevokeLeaked"), []):
            revoked += len({one.credential.id for one in answer.results if one.real})
        # Without an overlap the old credential is revoked, with an event besides the rotation's two.
        rotated = answers.get((name, "Rotate"), [])
        revoked += len({answer.predecessor.id for call, answer in rotated if not call.fields.get("overlap")})
        expect(f"events of {name} for revoked credentials", recorded[name, "credential.revoke"], revoked)
    s.ok(f"each of {sum(done[key] for key in done if key[1] in ACTIONS)} calls that changed something is in the log")


def who_and_where(s, events):
    order = [(event.id, micros(event.time)) for event in events]
    holds("oldest first", all(one[0] < two[0] and one[1] <= two[1] for one, two in zip(order, order[1:])))
    for event in events:
        by_operator = event.caller.startswith("operator:")
        expect(f"from where {event.action}", event.remote_address, "" if by_operator else "127.0.0.1")
        holds("what on what", event.action and event.target_kind and len(event.id) == 36, event)
        for text in (event.before, event.after):
            holds("before and after are JSON", not text or json.loads(text) is not None, text)
    acted = [event for event in events if event.acting_user == "rotate-olga" and not event.refusal]
    recorded = {(event.caller, event.action) for event in acted}
    expected = {("rotate-dashboard", "credential.rotate"), ("rotate-dashboard", "credential.revoke")}
    expect("what an acting user did", recorded, expected)
    s.ok("each event has its caller, acting user, target, time and address")


# Fields that may differ between an event's `after` and the next event's `before`, because they change by themselves.
MOVING = ("state", "last_use_time", "last_use_ip")


def still(view):
    return {name: value for name, value in view.items() if name not in MOVING}


def instant(text):
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e6)


def shown(credential):
    """Returns a credential as the log shows it."""
    view = {
        "id": credential.id, "name": credential.name, "hint": credential.hint, "creator": credential.creator,
        "kind": "key" if credential.workspace_id else "pat", "family_id": credential.family_id, "etag": credential.etag,
        "scopes": [Scope.Name(scope).removeprefix("SCOPE_").lower() for scope in credential.scopes],
    }
    for name in ("workspace_id", "user_id", "predecessor_id"):
        if value := getattr(credential, name):
            view[name] = value
    if credential.user_id:
        view["max_role"] = Role.Name(credential.max_role).removeprefix("ROLE_").lower()
    if credential.ip_allowlist:
        view["ip_allowlist"] = list(credential.ip_allowlist)
    if credential.annotations:
        view["annotations"] = dict(credential.annotations)
    for name in ("create_time", "expire_time", "disable_time", "revoke_time"):
        if credential.HasField(name):
            view[name] = micros(getattr(credential, name))
    return view


def stories(s, events):
    recorded = {}
    for event in events:
        if event.target_kind != "credential" or not event.target_id or event.refusal:
            continue
        name, after = event.target_id, still(json.loads(event.after))
        if event.before:
            expect(f"what {event.action} found of {name}", still(json.loads(event.before)), recorded.get(name))
        else:
            holds(f"{name} is made once", name not in recorded, event)
        recorded[name] = after
    for view in recorded.values():
        view.update({name: instant(view[name]) for name in view if name.endswith("_time")})
    rows = {credential.id: shown(credential) for credential in s.listed(page_size=1_000)}
    expect("credentials without a story, and stories without one", set(rows) ^ set(recorded), set())
    for name, view in recorded.items():
        expect(f"what the log knows of {name}", view, rows[name])
    s.ok(f"the log alone leads to each of {len(rows)} credentials as it stands")


def filters(s, events):
    middle = events[len(events) // 2]
    cases = [
        ({"start_time": middle.time}, lambda e: micros(e.time) >= micros(middle.time)),
        ({"end_time": middle.time}, lambda e: micros(e.time) < micros(middle.time)),
        ({"caller": "rotate-root"}, lambda e: e.caller == "rotate-root"),
        ({"filter_acting_user": "rotate-olga"}, lambda e: e.acting_user == "rotate-olga"),
        ({"target_kind": "membership"}, lambda e: e.target_kind == "membership"),
        ({"target_id": "rotate-olga"}, lambda e: e.target_id == "rotate-olga"),
        ({"action": "credential.disable"}, lambda e: e.action == "credential.disable"),
        ({"action": "credential.rotate", "caller": "rotate-dashboard", "filter_acting_user": "rotate-olga",
          "start_time": events[0].time, "end_time": from_now(60), "target_kind": "credential"},
         lambda e: (e.action, e.caller, e.acting_user) == ("credential.rotate", "rotate-dashboard", "rotate-olga")),
        ({"caller": "nobody"}, lambda e: False),
    ]
    for asked, fits in cases:
        found = [event.id for event in s.events(**asked)]
        expect(f"the events of {list(asked)}", found, [event.id for event in events if fits(event)])
    first = Call("ListAuditEvents", caller="rotate-root", page_size=7)
    paged, token = [], ""
    while True:
        page = s.root.do(first.but(page_token=token))
        holds("a page is as long as it may be", len(page.events) <= 7)
        paged.extend(event.id for event in page.events)
        token = page.next_page_token
        if not token:
            break
    expect("page by page", paged, [event.id for event in events if event.caller == "rotate-root"])
    token = s.root.do(first).next_page_token
    s.root.invalid(first.but(page_token=token, action="key.create"), "page_token")
    s.ok("ListAuditEvents filters by time, caller, actor, target and action, page by page")


def no_secret(s, events):
    log = "\n".join(str(event) for event in events)
    tokens = s.world.record.tokens
    holds("tokens were shown", len(tokens) > 100, len(tokens))
    for token in tokens:
        digest = hashlib.sha256(token.encode())
        encoded = base64.b64encode(digest.digest()).decode().rstrip("=")
        body = token[11:-6] if token.startswith("sophic_") else token
        for secret in (token, body, digest.hexdigest(), encoded, encoded.replace("+", "-").replace("/", "_")):
            holds("neither a token nor its digest is in the log", secret not in log)
    s.ok(f"of {len(tokens)} tokens that were shown neither text nor digest is in the log")


def export(s):
    lines = s.world.program.run("audit", "export").stdout.splitlines()
    events = s.events()
    expect("the exported events", [json.loads(line)["id"] for line in lines], [event.id for event in events])
    for line, event in zip(lines, events):
        view = json.loads(line)
        for name in ("action", "caller", "acting_user", "target_kind", "target_id", "remote_address", "reason", "refusal"):
            expect(f"its {name}", view.get(name, ""), getattr(event, name))
        for name in ("before", "after"):
            expect(f"its {name}", view.get(name), json.loads(getattr(event, name) or "null"))
        expect("its time", instant(view["time"]), micros(event.time))
    holds("no token", not any(token in line for token in s.world.record.tokens for line in lines))
    some = s.world.program.run("audit", "export", "--action", "credential.enable", "--caller", "switch-root").stdout
    expected = [event.id for event in events if (event.action, event.caller) == ("credential.enable", "switch-root")]
    expect("the filtered export", [json.loads(line)["id"] for line in some.splitlines()], expected)
    s.ok("`audit export` streams the same as JSON lines")
