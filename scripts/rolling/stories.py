"""What happens to credentials, owners and callers. Each story has its own, and goes from server to server."""

import random
import subprocess
import time
import uuid
from types import SimpleNamespace

from calls import Refused
from google.protobuf.field_mask_pb2 import FieldMask
from load import ADMIN, CAPTURE, READ, SPREAD_S, Role, Token, from_now, span


def key_life(load):
    """A key loses a scope, is off for a while, and is revoked by its id or its token."""
    workspace, _ = load.scene()
    made = load.key(workspace)
    token = Token(made.token, workspace)
    load.allowed(token, ADMIN, "a key was created")
    load.keep(token)
    load.takes("fewer scopes", "UpdateCredential", [token], ["INSUFFICIENT_SCOPE"], scope=ADMIN,
               credential={"id": made.credential.id, "scopes": [READ]}, update_mask=FieldMask(paths=["scopes"]))
    load.allowed(token, what="a key lost another scope")
    off = Token(made.token, workspace)
    token.ending = True
    load.takes("Disable", "Disable", [off], ["TOKEN_DISABLED"], credential_id=made.credential.id)
    load.do("Enable", credential_id=made.credential.id)
    load.soon_allowed(token, what="a key was enabled")
    which = {"token": made.token} if random.random() < 0.5 else {"credential_id": made.credential.id}
    load.takes("Revoke", "Revoke", [token], ["TOKEN_REVOKED"], **which)
    # A retry at another server succeeds.
    load.do("Revoke", credential_id=made.credential.id)


def revocations(load):
    """Keys and personal access tokens that are used at every server are revoked."""
    for _ in range(5):
        made = load.key("ws-0") if random.random() < 0.5 else load.pat("user-0")
        token = Token(made.token, "ws-0")
        load.keep(token)
        load.allowed(token, what="a credential was created")
        load.takes("Revoke", "Revoke", [token], ["TOKEN_REVOKED"], credential_id=made.credential.id)


def narrower(load):
    """A credential gets an IP allowlist, or an earlier expiry."""
    made = load.key("ws-0")
    token = Token(made.token, "ws-0")
    load.allowed(token, what="a key was created")
    load.takes("an IP allowlist", "UpdateCredential", [token], ["IP_NOT_ALLOWED"],
               credential={"id": made.credential.id, "ip_allowlist": ["192.0.2.0/24"]},
               update_mask=FieldMask(paths=["ip_allowlist"]))
    made = load.key("ws-0", ttl=span(3600))
    token = Token(made.token, "ws-0")
    load.allowed(token, what="a key with an expiry was created")
    token.ending = True
    update = {"id": made.credential.id, "expire_time": from_now(1)}
    _, at = load.do_at("UpdateCredential", credential=update, update_mask=FieldMask(paths=["expire_time"]))
    # Beyond the second, and what two clocks may differ by.
    time.sleep(1.5)
    load.refused("an earlier expiry", at, [token], ["TOKEN_EXPIRED"])


def member(load):
    """The user of a token gets a lower role, loses the membership, gets it back, is off, and is deleted."""
    workspace, user = load.scene()
    made = load.pat(user)
    token = Token(made.token, workspace)
    load.allowed(token, CAPTURE, "a PAT was created")
    load.takes("a lower role", "PutMembership", [token], ["INSUFFICIENT_SCOPE"], scope=CAPTURE,
               workspace=workspace, user=user, role=Role.ROLE_VIEWER)
    load.allowed(token, what="a role was lowered")
    for _ in range(2):
        load.takes("DeleteMembership", "DeleteMembership", [token], ["NOT_A_MEMBER"], workspace=workspace, user=user,
                   allow_missing=True)
        load.do("PutMembership", workspace=workspace, user=user, role=Role.ROLE_ADMIN)
        load.soon_allowed(token, ADMIN, "a membership was given")
    load.takes("a disabled user", "PutUser", [token], ["PRINCIPAL_DISABLED"], user={"id": user, "disabled": True})
    load.do("PutUser", user={"id": user, "disabled": False})
    load.soon_allowed(token, what="a user was enabled")
    load.takes("DeleteUser", "DeleteUser", [token], ["TOKEN_REVOKED"], user=user, allow_missing=True)


def workspace_life(load):
    """A workspace is off, renamed, and deleted with its keys."""
    workspace, user = load.scene()
    key, pat = Token(load.key(workspace).token, workspace), Token(load.pat(user).token, workspace)
    load.allowed(key, ADMIN, "a key was created")
    load.allowed(pat, CAPTURE, "a PAT was created")
    off = {"id": workspace, "disabled": True}
    load.takes("a disabled workspace", "PutWorkspace", [key, pat], ["PRINCIPAL_DISABLED", "NOT_A_MEMBER"], workspace=off)
    load.do("PutWorkspace", workspace={"id": workspace, "disabled": False})
    load.soon_allowed(key, what="a workspace was enabled")
    # By the old slug a PAT acts nowhere.
    slug, named = f"{workspace}-slug", f"{workspace}-by-slug"
    load.do("PutWorkspace", workspace={"id": workspace, "slug": slug})
    by_slug = Token(pat.text, slug)
    load.soon_allowed(by_slug, what="a slug was given")
    load.takes("a new slug", "PutWorkspace", [by_slug], ["NOT_A_MEMBER"], workspace={"id": workspace, "slug": named})
    load.takes("DeleteWorkspace", "DeleteWorkspace", [key, pat], ["TOKEN_REVOKED", "NOT_A_MEMBER"], workspace=workspace,
               allow_missing=True)


def rotations(load):
    """A credential is rotated with and without an overlap. A retry at another server makes no second successor."""
    made, overlap = load.key("ws-0"), span(3600)
    first = Token(made.token, "ws-0")
    load.allowed(first, what="a key was created")
    request = {"credential_id": made.credential.id, "overlap": overlap, "request_id": str(uuid.uuid4())}
    rotated = load.do("Rotate", **request)
    again, at = load.do_at("Rotate", **request)
    if again.credential.id != rotated.credential.id:
        load.wire.report("a retry of Rotate made a second successor")
    second = Token(again.token, "ws-0")
    load.refused("a retry of Rotate", at, [Token(rotated.token, "ws-0")], ["TOKEN_UNKNOWN"])
    load.allowed(first, what="its overlap lasts")
    load.allowed(second, what="a successor was created")
    load.takes("Revoke", "Revoke", [first], ["TOKEN_REVOKED"], credential_id=made.credential.id)
    second.ending = True
    answer, at = load.do_at("Rotate", credential_id=again.credential.id, request_id=str(uuid.uuid4()))
    if answer.end_pending:
        # A server was killed. This is the call that waits (docs/api.md).
        load.do("Revoke", credential_id=again.credential.id)
    load.refused("Rotate", at, [second], ["TOKEN_REVOKED"])
    third = Token(answer.token, "ws-0")
    load.allowed(third, what="a successor was created")
    load.takes("BulkRevoke", "BulkRevoke", [third], ["TOKEN_REVOKED"], family_id=made.credential.id, reason="the family")


def retries(load):
    """A Create that is repeated at another server makes no second credential."""
    for create, owner in ((load.key_at, "ws-0"), (load.pat_at, "user-0")):
        request_id = str(uuid.uuid4())
        (first, _), (again, at) = (create(owner, request_id=request_id) for _ in range(2))
        if first.credential.id != again.credential.id:
            load.wire.report("a retry of Create made a second credential")
        replaced, token = Token(first.token, "ws-0"), Token(again.token, "ws-0")
        load.refused("a retry of Create", at, [replaced], ["TOKEN_UNKNOWN"])
        load.allowed(token, what="a retry of Create")
        leaked = [{"token": again.token, "reason": "found"}]
        load.takes("RevokeLeaked", "RevokeLeaked", [token], ["TOKEN_REVOKED"], tokens=leaked)


def callers(load):
    """A caller gets other permissions, another token, and is revoked."""
    made, at = load.do_at("CreateCaller", name=lambda: f"roll-{uuid.uuid4().hex[:12]}", permissions=["introspect"])
    name, token = made.caller.id, made.token
    load.judged("a new caller", at, token, "OK")
    _, at = load.do_at("UpdateCaller", caller=name, permissions=["credentials.read"])
    load.judged("UpdateCaller", at, token, "PERMISSION_MISSING")
    _, at = load.do_at("UpdateCaller", caller=name, permissions=["introspect"])
    load.judged("a permission is back", at, token, "OK", soon=True)
    rotated, at = load.do_at("RotateCaller", caller=name, overlap=span(0), request_id=str(uuid.uuid4()))
    if rotated.end_pending:
        # A server was killed. This is the call that waits (docs/api.md).
        load.do("UpdateCaller", caller=name, name=made.caller.name)
    load.judged("RotateCaller", at, token, "CALLER_UNKNOWN")
    load.judged("a rotated caller", at, rotated.token, "OK")
    again, at = load.do_at("RotateCaller", caller=name, overlap=span(600), request_id=str(uuid.uuid4()))
    load.judged("the overlap of a caller", at, rotated.token, "OK")
    load.judged("a rotated caller", at, again.token, "OK")
    _, at = load.do_at("RevokeCaller", caller=name)
    for one in (rotated.token, again.token):
        load.judged("RevokeCaller", at, one, "CALLER_UNKNOWN")


def last_uses(load):
    """A use at one server is seen at all others, and makes no other etag. Pages go on at another server."""
    workspace, _ = load.scene()
    made = [load.key(workspace) for _ in range(3)]
    load.do("Introspect", token=made[0].token, workspace=workspace, required_scopes=[READ])
    end = time.monotonic() + SPREAD_S
    while True:
        got = load.do("GetCredential", credential_id=made[0].credential.id).credential
        if got.HasField("last_use_time"):
            break
        if time.monotonic() > end:
            # A server that is killed loses the uses that it has not written.
            if not load.wire.fleet.killed_lately(end - SPREAD_S - 5):
                load.wire.report("a last use was not written")
            break
        time.sleep(0.2)
    if got.etag != made[0].credential.etag:
        load.wire.report("a use changed the etag")
    listed, page_token = [], ""
    while True:
        page = load.do("ListCredentials", workspace=workspace, page_size=1, page_token=page_token)
        listed += [one.id for one in page.credentials]
        page_token = page.next_page_token
        if not page_token:
            break
    if listed != [one.credential.id for one in made]:
        load.wire.report(f"pages from several servers have {listed}")
    for one in made:
        update = {"id": one.credential.id, "name": "renamed", "etag": one.credential.etag}
        # An etag of one server is good at another. It is not for retries, so that only a quiet time shows it.
        try:
            load.do("UpdateCredential", credential=update, update_mask=FieldMask(paths=["name"]))
        except Refused as refused:
            if refused.reason != "ETAG_MISMATCH" or not load.wire.fleet.replaced_lately():
                raise
    load.takes("BulkRevoke", "BulkRevoke", [Token(one.token, workspace) for one in made], ["TOKEN_REVOKED"], workspace=workspace)


def reads(load):
    """Whatever lists has no errors, also of what the other program has written."""
    load.do("ListCallers", page_size=50)
    load.do("ListUsers", page_size=50)
    load.do("ListWorkspaces", page_size=50)
    load.do("ListMemberships", user="user-0", page_size=50)
    load.do("ListCredentials", page_size=100)
    load.do("ListAuditEvents", page_size=200, start_time=from_now(-5))
    workspace = {"id": "ws-0", "policy": {"keys_max": random.randrange(1_000_000, 2_000_000)}}
    load.do("PutWorkspace", workspace=workspace)
    load.do("GetWorkspace", workspace="ws-0")


def command_line(load):
    """The command of either program revokes a key. It is no server, so every answer is that of another."""
    for kind, program in load.wire.fleet.programs.items():
        # Only servers and `migrate` migrate the store.
        if not any(kind in place.kinds for place in load.wire.fleet.places):
            continue
        made = load.key("ws-0")
        token = Token(made.token, "ws-0")
        load.keep(token)
        load.allowed(token, what="a key was created")
        token.ending = True
        command = [program, "--database-url", load.wire.fleet.url, "key", "revoke", made.credential.id]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            load.wire.report(f"`key revoke` of {kind}: exit code {done.returncode}: {done.stderr.strip()}")
            continue
        token.ended = True
        load.refused("`key revoke`", SimpleNamespace(name="the command line", kind=kind), [token], ["TOKEN_REVOKED"])


STORIES = [key_life, revocations, narrower, member, workspace_life, rotations, retries, callers, last_uses, reads, command_line]
