"""Calls of the service, and the judgement of those that fail."""

import random
import threading
import time
from collections import Counter, defaultdict

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from sophic.auth.v1 import admin_service_pb2 as admin
from sophic.auth.v1 import auth_service_pb2 as auth
from sophic.auth.v1 import directory_service_pb2 as directory

TIMEOUT_S = 30
# How long a call is repeated while servers are replaced.
PATIENCE_S = 90
# Past these a call was cut off by a server that ended. gRPC itself makes them, so they have no ErrorInfo.
CUT_OFF = {"UNAVAILABLE", "CANCELLED", "UNKNOWN", "INTERNAL"}

METHODS = {
    method.name: (f"/{service.full_name}/{method.name}", GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    for file in (admin, auth, directory)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Refused(Exception):
    """A call that the service refused, by a reason of docs/errors.md."""

    def __init__(self, rpc, place, error):
        self.code, self.reason = error.code().name, ""
        status = rpc_status.from_call(error) if error.trailing_metadata() is not None else None
        for detail in status.details if status else ():
            if detail.Is(ErrorInfo.DESCRIPTOR):
                self.reason = ErrorInfo.FromString(detail.value).reason
        super().__init__(f"{rpc} at {place.name} ({place.kind}): {self.code} {self.reason}: {error.details()}")


class Down(Exception):
    """A call that met a server which is being replaced."""


class Wire:
    """Connections to all places, and what has been seen on them."""

    def __init__(self, fleet):
        self.fleet, self.lock = fleet, threading.Lock()
        # Another server may be at the place a moment later, so a channel tries again soon.
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        self.methods = {}
        for place in fleet.places:
            channel = grpc.insecure_channel(place.target, options)
            for name, (path, request, answer) in METHODS.items():
                kind = channel.unary_stream if name == "Watch" else channel.unary_unary
                self.methods[place, name] = kind(path, request.SerializeToString, answer.FromString)
        self.errors, self.retries, self.wrong, self.took = Counter(), 0, [], defaultdict(list)
        self.calls, self.quiet = Counter(), False

    def request(self, rpc):
        """Returns the class of a request."""
        return METHODS[rpc][1]

    def begin(self, place, rpc, token, fields):
        """Sends a request, and returns the answer to come."""
        request = METHODS[rpc][1](**fields)
        metadata = [("authorization", f"Bearer {token}")]
        return self.methods[place, rpc].future(request, metadata=metadata, timeout=TIMEOUT_S)

    def end(self, place, rpc, begun, coming):
        """Waits for an answer. Raises `Down` or `Refused`."""
        kind = place.kind
        try:
            answer = coming.result()
        except grpc.RpcError as error:
            raise self.judge(place, rpc, begun, error) from None
        with self.lock:
            self.calls[rpc, kind] += 1
        return answer

    def judge(self, place, rpc, begun, error):
        refused = Refused(rpc, place, error)
        unavailable = refused.code == "UNAVAILABLE" or (not refused.reason and refused.code in CUT_OFF)
        down = unavailable and place.may_fail(begun, time.monotonic())
        with self.lock:
            self.errors[refused.code, refused.reason or "(by gRPC)", "while replaced" if down else ""] += 1
        return Down(str(refused)) if down else refused

    def call(self, place, rpc, token, /, **fields):
        """Makes one call at one place."""
        begun = time.monotonic()
        return self.end(place, rpc, begun, self.begin(place, rpc, token, fields))

    def do(self, rpc, token, /, **fields):
        """Makes a call at any place. Repeats it, perhaps at another place, while servers are replaced, as
        docs/errors.md says. Returns the answer, the place and the number of repetitions. A field may be a function,
        which is called for each try."""
        end, tries = time.monotonic() + PATIENCE_S, 0
        while True:
            place, begun = random.choice(self.fleet.places), time.monotonic()
            given = {name: field() if callable(field) else field for name, field in fields.items()}
            try:
                answer = self.call(place, rpc, token, **given)
                if not tries and not any(other.may_fail(begun, time.monotonic()) for other in self.fleet.places):
                    with self.lock:
                        self.took[rpc, place.kind].append(time.monotonic() - begun)
                return answer, place, tries
            except Down:
                if time.monotonic() > end:
                    raise
            except Refused as refused:
                pending = refused.reason in ("BARRIER_PENDING", "REFUSAL_PENDING")
                if not (pending and self.fleet.killed_lately(begun)) or time.monotonic() > end:
                    raise
            tries += 1
            with self.lock:
                self.retries += 1
            time.sleep(0.05)

    def ask_all(self, rpc, tokens_and_fields):
        """Makes calls at all places at once. Returns `(place, answer or Refused)` of those that are up."""
        coming = []
        for token, fields in tokens_and_fields:
            for place in self.fleet.places:
                coming.append((place, time.monotonic(), self.begin(place, rpc, token, fields)))
        answers = []
        for place, begun, one in coming:
            try:
                answers.append((place, self.end(place, rpc, begun, one)))
            except Down:
                pass
            except Refused as refused:
                answers.append((place, refused))
        return answers

    def report(self, text):
        """Records a violation."""
        with self.lock:
            self.wrong.append(text)
        if len(self.wrong) <= 20 and not self.quiet:
            print(f"WRONG {text}", flush=True)
