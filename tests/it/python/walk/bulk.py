"""BulkRevoke by each of its filters, first as a dry run. (tests/it/cli/killed.rs kills a server in the middle of one.)"""

import hashlib
import json

from calls import at_micros, bulk_revoke, create_key, create_pat, from_now, micros, put_workspace, revoke, state
from client import expect, holds
from scene import PERMISSIONS, Made, until


def walk(s):
    refusals(s)
    by_workspace(s)
    by_user(s)
    by_creator(s)
    by_age(s)
    by_last_use(s)
    in_batches(s)


def ends(s, doomed, spared, acting_user="", **asked):
    """Checks that a dry run lists these credentials and revokes none, and that the call then revokes only these, at once."""
    ids = [made.id for made in doomed]
    before = s.get(ids[0]).etag
    revision = s.revision()
    dry = s.root.do(bulk_revoke(dry_run=True, acting_user=acting_user, **asked))
    expect(f"a dry run of {asked}", (dry.revoked_count, [one.id for one in dry.sample]), (len(ids), ids[:10]))
    expect("it changes nothing", (s.get(ids[0]).etag, s.revision()), (before, revision))
    for made in doomed:
        holds("it is still active", s.ask(s.there, made.token).active)
    reason = "they were stolen"
    done = s.root.do(bulk_revoke(reason=reason, acting_user=acting_user, **asked))
    expect("the number revoked", (done.revoked_count, len(done.sample)), (len(ids), 0))
    holds("its revision is a later one", done.revision > revision)
    for made in doomed:
        s.denied(made.token, "TOKEN_REVOKED", "read")
        expect("its state", state(s.get(made.id)), "REVOKED")
        event = s.events(target_id=made.id)[-1]
        found = (event.action, event.acting_user, event.reason)
        expect("its last event", found, ("credential.revoke", acting_user, reason))
    for made in spared:
        s.allowed(made.token, "read")
    again = s.root.do(bulk_revoke(**asked))
    expect("a second run finds nothing left", again.revoked_count, 0)


def refusals(s):
    made = s.key()
    s.root.invalid(bulk_revoke(reason="why not"), "workspace")
    s.root.refused(bulk_revoke(workspace="nowhere-at-all"), "WORKSPACE_NOT_FOUND")
    s.root.refused(bulk_revoke(user="nobody-at-all"), "USER_NOT_FOUND")
    s.root.refused(bulk_revoke(workspace=s.workspace, acting_user="nobody-at-all"), "ACTING_USER_NOT_ACTIVE")
    s.root.invalid(bulk_revoke(workspace=s.workspace, reason="x" * 257), "reason")
    s.dashboard.refused(bulk_revoke(workspace=s.workspace), "ACTING_USER_REQUIRED")
    s.dashboard.refused(bulk_revoke(workspace=s.workspace, acting_user=s.member), "ROLE_TOO_LOW")
    s.dashboard.invalid(bulk_revoke(user=s.member, acting_user=s.owner), "user")
    s.allowed(made.token, "read")
    s.root.do(revoke(made.id))
    s.ok("calls without a filter, with a missing owner, or without the permission are refused")


def by_workspace(s):
    doomed = [s.key() for _ in range(12)]
    s.root.do(put_workspace("bulk-other"))
    other = Made(s.root.do(create_key("bulk-other")))
    spared = s.pat()
    ends(s, doomed, [spared], acting_user=s.owner, workspace=s.workspace)
    holds("another workspace's key is still allowed", s.ask(s.root, other.token, workspace="").allowed)
    ends(s, [other], [spared], workspace="id-of-bulk-other")
    s.ok("by workspace, named by slug or id")


def by_user(s):
    doomed = [s.pat(s.member) for _ in range(3)]
    ends(s, doomed, [s.pat(), s.key()], acting_user=s.member, user=s.member)
    s.ok("by user")


def by_creator(s):
    nightly = s.world.caller("bulk-nightly", *PERMISSIONS)
    doomed = [Made(nightly.do(create_key(s.workspace))), Made(nightly.do(create_pat(s.owner)))]
    by_owner = Made(s.dashboard.do(create_key(s.workspace, acting_user=s.owner)))
    expect("its creator", by_owner.credential.creator, f"user:{s.owner}")
    ends(s, doomed, [by_owner, s.key()], creator="caller:bulk-nightly")
    ends(s, [by_owner], [s.key()], acting_user=s.owner, workspace=s.workspace, creator=f"user:{s.owner}")
    s.ok("by creator")


def by_age(s):
    s.root.do(bulk_revoke(workspace=s.workspace))
    old = [s.key() for _ in range(2)]
    young = s.key()
    cutoff = young.credential.create_time
    dry = s.root.do(bulk_revoke(created_before=cutoff, dry_run=True))
    holds("a filter by age alone finds all credentials of that age", dry.revoked_count >= 2, dry.revoked_count)
    expect("none is that old", s.root.do(bulk_revoke(created_before=at_micros(1), dry_run=True)).revoked_count, 0)
    ends(s, old, [young], workspace=s.workspace, created_before=cutoff)
    s.ok("by when they were made")


def by_last_use(s):
    s.root.do(bulk_revoke(workspace=s.workspace))
    used, idle, never = s.key(), s.key(), s.key()

    def last(made):
        return micros(s.get(made.id).last_use_time)

    s.ask(s.root, idle.token)
    until("its use is written", lambda: last(idle))
    cutoff = micros(from_now(0.001))
    until("it is later", lambda: micros(from_now(0)) > cutoff)
    s.ask(s.root, used.token)
    until("its use is written", lambda: last(used))
    dry = s.root.do(bulk_revoke(workspace=s.workspace, last_used_before=at_micros(cutoff), dry_run=True))
    expect("credentials not used since, or never", [one.id for one in dry.sample], [idle.id, never.id])
    done = s.root.do(bulk_revoke(workspace=s.workspace, last_used_before=at_micros(cutoff)))
    expect("the number revoked", done.revoked_count, 2)
    s.denied(idle.token, "TOKEN_REVOKED")
    s.denied(never.token, "TOKEN_REVOKED")
    s.allowed(used.token, "read")
    s.ok("by when they were last used")


def in_batches(s):
    s.root.do(put_workspace("bulk-many"))
    digests = [hashlib.sha256(f"many {number}".encode()).hexdigest() for number in range(1_200)]
    lines = "".join(f"bulk-many,many,read,{digest}\n" for digest in digests)
    s.world.program.run("import", "--format", "csv", "-", given="workspace,name,scopes,digest\n" + lines)
    dry = s.root.do(bulk_revoke(workspace="bulk-many", dry_run=True))
    expect("a dry run of many", (dry.revoked_count, len(dry.sample)), (1_200, 10))
    expect("the number revoked", s.root.do(bulk_revoke(workspace="bulk-many")).revoked_count, 1_200)
    expect("their states", {state(one) for one in s.listed(workspace="bulk-many", page_size=500)}, {"REVOKED"})
    batches = [json.loads(event.after) for event in s.events(action="credential.bulk_revoke") if event.after]
    counted = [batch["revoked_count"] for batch in batches if batch.get("asked", {}).get("workspace") == "bulk-many"]
    expect("each batch is in the log with its number", (sum(counted), max(counted)), (1_200, 50))
    s.ok("many are revoked in batches, and the answer has their number")
