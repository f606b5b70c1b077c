"""Constructors of the calls of the walk and of the values in them."""

import time

from client import Call
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from sophic.auth.v1.credential_pb2 import CredentialState, Role, Scope

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def scopes(*names):
    return [Scope.Value(f"SCOPE_{name.upper()}") for name in names]


def role(name):
    return Role.Value(f"ROLE_{name.upper()}")


def state(credential):
    return CredentialState.Name(credential.state).removeprefix("CREDENTIAL_STATE_")


def span(seconds):
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


def from_now(seconds):
    micros = int((time.time() + seconds) * 1e6)
    return Timestamp(seconds=micros // 10**6, nanos=micros % 10**6 * 1_000)


def micros(timestamp):
    return timestamp.seconds * 10**6 + timestamp.nanos // 1_000


def at_micros(number):
    return Timestamp(seconds=number // 10**6, nanos=number % 10**6 * 1_000)


def create_key(workspace, name="ci", granted=("read",), **fields):
    return Call("CreateKey", workspace=workspace, name=name, scopes=scopes(*granted), **fields)


def create_pat(user, name="laptop", granted=("read", "capture"), **fields):
    return Call("CreatePat", user=user, name=name, scopes=scopes(*granted), **fields)


def get(credential_id, **fields):
    return Call("GetCredential", credential_id=credential_id, **fields)


def update(credential_id, mask=None, etag="", acting_user="", **new):
    """Returns a call that updates the given fields, or those in the mask."""
    paths = list(new) if mask is None else mask
    credential = {"id": credential_id, "etag": etag, **new}
    mask = FieldMask(paths=paths)
    return Call("UpdateCredential", credential=credential, update_mask=mask, acting_user=acting_user)


def rotate(credential_id, overlap=None, **fields):
    if overlap is not None:
        fields["overlap"] = span(overlap)
    return Call("Rotate", credential_id=credential_id, **fields)


def disable(credential_id, **fields):
    return Call("Disable", credential_id=credential_id, **fields)


def enable(credential_id, **fields):
    return Call("Enable", credential_id=credential_id, **fields)


def revoke(credential_id, **fields):
    return Call("Revoke", credential_id=credential_id, **fields)


def revoke_token(token, **fields):
    return Call("Revoke", token=token, **fields)


def bulk_revoke(**fields):
    return Call("BulkRevoke", **fields)


def listing(**fields):
    return Call("ListCredentials", **fields)


def introspect(token, workspace="", required=(), client_ip=""):
    required = scopes(*required)
    return Call("Introspect", token=token, workspace=workspace, required_scopes=required, client_ip=client_ip)


def put_workspace(slug, **fields):
    workspace = {"id": f"id-of-{slug}", "slug": slug, "display_name": f"Workspace {slug}", **fields}
    return Call("PutWorkspace", workspace=workspace)


def put_user(user, **fields):
    return Call("PutUser", user={"id": user, "display_name": f"User {user}", **fields})


def put_membership(workspace, user, name):
    return Call("PutMembership", workspace=workspace, user=user, role=role(name))


def without_last_use(credential):
    """Returns a credential without its last use, which changes by itself."""
    still = type(credential)()
    still.CopyFrom(credential)
    still.ClearField("last_use_time")
    still.ClearField("last_use_ip")
    return still
