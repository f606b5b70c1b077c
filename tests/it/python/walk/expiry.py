"""Credentials that expire soon: `expiring_within` of ListCredentials, and the command for a nightly job."""

from calls import DAY, HOUR, disable, listing, revoke, span
from client import expect, holds
from lists import order


def walk(s):
    made = {name: s.key(name, ttl=span(ttl)) for name, ttl in (("later", 30 * DAY), ("soon", 13 * DAY), ("sooner", DAY))}
    s.key("never")
    made["off"] = s.key("off", ttl=span(2 * DAY))
    made["gone"] = s.key("gone", ttl=span(HOUR))
    pat = s.pat(name="pat", ttl=span(3 * DAY))
    s.root.do(disable(made["off"].id))
    s.root.do(revoke(made["gone"].id))
    creator = f"caller:{s.root.name}"

    def names(**asked):
        return [one.name for one in s.listed(creator=creator, order=order("EXPIRE_TIME"), **asked)]

    expect("within two weeks", names(expiring_within=span(14 * DAY)), ["sooner", "off", "pat", "soon"])
    expect("the same page by page", names(expiring_within=span(14 * DAY), page_size=1), ["sooner", "off", "pat", "soon"])
    expect("within an hour", names(expiring_within=span(HOUR)), [])
    expect("within a very long time", len(names(expiring_within=span(2**40))), 5)
    page = s.there.do(listing(user=s.owner, expiring_within=span(14 * DAY)))
    expect("of a user", [one.id for one in page.credentials], [pat.id])
    s.ok("List finds the active and disabled credentials that expire within a time")

    run = s.world.program.json
    words = ["credentials", "expiring", "--workspace", s.workspace, "--within"]
    some = run(*words, "14d", code=1)
    expect("what the command lists", [one["name"] for one in some["credentials"]], ["sooner", "off", "soon"])
    expect("its count", (some["count"], some["within"]), (3, "14days"))
    holds("with when", all(one["expire_time"] for one in some["credentials"]))
    expect("none", run(*words, "1h", code=0)["count"], 0)
    s.world.program.run(*words, "soon", code=2)
    s.world.program.run("credentials", "expiring", "--workspace", "nowhere-at-all", "--within", "14d", code=2)
    s.ok("`credentials expiring` has an exit code and JSON for a nightly job")
