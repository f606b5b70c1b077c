"""Fixtures of the walk: the servers, the command line, and separate callers and owners for each topic."""

import json
import os
import subprocess
import time
from typing import NamedTuple

import calls
from client import PATIENCE_S, Actor, Call, Wrong, expect, holds
from sophic.auth.v1.decision_pb2 import Denial

PERMISSIONS = [
    "introspect", "credentials.read", "credentials.write", "credentials.admin",
    "directory.read", "directory.write", "audit.read", "callers.admin", "status.read",
]


def until(what, is_so):
    """Waits until a value is true, and returns it."""
    end = time.monotonic() + PATIENCE_S
    while not (found := is_so()):
        if time.monotonic() > end:
            raise Wrong(f"{what}: did not happen in time")
        time.sleep(0.02)
    return found


class Record:
    """Every call with its outcome, and every token that was returned."""

    def __init__(self):
        self.calls, self.tokens = [], set()

    def done(self, actor, call, answer):
        self.calls.append((actor.name, call, "", answer))
        if token := getattr(answer, "token", ""):
            self.tokens.add(token)

    def refused(self, actor, call, refused):
        self.calls.append((actor.name, call, refused.reason, None))


class Ended(NamedTuple):
    """The output of a command."""

    stdout: str
    stderr: str


class Program:
    """The command line, on the same store."""

    def __init__(self, path, database_url):
        self.path, self.database_url = path, database_url

    def start(self, *words, **streams):
        """Starts a command, without the SOPHIC_AUTH_ variables of the environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SOPHIC_AUTH_")}
        return subprocess.Popen([self.path, "--database-url", self.database_url, *words], env=kept, text=True, **streams)

    def run(self, *words, given="", code=0):
        """Runs a command, which must exit with this code. Returns its output."""
        pipe = subprocess.PIPE
        ended = self.start(*words, stdin=pipe, stdout=pipe, stderr=pipe)
        printed, said = ended.communicate(given, timeout=PATIENCE_S)
        if ended.returncode != code:
            raise Wrong(f"{words} exited with {ended.returncode}, expected {code}: {said}")
        return Ended(printed, said)

    def json(self, *words, given="", code=0):
        return json.loads(self.run("--output", "json", *words, given=given, code=code).stdout)


class World:
    """Three servers on one store: `here`, where changes are made; `there`, which must follow them and accepts imported
    tokens; and `strict`, which has a policy."""

    def __init__(self, here, there, strict, program):
        self.here, self.there, self.strict, self.program = here, there, strict, program
        self.record = Record()
        words = [word for permission in PERMISSIONS for word in ("--permission", permission)]
        token = program.run("--output", "token", "caller", "create", "walker", *words).stdout.strip()
        self.record.tokens.add(token)
        self.root = Actor("walker", token, here, self.record)

    def caller(self, name, *permissions):
        made = self.root.do(Call("CreateCaller", name=name, permissions=permissions))
        return Actor(name, made.token, self.here, self.record)

    def scene(self, topic):
        return Scene(self, topic)


class Made:
    """A new credential and its token."""

    def __init__(self, answer):
        self.credential, self.token = answer.credential, answer.token
        self.id = answer.credential.id


class Scene:
    """The fixtures of one topic: a caller with every permission; a dashboard, which acts for users; a workspace with an
    owner and a member. They are separate so that topics do not disturb one another's counts."""

    def __init__(self, world, topic):
        self.world, self.topic, self.workspace = world, topic, f"{topic}-works"
        self.owner, self.member = f"{topic}-olga", f"{topic}-max"
        self.root = world.caller(f"{topic}-root", *PERMISSIONS)
        self.there = self.root.at(world.there)
        self.dashboard = world.caller(f"{topic}-dashboard", "credentials.read", "credentials.write")
        self.root.do(calls.put_workspace(self.workspace))
        for user, role in ((self.owner, "owner"), (self.member, "member")):
            self.root.do(calls.put_user(user))
            self.root.do(calls.put_membership(self.workspace, user, role))

    def ok(self, what):
        print(f"ok {self.topic}: {what}", flush=True)

    def key(self, name="ci", granted=("read",), **fields):
        return Made(self.root.do(calls.create_key(self.workspace, name, granted, **fields)))

    def pat(self, user=None, name="laptop", granted=("read", "capture"), **fields):
        return Made(self.root.do(calls.create_pat(user or self.owner, name, granted, **fields)))

    def get(self, credential_id):
        return self.root.do(calls.get(credential_id)).credential

    def revision(self):
        """Returns the store's revision, by revoking a token that does not exist."""
        return self.root.do(calls.revoke_token("nonsense")).revision

    def listed(self, **filters):
        """Returns all credentials that match the filter, from all pages."""
        found, token = [], ""
        while True:
            page = self.root.do(calls.listing(page_token=token, **filters))
            found.extend(page.credentials)
            token = page.next_page_token
            if not token:
                return found

    def ask(self, actor, token, required=(), client_ip="", workspace=None):
        named = self.workspace if workspace is None else workspace
        return actor.do(calls.introspect(token, named, required, client_ip))

    def allowed(self, token, *required, **asked):
        """Checks that the token is allowed: at once here, and eventually at the other server, since calls that widen access
        do not wait for other replicas."""
        answer = self.ask(self.root, token, required, **asked)
        expect("the answer for a valid token", (answer.allowed, answer.http_status), (True, 200))
        until("it is allowed at the other server", lambda: self.ask(self.there, token, required, **asked).allowed)
        return answer

    def denied(self, token, denial, *required, **asked):
        """Checks that the token is denied at both servers at once."""
        for actor in (self.root, self.there):
            answer = self.ask(actor, token, required, **asked)
            expect("the denial", Denial.Name(answer.denial), f"DENIAL_{denial}")
            is_dead = denial.startswith("TOKEN_")
            found = (answer.allowed, answer.active, answer.http_status)
            expect(f"the answer for {denial}", found, (False, not is_dead, 401 if is_dead else 403))
            holds("a challenge is there", answer.www_authenticate.startswith("Bearer"), answer.www_authenticate)
        return answer

    def events(self, **filters):
        """Returns all audit events that match the filter, from all pages."""
        found, token = [], ""
        while True:
            page = self.root.do(Call("ListAuditEvents", page_size=1_000, page_token=token, **filters))
            found.extend(page.events)
            token = page.next_page_token
            if not token:
                return found

    def history(self, credential_id):
        """Returns the actions of a credential's history, refusals with their reason code."""
        story = self.events(target_id=credential_id)
        return [event.action + (f" {event.refusal}" if event.refusal else "") for event in story]
