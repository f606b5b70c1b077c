"""The load: what is created, used, changed and ended, and what every server must answer at once."""

import itertools
import random
import threading
import time
import uuid
from collections import Counter

from calls import Down, Refused
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from sophic.auth.v1.credential_pb2 import Role, Scope
from sophic.auth.v1.decision_pb2 import Denial

READ, CAPTURE, ADMIN = Scope.SCOPE_READ, Scope.SCOPE_CAPTURE, Scope.SCOPE_ADMIN
# How long a change that gives something may take to reach the other servers, and a last use its row.
SPREAD_S = 20
NUMBERS = itertools.count(1)
# Ended tokens and live ones that are asked for over and over.
ENDED_KEPT = 300


class Token:
    """A token, what it is asked for, and whether it has ended."""

    def __init__(self, text, workspace, scope=READ):
        self.text, self.workspace, self.scope = text, workspace, scope
        # Set before the call that ends it is sent, and after that call has returned.
        self.ending = self.ended = False

    def request(self, scope=None):
        return {"token": self.text, "workspace": self.workspace, "required_scopes": [scope or self.scope]}


class Load:
    """Clients that go through stories, and others that ask for tokens all the time."""

    def __init__(self, wire, root):
        self.wire, self.root = wire, root
        # The clients that watch go on until the others have ended.
        self.stop, self.stop_watching = threading.Event(), threading.Event()
        self.checked, self.stories, self.asked, self.accepted = Counter(), Counter(), 0, 0
        self.live, self.dead, self.revisions, self.seen = [], [], [], {}
        self.watched, self.threads, self.watchers = Counter(), [], []
        self.do("PutUser", user={"id": "user-0", "display_name": "User"})
        self.do("PutWorkspace", workspace={"id": "ws-0", "slug": "ws-0", "display_name": "Workspace"})
        self.do("PutMembership", workspace="ws-0", user="user-0", role=Role.ROLE_OWNER)
        for _ in range(20):
            self.live.append(Token(self.key("ws-0").token, "ws-0"))
            self.live.append(Token(self.pat("user-0").token, "ws-0"))

    # What the stories are made of.

    def do(self, rpc, /, **fields):
        return self.do_at(rpc, **fields)[0]

    def do_at(self, rpc, /, **fields):
        """Makes a call. Returns the answer and the place that gave it."""
        return self.wire.do(rpc, self.root, **fields)[:2]

    def key_at(self, workspace, **fields):
        fields = {"name": "key", "scopes": [READ, ADMIN], "request_id": str(uuid.uuid4()), **fields}
        return self.do_at("CreateKey", workspace=workspace, **fields)

    def key(self, workspace, **fields):
        return self.key_at(workspace, **fields)[0]

    def pat_at(self, user, **fields):
        fields = {"name": "pat", "scopes": [READ, CAPTURE, ADMIN], "request_id": str(uuid.uuid4()), **fields}
        return self.do_at("CreatePat", user=user, **fields)

    def pat(self, user, **fields):
        return self.pat_at(user, **fields)[0]

    def scene(self, role=Role.ROLE_OWNER):
        """Creates a workspace and a user who is its member. Returns their ids."""
        number = next(NUMBERS)
        workspace, user = f"ws-{number}", f"user-{number}"
        self.do("PutWorkspace", workspace={"id": workspace, "slug": workspace, "display_name": "Workspace"})
        self.do("PutUser", user={"id": user, "display_name": "User"})
        self.do("PutMembership", workspace=workspace, user=user, role=role)
        return workspace, user

    def answers(self, requests, caller=None):
        return self.wire.ask_all("Introspect", [(caller or self.root, request) for request in requests])

    def allowed(self, token, scope=None, what=""):
        """Checks that every server accepts a token that was created before."""
        for place, answer in self.answers([token.request(scope)]):
            if isinstance(answer, Refused) or not answer.allowed:
                self.wire.report(f"{what}: {place.name} ({place.kind}) refuses it: {said(answer)}")
            self.accepted += 1

    def soon_allowed(self, token, scope=None, what=""):
        """Waits until every server accepts a token to which something was given."""
        end = time.monotonic() + SPREAD_S
        while not all(getattr(answer, "allowed", False) for _, answer in self.answers([token.request(scope)])):
            if time.monotonic() > end:
                return self.wire.report(f"{what}: not at every server within {SPREAD_S} s")
            time.sleep(0.02)

    def takes(self, what, rpc, tokens, denials, /, scope=None, **fields):
        """Makes a call that takes something from tokens, and asks all servers at once. None may still accept them.
        With a scope it takes only that one."""
        for one in tokens:
            one.ending = one.ending or scope is None
        answer, at, repeated = self.wire.do(rpc, self.root, **fields)
        for one in tokens:
            one.ended = one.ended or scope is None
        self.refused(what, at, tokens, denials, scope)
        # A repeated one may have found it revoked, and then tells a revision without a change.
        if rpc == "Revoke" and not repeated:
            self.revisions.append(answer.revision)

    def refused(self, what, at, tokens, denials, scope=None):
        """Asks all servers for tokens, after a call at a place has returned."""
        by = at.kind
        for place, answer in self.answers([one.request(scope) for one in tokens]):
            name = "?" if isinstance(answer, Refused) else Denial.Name(answer.denial).removeprefix("DENIAL_")
            if name == "UNSPECIFIED":
                self.wire.report(f"STALE {what} by {at.name} ({by}): {place.name} ({place.kind}) still accepts it")
            elif name not in denials:
                self.wire.report(f"{what} by {by}: {place.name} ({place.kind}) answers {said(answer)}, not {denials}")
            self.count(what, at, by, place)

    def judged(self, what, at, caller, reason, soon=False):
        """Asks all servers as a caller, after a call at a place has returned. All must accept or refuse it."""
        by, end = at.kind, time.monotonic() + SPREAD_S
        while True:
            answers = [(place, getattr(answer, "reason", "OK")) for place, answer in self.answers([self.live[0].request()], caller)]
            wrong = [(place, found) for place, found in answers if found != reason]
            if not wrong or not soon or time.monotonic() > end:
                break
            time.sleep(0.02)
        for place, found in wrong:
            stale = "" if reason == "OK" else "STALE "
            self.wire.report(f"{stale}{what} by {at.name} ({by}): {place.name} ({place.kind}) answers {found}, not {reason}")
        for place, _ in answers if reason != "OK" else ():
            self.count(what, at, by, place)

    def count(self, what, at, by, place):
        with self.wire.lock:
            self.checked[what, "itself" if place is at else f"{by} to {place.kind}"] += 1

    # Threads.

    def start(self, stories, workers, askers):
        self.threads = [threading.Thread(target=self.work, args=(stories, number)) for number in range(workers)]
        self.threads += [threading.Thread(target=self.ask) for _ in range(askers)]
        self.watchers = [threading.Thread(target=self.watch, args=(place,)) for place in self.wire.fleet.places]
        for thread in self.threads + self.watchers:
            thread.daemon = True
            thread.start()

    def end(self):
        """Ends the load, and checks that no Watch has missed a revocation."""
        self.stop.set()
        for thread in self.threads:
            thread.join(120)
        # A Watch has a checkpoint at least every second.
        time.sleep(2)
        self.stop_watching.set()
        for thread in self.watchers:
            thread.join(20)
        if any(thread.is_alive() for thread in self.threads + self.watchers):
            self.wire.report("a client hangs")
        for place, seen in self.seen.items():
            missed = [revision for revision in self.revisions if revision not in seen]
            if missed:
                self.wire.report(f"the Watch at {place.name} missed {len(missed)} of {len(self.revisions)} revocations: {missed[:5]}")

    def work(self, stories, number):
        order = list(stories)
        random.Random(number).shuffle(order)
        for story in itertools.cycle(order):
            if self.stop.is_set():
                return
            try:
                story(self)
                self.stories[story.__name__] += 1
            except Exception as error:
                self.wire.report(f"{story.__name__}: {type(error).__name__}: {error}")
                time.sleep(1)

    def ask(self):
        """Asks for tokens that live and tokens that have ended, at any server, one by one and in batches."""
        while not self.stop.is_set():
            place = random.choice(self.wire.fleet.places)
            several = random.choice((1, 1, 1, 10))
            tokens = [random.choice(random.choice((self.live, self.dead)) or self.live) for _ in range(several)]
            ended = [token.ended for token in tokens]
            try:
                if several == 1:
                    answers = [self.wire.call(place, "Introspect", self.root, **tokens[0].request())]
                else:
                    requests = [token.request() for token in tokens]
                    answers = self.wire.call(place, "BatchIntrospect", self.root, requests=requests).responses
            except Down:
                time.sleep(0.05)
                continue
            except Refused as refused:
                self.wire.report(f"a client that asks: {refused}")
                continue
            for token, was_ended, answer in zip(tokens, ended, answers):
                if was_ended and answer.allowed:
                    self.wire.report(f"STALE {place.name} ({place.kind}) accepts a token that had ended before")
                if not answer.allowed and not token.ending:
                    self.wire.report(f"{place.name} ({place.kind}) refuses a live token: {said(answer)}")
            self.asked += several
            time.sleep(0.003)

    def keep(self, token):
        """Lets the askers ask for a token while its story goes on, and after it has ended."""
        self.dead.append(token)
        del self.dead[:-ENDED_KEPT]

    def watch(self, place):
        """Follows the changes at one place. Its cursor goes on from server to server."""
        cursor, seen, before = "", self.seen.setdefault(place, set()), 0
        method, request = self.wire.methods[place, "Watch"], self.wire.request("Watch")
        while not self.stop_watching.is_set():
            begun = time.monotonic()
            try:
                stream = method(request(cursor=cursor), metadata=[("authorization", f"Bearer {self.root}")])
                for message in stream:
                    if message.revision < before:
                        self.wire.report(f"the Watch at {place.name} ({place.kind}) went back from {before} to {message.revision}")
                    cursor, before = message.cursor, message.revision
                    seen.update(change.revision for change in message.changes)
                    self.watched[place.kind] += len(message.changes)
                    if self.stop_watching.is_set():
                        stream.cancel()
                        break
            except Exception as error:
                failed = self.wire.judge(place, "Watch", begun, error)
                # A server that stops ends its streams, which then begin again with the cursor.
                if isinstance(failed, Refused) and not place.may_fail(time.monotonic() - 1, time.monotonic()):
                    self.wire.report(f"Watch: {failed}")
            time.sleep(0.1)


def said(answer):
    return str(answer) if isinstance(answer, Refused) else Denial.Name(answer.denial)


def from_now(seconds):
    micros = int((time.time() + seconds) * 1e6)
    return Timestamp(seconds=micros // 10**6, nanos=micros % 10**6 * 1_000)


def span(seconds):
    return Duration(seconds=seconds)
