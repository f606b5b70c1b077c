"""Import and export on the command line, beside running servers. Imported tokens work at servers that accept them, and are
managed like any other. (tests/it/transfer imports a million at once, and kills an import in the middle.)"""

import hashlib
import json
import tempfile
from pathlib import Path

from calls import disable, enable, revoke_token, rotate
from client import expect, holds
from scene import until


def legacy(number):
    return f"legacy-{number:04}-5f2c9a71d03b4e86"


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def walk(s):
    s.world.record.tokens.update(legacy(number) for number in range(12))
    mistakes(s)
    imported(s)
    managed(s)
    exported(s)


def csv(s, numbers):
    lines = [f"{s.workspace},legacy {number},read,{legacy(number)}\n" for number in numbers]
    return "workspace,name,scopes,token\n" + "".join(lines)


def legacies(s):
    """Returns the imported keys by name. Those of one import have the same create time, so List orders them by id."""
    return sorted(s.listed(workspace=s.workspace), key=lambda one: one.name)


def load(s, text, *words, code=0, form="csv"):
    ended = s.world.program.run("--output", "json", "import", "--format", form, *words, "-", given=text, code=code)
    holds("it prints no token", "5f2c9a71d03b4e86" not in ended.stdout + ended.stderr, ended.stderr)
    return json.loads(ended.stdout), ended.stderr


def counts(report):
    return tuple(report[name] for name in ("lines", "written", "already_there", "bad"))


def mistakes(s):
    text = csv(s, range(2)) + f"nowhere-at-all,n,read,{legacy(9)}\n{s.workspace},n,fly,{legacy(10)}\n"
    for words in (["--dry-run"], ["--all-or-nothing"]):
        report, said = load(s, text, *words, code=1)
        expect(f"what {words} writes", (report["written"], report["bad"]), (0, 2))
        notes = [json.loads(line)["note"] for line in said.splitlines()]
        expect("which lines were bad", [note["line"] for note in notes], [4, 5])
        holds("and why", "workspace" in notes[0]["message"] and "scopes" in notes[1]["message"], notes)
    expect("nothing was written", s.listed(workspace=s.workspace), [])
    s.denied(legacy(0), "TOKEN_UNKNOWN")
    s.ok("an import checks everything first, and names each bad line and its reason")


def imported(s):
    text = csv(s, range(3))
    expect("the first run", counts(load(s, text)[0]), (3, 3, 0, 0))
    expect("the second run", counts(load(s, text)[0]), (3, 0, 3, 0))
    report, _ = load(s, csv(s, range(4)) + f"nowhere-at-all,n,read,{legacy(9)}\n", code=1)
    expect("what a bad line does not stop", counts(report), (5, 1, 3, 1))
    line = {"user": s.owner, "name": "of old", "scopes": ["read", "capture"], "digest": digest(legacy(5))}
    expect("JSON lines", counts(load(s, json.dumps(line), form="jsonl")[0]), (1, 1, 0, 0))
    for number in range(4):
        until("a server that accepts imported tokens knows it", lambda: s.ask(s.there, legacy(number), ("read",)).allowed)
    answer = until("and the token of a user", lambda: (found := s.ask(s.there, legacy(5), ("capture",))).allowed and found)
    expect("whose it is", answer.user.id, s.owner)
    expect("a server that does not accept imported tokens", s.ask(s.root, legacy(0)).active, False)
    expect("what List shows", [one.name for one in legacies(s)], [f"legacy {number}" for number in range(4)])
    s.ok("imported tokens introspect where they are accepted, and a second run changes nothing")


def managed(s):
    first, second = legacies(s)[:2]
    s.root.do(disable(first.id))
    expect("it is off", s.ask(s.there, legacy(0)).active, False)
    s.root.do(enable(first.id))
    until("it is on", lambda: s.ask(s.there, legacy(0)).active)
    rotated = s.root.do(rotate(second.id))
    expect("it is no longer active", s.ask(s.there, legacy(1)).active, False)
    s.allowed(rotated.token, "read")
    s.there.do(revoke_token(legacy(0)))
    expect("it is no longer active", s.ask(s.there, legacy(0)).active, False)
    story = s.history(first.id)
    expect("its story", story, ["credential.import", "credential.disable", "credential.enable", "credential.revoke"])
    s.ok("they are disabled, enabled, rotated and revoked like any other")


def exported(s):
    run = s.world.program.run
    with tempfile.TemporaryDirectory() as folder:
        for form in ("csv", "jsonl"):
            path = Path(folder) / f"all.{form}"
            run("export", "--workspace", s.workspace, str(path))
            text = path.read_text()
            holds("it has no token", "5f2c9a71d03b4e86" not in text)
            holds("it has the digests", digest(legacy(0)) in text and digest(legacy(3)) in text)
            before = s.listed(workspace=s.workspace)
            report = s.world.program.json("import", str(path))
            expect("what was exported, read again", counts(report), (5, 0, 5, 0))
            expect("it changes nothing", [one.etag for one in s.listed(workspace=s.workspace)], [one.etag for one in before])
    lines = run("export", "--user", s.owner).stdout.splitlines()
    expect("of a user, to standard output", [json.loads(line)["name"] for line in lines], ["of old"])
    s.ok("an export can be imported, in both formats")
