"""Asks sophic-auth who a token belongs to, and whether it may act in a workspace with a scope.

    pip install grpcio grpcio-status grpcio-tools
    python -m grpc_tools.protoc -I proto --python_out=generated --grpc_python_out=generated proto/sophic/auth/v1/*.proto
    printf %s "$TOKEN" | PYTHONPATH=generated python examples/python/ask.py --workspace acme --scope read

SOPHIC_AUTH_ENDPOINT and SOPHIC_AUTH_CALLER_TOKEN name the service. Exit code: 0 allowed, 1 refused, 2 no answer. Without
a scope the answer says only whose token it is, which permits nothing: exit code 1.
"""

import argparse
import json
import os
import sys
from urllib.parse import urlsplit

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from sophic.auth.v1.auth_service_pb2 import IntrospectRequest
from sophic.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from sophic.auth.v1.credential_pb2 import Scope
from sophic.auth.v1.decision_pb2 import Denial

# Introspect changes nothing, so it is safe to retry while the service is unreachable.
SERVICE_CONFIG = json.dumps({
    "methodConfig": [{
        "name": [{"service": "sophic.auth.v1.AuthService", "method": "Introspect"}],
        "timeout": "5s",
        "retryPolicy": {
            "maxAttempts": 4,
            "initialBackoff": "0.05s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }]
})


class SophicAuth:
    """A connection to the service with the token of one caller."""

    def __init__(self, endpoint, caller_token):
        url = urlsplit(endpoint)
        options = [("grpc.service_config", SERVICE_CONFIG)]
        if url.scheme == "https":
            credentials = grpc.ssl_channel_credentials()
            self.channel = grpc.secure_channel(url.netloc, credentials, options)
        else:
            self.channel = grpc.insecure_channel(url.netloc, options)
        self.auth = AuthServiceStub(self.channel)
        self.metadata = [("authorization", f"Bearer {caller_token}")]

    def introspect(self, token, workspace="", scopes=(), client_ip=""):
        """A bad token is an answer. An exception means that there is no answer: refuse the request."""
        request = IntrospectRequest(
            token=token,
            workspace=workspace,
            required_scopes=[Scope.Value(f"SCOPE_{scope.upper()}") for scope in scopes],
            client_ip=client_ip,
        )
        return self.auth.Introspect(request, metadata=self.metadata)


def reason(error):
    """The reason of an error, for programs: one of docs/errors.md. Empty if the service itself did not answer."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info) and info.domain == "auth.sophic.so":
            return info.reason
    return ""


def permits(answer, scopes):
    """Whether a request that required these scopes may proceed. An answer about the identity only permits nothing."""
    return answer.active and answer.allowed and bool(scopes) and not answer.identity_only


def denial_name(answer):
    """The name of the denial, or None. A newer service may send one that this program has no name for."""
    if answer.allowed:
        return None
    if answer.denial not in Denial.values():
        return f"UNKNOWN_{answer.denial}"
    return Denial.Name(answer.denial).removeprefix("DENIAL_")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", default="")
    parser.add_argument("--scope", action="append", default=[])
    arguments = parser.parse_args()
    service = SophicAuth(os.environ["SOPHIC_AUTH_ENDPOINT"], os.environ["SOPHIC_AUTH_CALLER_TOKEN"])
    try:
        answer = service.introspect(sys.stdin.read(), arguments.workspace, arguments.scope)
    except grpc.RpcError as error:
        print(f"{error.code().name}: {reason(error)}: {error.details()}", file=sys.stderr)
        return 2
    permitted = permits(answer, arguments.scope)
    print(json.dumps({
        "permitted": permitted,
        "allowed": answer.allowed,
        "identity_only": answer.identity_only,
        "denial": denial_name(answer),
        "http_status": answer.http_status,
        "www_authenticate": answer.www_authenticate,
        "user": answer.user.id or None,
        "workspace": answer.workspace.slug or None,
    }))
    return 0 if permitted else 1


if __name__ == "__main__":
    sys.exit(main())
