"""RevokeLeaked: it revokes the real tokens among the texts that a secret scanner found."""

import json

from calls import revoke, state
from client import Call, expect, holds

URL = "https://example.com/paste/1"


def walk(s):
    key, pat, dead, spared = s.key(), s.pat(), s.key(), s.key()
    s.root.do(revoke(dead.id))
    texts = [key.token, "password123", "", pat.token, dead.token, key.token, "sophic_key_nonsense"]
    found = [{"token": text, "url": URL, "reason": "secret scanner"} for text in texts]
    call = Call("RevokeLeaked", tokens=found)
    s.dashboard.refused(call, "PERMISSION_MISSING")
    results = s.root.do(call).results
    found = [(one.real, one.revoked_now) for one in results]
    no, before, now = (False, False), (True, False), (True, True)
    expect("which were real, and which were ended now", found, [now, no, no, now, before, before, no])
    ids = [one.credential.id for one in results]
    expect("the credentials", ids, [key.id, "", "", pat.id, dead.id, key.id, ""])
    expect("the states", {state(one.credential) for one in results if one.real}, {"REVOKED"})
    s.denied(key.token, "TOKEN_REVOKED", "read")
    s.denied(pat.token, "TOKEN_REVOKED", "read")
    s.allowed(spared.token, "read")
    s.ok("real tokens are revoked at every server at once, and distinguished from other texts")

    event = s.events(target_id=key.id)[-1]
    expect("why, in the log", (event.action, event.reason), ("credential.revoke", f"secret scanner: {URL}"))
    [summary] = s.events(action="credential.revoke_leaked", caller=s.root.name)
    asked = json.loads(summary.after)
    expect("the call, in the log", asked, {"asked": {"candidate_count": 7, "real_count": 3}, "revoked_count": 2})
    searched = s.key()
    found = [{"token": searched.token, "url": f"https://example.com/search?q={searched.token}", "reason": searched.token}]
    s.root.do(Call("RevokeLeaked", tokens=found))
    reason = s.events(target_id=searched.id)[-1].reason
    holds("no token in the log", searched.token not in reason and "[redacted]" in reason, reason)
    many = [{"token": f"candidate-{number}"} for number in range(1_001)]
    s.root.invalid(Call("RevokeLeaked", tokens=many), "tokens")
    expect("a thousand fit", len(s.root.do(Call("RevokeLeaked", tokens=many[:1_000])).results), 1_000)
    s.ok("the log keeps where it was found, and no token")

    given = f"nothing\n{json.dumps({'token': spared.token, 'url': URL})}\n"
    ended = s.world.program.run("--output", "json", "leaked", "--reason", "found by hand", given=given)
    [real] = json.loads(ended.stdout)["real"]
    expect("the output of the command", (real["line"], real["id"]), (2, spared.id))
    holds("it prints no token", spared.token not in ended.stdout + ended.stderr)
    s.denied(spared.token, "TOKEN_REVOKED", "read")
    s.ok("`leaked` does the same beside running servers")
