"""ListCredentials: filters, orders, pages, and visibility. (Benchmarks measure the cost of a page of a million rows.)"""

import calls
from calls import DAY, HOUR, at_micros, create_key, disable, from_now, listing, micros, revoke, scopes, span
from client import expect, holds
from scene import until
from sophic.auth.v1.auth_service_pb2 import CredentialOrder
from sophic.auth.v1.credential_pb2 import CredentialKind, CredentialState


def order(name):
    return CredentialOrder.Value(f"CREDENTIAL_ORDER_{name}")


def kind(name):
    return CredentialKind.Value(f"CREDENTIAL_KIND_{name}")


def state(name):
    return CredentialState.Value(f"CREDENTIAL_STATE_{name}")


def walk(s):
    made = filled(s)
    filters(s, made)
    orders(s, made)
    pages(s)
    who_sees_what(s, made)
    wrong(s)


def filled(s):
    """Creates credentials of every kind and state, in this order, with names that begin with `l-`."""
    made = {
        "late": s.key("l-ci-late", ttl=span(10 * DAY)),
        "never": s.key("l-ci-never", granted=("admin",)),
        "soon": s.key("l-cd-soon", ttl=span(HOUR)),
        "off": s.key("l-off"),
        "gone": s.key("l-gone", ttl=span(HOUR)),
        "over": s.key("l-over", ttl=span(1)),
        "pat": s.pat(name="l-pat", ttl=span(2 * DAY)),
        "other": s.pat(s.member, name="l-other"),
    }
    by_owner = s.dashboard.do(create_key(s.workspace, "l-by-owner", acting_user=s.owner))
    made["by-owner"] = type(made["late"])(by_owner)
    s.root.do(disable(made["off"].id))
    s.root.do(revoke(made["gone"].id))
    until("it is over", lambda: not s.ask(s.root, made["over"].token).active)
    for name in ("never", "late", "pat"):
        s.allowed(made[name].token)
        until("its use is written", lambda: s.get(made[name].id).HasField("last_use_time"))
    return made


def names(s, **asked):
    return [one.name.removeprefix("l-") for one in s.listed(**{"name_prefix": "l-", **asked})]


def filters(s, made):
    keys = ["ci-late", "ci-never", "cd-soon", "off", "gone", "over", "by-owner"]
    everything = keys[:-1] + ["pat", "other", "by-owner"]
    creator = f"caller:{s.root.name}"
    used = at_micros(min(micros(s.get(made[name].id).last_use_time) for name in ("never", "late", "pat")))
    cases = [
        ({}, everything),
        ({"workspace": s.workspace}, keys),
        ({"workspace": f"id-of-{s.workspace}"}, keys),
        ({"user": s.owner}, ["pat"]),
        ({"user": s.owner, "workspace": s.workspace}, []),
        ({"kind": kind("KEY")}, keys),
        ({"kind": kind("PAT")}, ["pat", "other"]),
        ({"state": state("ACTIVE")}, ["ci-late", "ci-never", "cd-soon", "pat", "other", "by-owner"]),
        ({"state": state("DISABLED")}, ["off"]),
        ({"state": state("EXPIRED")}, ["over"]),
        ({"state": state("REVOKED")}, ["gone"]),
        ({"creator": creator}, everything[:-1]),
        ({"creator": f"user:{s.owner}"}, ["by-owner"]),
        ({"creator": "caller:nobody"}, []),
        ({"scope": scopes("admin")[0]}, ["ci-never"]),
        ({"scope": scopes("capture")[0]}, ["pat", "other"]),
        ({"expires_before": from_now(DAY)}, ["cd-soon"]),
        ({"expires_before": from_now(3 * DAY)}, ["cd-soon", "pat"]),
        ({"expiring_within": span(3 * DAY)}, ["cd-soon", "pat"]),
        ({"expiring_within": span(30 * DAY), "expires_before": from_now(DAY)}, ["cd-soon"]),
        ({"unused_since": used}, [name for name in everything if name not in ("ci-late", "ci-never", "pat")]),
        ({"unused_since": from_now(1)}, everything),
        ({"name_prefix": "l-ci-"}, ["ci-late", "ci-never"]),
        ({"name_prefix": "l-c%"}, []),
        ({"name_prefix": "L-"}, []),
        ({"family_id": made["soon"].id}, ["cd-soon"]),
        ({"workspace": s.workspace, "state": state("ACTIVE"), "scope": scopes("read")[0], "creator": creator,
          "expires_before": from_now(DAY), "unused_since": from_now(0), "name_prefix": "l-c"}, ["cd-soon"]),
    ]
    for asked, expected in cases:
        for page_size in (0, 2):
            expect(f"the list of {asked} by {page_size}", names(s, page_size=page_size, **asked), expected)
    s.ok("each filter finds its credentials, and so do several together")


def orders(s, made):
    everything = names(s)
    expect("by create time", names(s, order=order("CREATE_TIME"), page_size=1), everything)
    expect("newest first", names(s, order=order("CREATE_TIME_DESC"), page_size=2), everything[::-1])
    expiring = ["over", "cd-soon", "gone", "pat", "ci-late"]
    found = names(s, order=order("EXPIRE_TIME"), page_size=1)
    expect("by expiry, only what expires", found, expiring)
    # A credential that was never used has a last use of zero here, and comes first in the list.
    last = {one.name.removeprefix("l-"): micros(one.last_use_time) for one in s.listed(name_prefix="l-")}
    expected = sorted(everything, key=last.get)
    expect("by last use, never used first", names(s, order=order("LAST_USE_TIME"), page_size=1), expected)
    s.ok("each order is as it says, page by page")


def pages(s):
    first = listing(name_prefix="l-", page_size=3)
    page = s.root.do(first)
    expect("how many are on a page", len(page.credentials), 3)
    following = first.but(page_token=page.next_page_token)
    more = s.there.do(following)
    holds("the next page is another", not {one.id for one in more.credentials} & {one.id for one in page.credentials})
    others = [
        {"order": order("CREATE_TIME_DESC")}, {"name_prefix": "l"}, {"scope": scopes("read")[0]}, {"kind": kind("KEY")},
        {"state": state("ACTIVE")}, {"workspace": s.workspace}, {"creator": f"caller:{s.root.name}"},
        {"acting_user": s.owner}, {"expiring_within": span(1)}, {"unused_since": from_now(0)},
    ]
    for other in others:
        s.root.invalid(following.but(**other), "page_token")
    s.root.invalid(first.but(page_token="nonsense"), "page_token")
    s.root.invalid(first.but(page_size=-1), "page_size")
    expect("more than there may be on a page", len(s.root.do(first.but(page_size=5_000)).credentials), 9)
    soon = listing(name_prefix="l-", expiring_within=span(20 * DAY), order=order("EXPIRE_TIME"), page_size=1)
    token = s.root.do(soon).next_page_token
    page = s.root.do(soon.but(page_token=token))
    expect("a page of what expires soon, a moment later", [one.name for one in page.credentials], ["l-pat"])
    s.ok("a page fits only the filter and the order that it was made for")


def who_sees_what(s, made):
    def seen(actor, **asked):
        found = actor.do(listing(name_prefix="l-", page_size=100, **asked)).credentials
        return [one.name.removeprefix("l-") for one in found]

    keys = ["ci-late", "ci-never", "cd-soon", "off", "gone", "over"]
    expect("an owner sees keys, and their own tokens", seen(s.dashboard, acting_user=s.owner), keys + ["pat", "by-owner"])
    expect("a member sees their own tokens", seen(s.dashboard, acting_user=s.member), ["other"])
    expect("a reader sees all", len(seen(s.dashboard)), 9)
    s.root.do(calls.put_user("lists-eve"))
    s.dashboard.refused(listing(workspace=s.workspace, acting_user=s.member), "ROLE_TOO_LOW")
    s.dashboard.refused(listing(workspace=s.workspace, acting_user="lists-eve"), "WORKSPACE_NOT_FOUND")
    expect("a user without a membership sees nothing", seen(s.dashboard, acting_user="lists-eve"), [])
    s.dashboard.refused(listing(user=s.owner, acting_user=s.member), "USER_NOT_FOUND")
    s.dashboard.refused(listing(acting_user="nobody-at-all"), "ACTING_USER_NOT_ACTIVE")
    s.dashboard.refused(calls.get(made["pat"].id, acting_user=s.member), "CREDENTIAL_NOT_FOUND")
    writer = s.world.caller("lists-writer", "credentials.write")
    writer.refused(listing(name_prefix="l-"), "ACTING_USER_REQUIRED")
    expect("a caller that may only write sees what its user sees", seen(writer, acting_user=s.member), ["other"])
    gateway = s.world.caller("lists-gateway", "introspect")
    gateway.refused(listing(), "PERMISSION_MISSING")
    s.ok("each acting user sees the credentials that they may manage")


def wrong(s):
    s.root.invalid(listing(name_prefix="a\0"), "name_prefix")
    s.root.invalid(listing(creator="a\nb"), "creator")
    s.root.invalid(listing(family_id="1"), "family_id")
    s.root.invalid(listing(order=9), "order")
    s.root.invalid(listing(scope=9), "scope")
    s.root.invalid(listing(expiring_within=span(-1)), "expiring_within")
    s.root.refused(listing(workspace="nowhere-at-all"), "WORKSPACE_NOT_FOUND")
    s.root.refused(listing(user="nobody-at-all"), "USER_NOT_FOUND")
    s.ok("invalid filters are refused")
