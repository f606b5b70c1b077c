"""UpdateCredential: masks, etags, and only narrower access."""

import time

from calls import DAY, HOUR, without_last_use, from_now, micros, revoke, scopes, update
from client import Call, Refused, expect, holds, race
from scene import until


def walk(s):
    only_what_the_mask_names(s)
    allowlists(s)
    etags(s)
    scopes_only_downward(s)
    expiry_only_earlier(s)
    masks(s)
    who_may(s)
    dead_ones(s)


def only_what_the_mask_names(s):
    made = s.key(annotations={"team": "search"}, granted=("read", "admin"))
    new = {"name": "Neuer Name", "annotations": {"a/b": "c"}, "ip_allowlist": ["192.0.2.7"], "scopes": scopes("read")}
    after = s.root.do(update(made.id, mask=["name"], **new)).credential
    expect("the name", after.name, "Neuer Name")
    holds("the etag moves", after.etag != made.credential.etag)
    for field in ("annotations", "ip_allowlist", "scopes", "hint", "create_time", "creator", "family_id"):
        expect(field, getattr(after, field), getattr(made.credential, field))
    after = s.root.do(update(made.id, annotations={"a/b": "c"})).credential
    expect("the annotations are replaced whole", dict(after.annotations), {"a/b": "c"})
    again = s.root.do(update(made.id, name="Neuer Name", annotations={"a/b": "c"})).credential
    expect("what changes nothing keeps its etag", without_last_use(again), without_last_use(after))
    after = s.root.do(update(made.id, mask=["annotations"])).credential
    expect("annotations may be cleared", dict(after.annotations), {})
    expect("what Get shows", without_last_use(s.get(made.id)), without_last_use(after))
    answer = s.allowed(made.token, "read", "admin")
    expect("the name that introspection reports", answer.credential.name, "Neuer Name")
    s.ok("only what the mask names is changed")


def allowlists(s):
    made = s.key()
    s.allowed(made.token, "read")
    after = s.root.do(update(made.id, ip_allowlist=["192.0.2.77/24", "2001:db8::1"])).credential
    expect("the allowlist", list(after.ip_allowlist), ["192.0.2.0/24", "2001:db8::1/128"])
    s.denied(made.token, "IP_NOT_ALLOWED", "read")
    s.denied(made.token, "IP_NOT_ALLOWED", "read", client_ip="198.51.100.1")
    s.allowed(made.token, "read", client_ip="192.0.2.1")
    s.allowed(made.token, "read", client_ip="2001:db8::1")
    s.root.do(update(made.id, mask=["ip_allowlist"]))
    s.allowed(made.token, "read", client_ip="198.51.100.1")
    s.root.invalid(update(made.id, ip_allowlist=["nowhere"], name=" "), "credential.name", "credential.ip_allowlist")
    s.ok("an IP allowlist applies at every server when the call returns, and can be removed")


def etags(s):
    made = s.key()
    first = s.root.do(update(made.id, etag=made.credential.etag, name="first")).credential
    s.root.refused(update(made.id, etag=made.credential.etag, name="second"), "ETAG_MISMATCH")
    expect("nothing was changed", without_last_use(s.get(made.id)), without_last_use(first))
    s.root.do(update(made.id, etag=first.etag, name="third"))
    expect("its name", s.get(made.id).name, "third")
    etag = s.get(made.id).etag
    outcomes = race(*[(actor, update(made.id, etag=etag, name="raced")) for actor in (s.root, s.there) * 2])
    lost = [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]
    expect("of racing calls with one etag, all but one fail", lost, ["ETAG_MISMATCH"] * 3)
    s.allowed(made.token, "read")
    s.ok("an etag that is not the current one is ABORTED and changes nothing")


def scopes_only_downward(s):
    made = s.key(granted=("read", "admin"))
    s.allowed(made.token, "read", "admin")
    for wider in (("read", "capture"), ("read", "capture", "admin"), ()):
        s.root.invalid(update(made.id, scopes=scopes(*wider)), "credential.scopes")
    s.allowed(made.token, "read", "admin")
    after = s.root.do(update(made.id, scopes=scopes("read"))).credential
    expect("the scopes", list(after.scopes), scopes("read"))
    answer = s.denied(made.token, "INSUFFICIENT_SCOPE", "read", "admin")
    found = [list(scopes) for scopes in (answer.scopes, answer.missing_scopes, answer.token_lacks_scopes)]
    expect("the missing scopes", found, [scopes("read"), scopes("admin"), scopes("admin")])
    s.allowed(made.token, "read")
    s.root.invalid(update(made.id, scopes=scopes("read", "admin")), "credential.scopes")
    s.denied(made.token, "INSUFFICIENT_SCOPE", "admin")
    s.ok("scopes can only be removed, and are gone at once")


def expiry_only_earlier(s):
    made = s.key()
    late, soon = from_now(DAY), from_now(HOUR)
    s.root.invalid(update(made.id, expire_time=from_now(-5)), "credential.expire_time")
    for end in (late, soon):
        after = s.root.do(update(made.id, expire_time=end)).credential
        expect("its end", after.expire_time, end)
    s.root.invalid(update(made.id, expire_time=late), "credential.expire_time")
    s.root.invalid(update(made.id, mask=["expire_time"]), "credential.expire_time")
    s.root.do(update(made.id, expire_time=soon))
    expect("the end that introspection reports", s.allowed(made.token, "read").credential.expire_time, soon)
    # Late enough to be in the future when a busy server handles the call.
    end = from_now(3)
    s.root.do(update(made.id, expire_time=end))
    for actor in (s.root, s.there):
        until("it is dead by itself", lambda: not s.ask(actor, made.token).active)
        holds("and not before its time", time.time() * 1e6 >= micros(end))
    s.denied(made.token, "TOKEN_EXPIRED")
    s.ok("an expiry can only be brought forward, and takes effect")


def masks(s):
    made = s.key()
    for paths in ([], ["*"], ["name", "max_role"], ["hint"], ["credential.name"]):
        s.root.invalid(update(made.id, mask=paths, name="x"), "update_mask")
    s.root.invalid(Call("UpdateCredential"), "credential.id", "update_mask")
    expect("nothing was changed", s.get(made.id), made.credential)
    s.ok("a mask names what can be changed")


def who_may(s):
    key, pat = s.key(), s.pat(s.member)
    s.dashboard.refused(update(key.id, name="x"), "ACTING_USER_REQUIRED")
    s.dashboard.refused(update(key.id, name="x", acting_user="nobody-at-all"), "ACTING_USER_NOT_ACTIVE")
    s.dashboard.refused(update(key.id, name="x", acting_user=s.member), "CREDENTIAL_NOT_FOUND")
    s.dashboard.refused(update(pat.id, name="x", acting_user=s.owner), "CREDENTIAL_NOT_FOUND")
    s.dashboard.do(update(key.id, name="by the owner", acting_user=s.owner))
    s.dashboard.do(update(pat.id, scopes=scopes("read"), acting_user=s.member))
    expect("the name", s.get(key.id).name, "by the owner")
    s.denied(pat.token, "INSUFFICIENT_SCOPE", "capture")
    s.ok("keys are changed by admins and owners of the workspace, personal access tokens by their user")


def dead_ones(s):
    made = s.key()
    s.root.do(revoke(made.id))
    s.root.refused(update(made.id, name="x"), "CREDENTIAL_REVOKED")
    s.denied(made.token, "TOKEN_REVOKED")
    s.ok("a revoked credential cannot be changed")
