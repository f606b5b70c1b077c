"""Callers of the service, and decoding of its errors."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from sophic.auth.v1 import admin_service_pb2 as admin
from sophic.auth.v1 import auth_service_pb2 as auth
from sophic.auth.v1 import directory_service_pb2 as directory
from sophic.auth.v1.admin_service_pb2_grpc import AdminServiceStub
from sophic.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from sophic.auth.v1.directory_service_pb2_grpc import DirectoryServiceStub

DOMAIN = "auth.sophic.so"
# Time limit of a call and of a wait, in seconds. It is long enough for a busy machine.
PATIENCE_S = 60

# The status of each reason that occurs in the walk (docs/errors.md).
STATUS = {
    "CALLER_UNKNOWN": "UNAUTHENTICATED",
    "PERMISSION_MISSING": "PERMISSION_DENIED",
    "ACTING_USER_REQUIRED": "PERMISSION_DENIED",
    "ACTING_USER_NOT_ACTIVE": "PERMISSION_DENIED",
    "ROLE_TOO_LOW": "PERMISSION_DENIED",
    "ARGUMENT_INVALID": "INVALID_ARGUMENT",
    "CREDENTIAL_NOT_FOUND": "NOT_FOUND",
    "WORKSPACE_NOT_FOUND": "NOT_FOUND",
    "USER_NOT_FOUND": "NOT_FOUND",
    "REQUEST_REPLAYED": "ALREADY_EXISTS",
    "CREDENTIAL_REVOKED": "FAILED_PRECONDITION",
    "CREDENTIAL_EXPIRED": "FAILED_PRECONDITION",
    "ALREADY_ROTATED": "FAILED_PRECONDITION",
    "CREDENTIALS_MAX_REACHED": "FAILED_PRECONDITION",
    "ETAG_MISMATCH": "ABORTED",
}


class Wrong(Exception):
    """A failed check."""


def expect(what, found, wanted):
    """Checks that a value is the expected one."""
    if found != wanted:
        raise Wrong(f"{what}: found {found!r}, expected {wanted!r}")


def holds(what, is_so, found=""):
    """Checks that a condition holds."""
    if not is_so:
        raise Wrong(f"{what}: does not hold" + (f": {found!r}" if found != "" else ""))


class Refused(Exception):
    """A failed call: its status and its error details."""

    def __init__(self, call, error):
        super().__init__(f"{call.rpc}: {error.code().name}: {error.details()}")
        self.code, self.details = error.code().name, error.details()
        self.reason, self.domain, self.metadata, self.fields = "", "", {}, []
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(ErrorInfo.DESCRIPTOR):
                info = ErrorInfo.FromString(detail.value)
                self.reason, self.domain, self.metadata = info.reason, info.domain, dict(info.metadata)
            elif detail.Is(BadRequest.DESCRIPTOR):
                violations = BadRequest.FromString(detail.value).field_violations
                self.fields = [violation.field for violation in violations]
                holds(f"{call.rpc} describes what is wrong", all(v.description for v in violations))


class Call:
    """An RPC and the fields of its request."""

    def __init__(self, rpc, **fields):
        self.rpc, self.fields = rpc, fields

    def but(self, **fields):
        """Returns the same call with other fields."""
        return Call(self.rpc, **{**self.fields, **fields})


REQUESTS = {
    method.name: GetMessageClass(method.input_type)
    for file in (admin, auth, directory)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Actor:
    """A caller of one server."""

    def __init__(self, name, token, endpoint, record):
        self.name, self.token, self.record = name, token, record
        channel = grpc.insecure_channel(endpoint.removeprefix("http://"))
        self.stubs = [stub(channel) for stub in (AuthServiceStub, DirectoryServiceStub, AdminServiceStub)]
        self.metadata = [("authorization", f"Bearer {token}")]

    def at(self, endpoint):
        """Returns the same caller at another server."""
        return Actor(self.name, self.token, endpoint, self.record)

    def do(self, call):
        """Makes a call."""
        request = REQUESTS[call.rpc](**call.fields)
        stub = next(stub for stub in self.stubs if hasattr(stub, call.rpc))
        try:
            answer = getattr(stub, call.rpc)(request, metadata=self.metadata, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            refused = Refused(call, error)
            self.record.refused(self, call, refused)
            raise refused from None
        self.record.done(self, call, answer)
        return answer

    def refused(self, call, reason, fields=None, said=""):
        """Makes a call that must be refused for this reason. Returns the metadata of the error."""
        try:
            answer = self.do(call)
        except Refused as refused:
            found = (refused.code, refused.reason, refused.domain)
            expect(f"how {call.rpc} is refused", found, (STATUS[reason], reason, DOMAIN))
            if fields is not None:
                expect(f"the fields that {call.rpc} refuses", refused.fields, fields)
            holds(f"the refusal of {call.rpc} names {said!r}", said in refused.details, refused.details)
            return refused.metadata
        raise Wrong(f"{call.rpc} should be refused with {reason}, and was not: {answer}")

    def invalid(self, call, *fields, said=""):
        """Makes a call that must be refused because of these fields."""
        return self.refused(call, "ARGUMENT_INVALID", list(fields), said)


def race(*calls):
    """Makes calls of actors concurrently. Returns the answer or the refusal of each."""
    gate = threading.Barrier(len(calls))

    def run(actor, call):
        gate.wait(PATIENCE_S)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return actor.do(call)
            except Refused as refused:
                # On a busy machine the last of a hundred calls may wait for the row longer than the lock timeout.
                if refused.reason != "STORE_UNAVAILABLE" or time.monotonic() > end:
                    return refused

    with ThreadPoolExecutor(len(calls)) as pool:
        return [racing.result() for racing in [pool.submit(run, *call) for call in calls]]
