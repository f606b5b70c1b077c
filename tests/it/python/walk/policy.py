"""The server's policy, set by flags, and a workspace's policy: the stricter one applies, and errors name the limit.

The strict server runs with --key-lifetime-max 90d --pat-lifetime-max 30d --workspace-keys-max 4 --user-pats-max 2
--overlap-min 1m --overlap-max 7d; the others have no policy."""

import calls
from calls import DAY, HOUR, create_key, create_pat, from_now, micros, put_workspace, revoke, rotate, span
from client import Call, Refused, expect, holds, race


def walk(s):
    strict = s.root.at(s.world.strict)
    lifetimes(s, strict)
    overlaps(s, strict)
    counts(s, strict)
    never_laxer(s, strict)
    a_workspaces_own(s)
    its_count(s)
    it_stays(s)


def lifetimes(s, strict):
    key, pat = create_key(s.workspace), create_pat(s.member)
    strict.invalid(key, "expiration", said="90d")
    strict.invalid(key.but(ttl=span(90 * DAY + 1)), "ttl", said="90d")
    strict.invalid(key.but(expire_time=from_now(91 * DAY)), "expire_time", said="90d")
    strict.invalid(pat, "expiration", said="30d")
    strict.invalid(pat.but(ttl=span(30 * DAY + 1)), "ttl", said="30d")
    for call in (key.but(ttl=span(90 * DAY)), pat.but(ttl=span(30 * DAY))):
        made = strict.do(call)
        s.allowed(made.token, "read")
        strict.do(revoke(made.credential.id))
    s.ok("no lifetime is longer than the server's limit, and errors name the limit")


def overlaps(s, strict):
    made = s.key()
    strict.invalid(rotate(made.id, 0), "overlap", said="from 1m to 7d")
    strict.invalid(rotate(made.id, 7 * DAY + 1), "overlap", said="from 1m to 7d")
    strict.invalid(rotate(made.id, HOUR, ttl=span(91 * DAY)), "ttl", said="90d")
    s.allowed(made.token, "read")
    rotated = strict.do(rotate(made.id, 7 * DAY))
    new = rotated.credential
    expect("the lifetime of a successor", micros(new.expire_time) - micros(new.create_time), 90 * DAY * 10**6)
    s.allowed(made.token, "read")
    s.allowed(rotated.token, "read")
    for one in s.listed(family_id=made.id):
        s.root.do(revoke(one.id))
    s.ok("an overlap is within the server's limits")


def counts(s, strict):
    call = create_pat(s.member, ttl=span(DAY))
    outcomes = race(*[(strict, call)] * 6)
    made = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    expect("how many tokens there may be", len(made), 2)
    expect("the most", strict.refused(call, "CREDENTIALS_MAX_REACHED")["max"], "2")
    strict.do(revoke(made[0].credential.id))
    s.allowed(strict.do(call).token, "read")
    call = create_key(s.workspace, ttl=span(DAY))
    keys = [strict.do(call) for _ in range(4)]
    expect("the most", strict.refused(call, "CREDENTIALS_MAX_REACHED")["max"], "4")
    for key in keys:
        s.root.do(revoke(key.credential.id))
    s.ok("there are never more than the server's limit, however many calls race")


NONE = {
    "key_lifetime_max": span(0), "key_expiry_required": False, "keys_max": 0, "overlap_min": span(0),
    "overlap_max": span(0),
}


def put(s, **policy):
    """Returns a Put of the workspace that removes every limit that is not given."""
    return put_workspace(s.workspace, policy={**NONE, **policy})


def never_laxer(s, strict):
    laxer = put(s, key_lifetime_max=span(91 * DAY), keys_max=5, overlap_min=span(59), overlap_max=span(8 * DAY))
    fields = [f"workspace.policy.{name}" for name in ("key_lifetime_max", "keys_max", "overlap_max", "overlap_min")]
    strict.invalid(laxer, *fields)
    # A server without a policy accepts it. The strict server still applies its own policy.
    s.root.do(laxer)
    strict.invalid(create_key(s.workspace, ttl=span(90 * DAY + 1)), "ttl", said="90d")
    strict.do(put(s, key_lifetime_max=span(7 * DAY)))
    strict.invalid(create_key(s.workspace, ttl=span(7 * DAY + 1)), "ttl", said="7d")
    s.root.do(put(s))
    s.ok("a workspace's policy is never laxer than the server's")


def a_workspaces_own(s):
    s.root.do(put(s, key_lifetime_max=span(7 * DAY), overlap_min=span(10), overlap_max=span(60)))
    for actor in (s.root, s.there):
        actor.invalid(create_key(s.workspace), "expiration", said="7d")
        actor.invalid(create_key(s.workspace, ttl=span(7 * DAY + 1)), "ttl", said="7d")
    s.pat()
    made = s.key(ttl=span(7 * DAY))
    s.root.invalid(rotate(made.id, 0), "overlap", said="from 10s to 1m")
    s.root.invalid(rotate(made.id, 61), "overlap", said="from 10s to 1m")
    s.allowed(made.token, "read")
    rotated = s.root.do(rotate(made.id, 60))
    s.allowed(rotated.token, "read")
    s.root.do(put(s, key_expiry_required=True))
    s.root.invalid(create_key(s.workspace), "expiration", said="policy")
    s.allowed(s.key(ttl=span(1_000 * DAY)).token, "read")
    call = create_key(s.workspace, acting_user=s.owner)
    s.dashboard.invalid(call, "expiration", said="policy")
    s.root.do(put(s))
    s.ok("a workspace's stricter policy applies to its keys at every server")


def its_count(s):
    slug = "policy-few"
    s.root.do(put_workspace(slug, policy={"keys_max": 3}))
    call = create_key(slug)
    outcomes = race(*[(actor, call) for actor in (s.root, s.there) * 6])
    made = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    lost = {outcome.reason for outcome in outcomes if isinstance(outcome, Refused)}
    expect("how many of those that race are made, and why not more", (len(made), lost), (3, {"CREDENTIALS_MAX_REACHED"}))
    expect("the most", s.root.refused(call, "CREDENTIALS_MAX_REACHED")["max"], "3")
    rotated = s.root.do(rotate(made[0].credential.id, 60))
    s.root.refused(rotate(rotated.credential.id, 60), "CREDENTIALS_MAX_REACHED")
    s.root.do(revoke(made[1].credential.id))
    s.root.do(revoke(made[2].credential.id))
    s.allowed(s.root.do(call).token, "read", workspace=slug)
    s.ok("a workspace's limit on keys applies to rotations too")


def it_stays(s):
    policy = {
        "key_lifetime_max": span(DAY + 0.5), "key_expiry_required": True, "keys_max": 3, "overlap_min": span(1),
        "overlap_max": span(2),
    }
    put = s.root.do(put_workspace("policy-kept", policy=policy)).workspace
    expect("a Put that says nothing of it", s.root.do(put_workspace("policy-kept")).workspace.policy, put.policy)
    got = s.there.do(Call("GetWorkspace", workspace="policy-kept")).workspace
    expect("what Get shows", got.policy, put.policy)
    expect("its most keys", (got.policy.HasField("keys_max"), got.policy.keys_max), (True, 3))
    listed = s.root.do(Call("ListWorkspaces", page_size=1_000)).workspaces
    expect("what List shows", [one.policy for one in listed if one.slug == "policy-kept"], [put.policy])
    wrong = {"key_lifetime_max": span(0.0000005), "overlap_min": span(-1)}
    fields = ["workspace.policy.key_lifetime_max", "workspace.policy.overlap_min"]
    s.root.invalid(put_workspace("policy-kept", policy=wrong), *fields)
    one = s.root.do(put_workspace("policy-kept", policy={"keys_max": 4})).workspace
    expect("fields that are not named", (one.policy.key_lifetime_max, one.policy.keys_max), (put.policy.key_lifetime_max, 4))
    none = s.root.do(put_workspace("policy-kept", policy=NONE)).workspace
    holds("no limit at all is no policy", not none.HasField("policy"), none)
    expect("and then it asks nothing", calls.state(s.root.do(create_key("policy-kept")).credential), "ACTIVE")
    s.ok("a Put changes only the policy fields that it names")
