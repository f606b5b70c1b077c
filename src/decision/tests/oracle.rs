//! A second, naive statement of the decision table, compared with `decide` for every situation. It was written from
//! `docs/decisions.md` and shares only the inputs with the first.

use std::net::IpAddr;
use std::sync::Arc;

use super::super::explain::outcomes;
use super::super::*;
use super::situation::*;
use super::{acme, ada, allowlist, facts, now_plus, user_facts};
use crate::model::{Credential, CredentialFacts, User, Workspace};

#[derive(Debug, PartialEq)]
struct Answer {
    denial: &'static str,
    http: u16,
    active: bool,
    role: Option<(Rank, &'static str)>,
    scopes: Scopes,
    missing: Scopes,
    token_lacks: Scopes,
    role_lacks: Scopes,
    lack: &'static str,
}

/// Returns the scopes of `these` for which `holds` is true.
fn only(these: Scopes, holds: impl Fn(usize) -> bool) -> Scopes {
    std::array::from_fn(|i| these[i] && holds(i))
}

/// The decision table.
#[expect(clippy::too_many_lines, reason = "the table is easier to read in one piece")]
fn expected_answer(s: &Situation) -> Answer {
    let none = Scopes::default();
    let mut answer = Answer {
        denial: "",
        http: 401,
        active: false,
        role: None,
        scopes: none,
        missing: none,
        token_lacks: none,
        role_lacks: none,
        lack: "",
    };
    let has = |defect| s.defects.contains(&defect);

    if has(Defect::Revoked) || has(Defect::BelowWatermark) || has(Defect::OwnerDeleted) {
        answer.denial = "TOKEN_REVOKED";
        return answer;
    }
    if has(Defect::Expired) {
        answer.denial = "TOKEN_EXPIRED";
        return answer;
    }
    if has(Defect::Disabled) {
        answer.denial = "TOKEN_DISABLED";
        return answer;
    }
    if has(Defect::OwnerDisabled) {
        answer.denial = "PRINCIPAL_DISABLED";
        return answer;
    }
    answer.active = true;

    // An active credential's role and scopes are reported even if it is refused.
    let live_workspace_named = match s.named {
        Named::OwnSlug | Named::OwnId | Named::Other => true,
        Named::Nothing | Named::Unknown | Named::Disabled | Named::Deleted => false,
    };
    let r = s.restrictions;
    let granted_here = r.limit == Limit::None || r.limit == Limit::Here;
    let demand_met = match r.demand {
        Demand::Nothing => true,
        Demand::NoToken | Demand::ShorterLifetime => false,
        Demand::AnExpiry | Demand::ThisLifetime => r.expires,
    };
    let permitted_here = demand_met && r.bar != Bar::Here;
    let may_act = live_workspace_named && granted_here && permitted_here;
    if s.kind == Kind::Key {
        answer.scopes = only(s.granted, |scope| scope != 1);
    } else if let (true, Some(membership)) = (may_act, s.membership) {
        let (role, cap) = match membership {
            lower_or_equal if lower_or_equal <= s.max_role => (lower_or_equal, "membership"),
            _ => (s.max_role, "token"),
        };
        answer.role = Some((role, cap));
        answer.scopes = only(s.granted, |scope| MAY_EXERCISE[role][scope]);
    }

    if s.address == AddressCase::Outside || s.address == AddressCase::NoAddress {
        answer.denial = "IP_NOT_ALLOWED";
        answer.http = 403;
        return answer;
    }
    if s.kind == Kind::Key {
        if s.named != Named::Nothing && s.named != Named::OwnSlug && s.named != Named::OwnId {
            answer.denial = "WORKSPACE_MISMATCH";
            answer.http = 403;
            return answer;
        }
    } else {
        if s.named == Named::Nothing {
            answer.denial = "WORKSPACE_REQUIRED";
            answer.http = 400;
            return answer;
        }
        if !live_workspace_named || s.membership.is_none() {
            answer.denial = "NOT_A_MEMBER";
            answer.http = 403;
            return answer;
        }
        if !granted_here {
            answer.denial = "WORKSPACE_NOT_GRANTED";
            answer.http = 403;
            return answer;
        }
        if !permitted_here {
            answer.denial = "PAT_NOT_PERMITTED";
            answer.http = 403;
            return answer;
        }
    }

    answer.missing = only(s.required, |scope| !answer.scopes[scope]);
    answer.token_lacks = only(answer.missing, |scope| !s.granted[scope]);
    if let Some((role, _)) = answer.role {
        answer.role_lacks = only(answer.missing, |scope| !MAY_EXERCISE[role][scope]);
    }
    if s.kind == Kind::Key && s.required[1] {
        answer.denial = "USER_CREDENTIAL_REQUIRED";
        answer.http = 403;
    } else if answer.missing != none {
        answer.denial = "INSUFFICIENT_SCOPE";
        answer.http = 403;
        let withheld =
            |rank: Rank| only(answer.missing, |scope| !MAY_EXERCISE[rank][scope]) != none;
        answer.lack = match (s.kind, s.membership) {
            (Kind::Key, _) => "token",
            (_, Some(membership)) if withheld(membership) => "role",
            _ if withheld(s.max_role) => "max_role",
            _ => "token",
        };
    } else {
        answer.denial = "ALLOWED";
        answer.http = 200;
    }
    answer
}

/// What becomes of the request at each row, in the order of the table, if this is its denial: the first row that denies is
/// the decision's, what is before it has passed or is about the other kind, and what is behind it is not reached.
fn expected_rows(s: &Situation, denial: &str) -> [RowOutcome; Denial::ALL.len()] {
    let other_kind = match s.kind {
        Kind::Key => {
            &["WORKSPACE_REQUIRED", "NOT_A_MEMBER", "WORKSPACE_NOT_GRANTED", "PAT_NOT_PERMITTED"][..]
        }
        Kind::Pat => &["WORKSPACE_MISMATCH", "USER_CREDENTIAL_REQUIRED"][..],
    };
    let mut denied = false;
    Denial::ALL.map(|row| {
        if denied {
            RowOutcome::NotReached
        } else if row.as_str() == denial {
            denied = true;
            RowOutcome::Denied
        } else if other_kind.contains(&row.as_str()) || row == Denial::UnknownTokensTooMany {
            RowOutcome::NotApplicable
        } else {
            RowOutcome::Passed
        }
    })
}

fn scopes_of(set: ScopeSet) -> Scopes {
    Scope::ALL.map(|scope| set.contains(scope))
}

fn all_scopes() -> [Scopes; 1 << Scope::ALL.len()] {
    std::array::from_fn(|bits| std::array::from_fn(|i| bits >> i & 1 == 1))
}

fn answer_of(decision: Decision) -> Answer {
    let role = decision.role.map(|(role, cap)| {
        let rank = match role {
            Role::Viewer => 0,
            Role::Member => 1,
            Role::Admin => 2,
            Role::Owner => 3,
        };
        (rank, if cap == RoleCap::Token { "token" } else { "membership" })
    });
    Answer {
        denial: decision.denial.map_or("ALLOWED", Denial::as_str),
        http: decision.http_status(),
        active: decision.is_active(),
        role,
        scopes: scopes_of(decision.scopes),
        missing: scopes_of(decision.missing_scopes),
        token_lacks: scopes_of(decision.token_lacks),
        role_lacks: scopes_of(decision.role_lacks),
        lack: match decision.lack {
            None => "",
            Some(Lack::Token) => "token",
            Some(Lack::MaxRole) => "max_role",
            Some(Lack::Role) => "role",
        },
    }
}

/// Compares both statements for every situation with these restrictions, defects and scopes. Returns the number of
/// situations.
fn compare(
    restrictions: Restrictions,
    defects: &[Defect],
    granted_sets: &[Scopes],
    required_sets: &[Scopes],
) -> usize {
    let world = World::new(restrictions.demand);
    let has = |defect| defects.contains(&defect);
    let delete_time = has(Defect::OwnerDeleted).then(|| now_plus(-1));
    let disabled = has(Defect::OwnerDisabled);
    let own = PrincipalFacts::Workspace(Arc::new(Workspace { disabled, delete_time, ..acme() }));
    let user = User { disabled, delete_time, ..ada() };
    let networks = allowlist(&["192.0.2.0/24", "2001:db8::/32"]);
    let inside: IpAddr = "192.0.2.77".parse().expect("an address");
    let outside: IpAddr = "198.51.100.1".parse().expect("an address");

    let mut count = 0;
    let mut check = |s: &Situation, credential: &Arc<CredentialFacts>| {
        let (workspace, named_workspace) = world.name(s.named);
        let principal = match s.kind {
            Kind::Key => own.clone(),
            Kind::Pat => {
                user_facts(&user, named_workspace.map(|named| &**named), s.membership.map(role_of))
            }
        };
        let (credential, named_workspace) = (credential.clone(), named_workspace.cloned());
        let found = FoundFacts { credential, principal, named_workspace };
        let client_ip = match s.address {
            AddressCase::NoAllowlistNorAddress | AddressCase::NoAddress => None,
            AddressCase::NoAllowlist | AddressCase::Outside => Some(outside),
            AddressCase::Inside => Some(inside),
        };
        let request = Request { workspace, required_scopes: set_of(s.required), client_ip };
        let (decision, expected) = (decide(&found, &request, now_plus(0)), expected_answer(s));
        assert_eq!(answer_of(decision), expected, "{s:?}");
        let (explained, rows) = outcomes(PresentedText::Accepted, &found, &request, now_plus(0));
        assert_eq!((explained, rows), (decision, expected_rows(s, expected.denial)), "{s:?}");
        count += 1;
    };
    for kind in [Kind::Key, Kind::Pat] {
        for max_role in 0..4 {
            for granted in granted_sets.iter().copied() {
                let (membership, required, named) = (None, Scopes::default(), Named::Nothing);
                let address = AddressCase::NoAllowlist;
                let mut s = Situation {
                    kind,
                    defects,
                    membership,
                    max_role,
                    granted,
                    required,
                    named,
                    address,
                    restrictions,
                };
                let anywhere = credential_of(&s);
                let bound = Credential { ip_allowlist: networks.clone(), ..anywhere.clone() };
                let (anywhere, bound) = (facts(&anywhere), facts(&bound));
                for address in ADDRESS_CASES {
                    let free = [AddressCase::NoAllowlist, AddressCase::NoAllowlistNorAddress]
                        .contains(&address);
                    s.address = address;
                    for named in NAMED {
                        s.named = named;
                        for membership in [None, Some(0), Some(1), Some(2), Some(3)] {
                            s.membership = membership;
                            for required in required_sets.iter().copied() {
                                s.required = required;
                                check(&s, if free { &anywhere } else { &bound });
                            }
                        }
                    }
                }
            }
        }
    }
    count
}

#[test]
fn every_situation_of_an_active_credential_is_decided_as_the_table_says() {
    let all = all_scopes();
    assert_eq!(compare(UNRESTRICTED, &[], &all, &all), 2 * 4 * all.len() * 5 * 7 * 5 * all.len());
}

#[test]
fn every_situation_with_one_defect_is_decided_as_the_table_says() {
    let all = all_scopes();
    for defect in DEFECTS {
        compare(UNRESTRICTED, &[defect], &all, &all);
    }
}

#[test]
fn every_combination_of_defects_is_decided_as_the_table_says() {
    for bits in 0..1 << DEFECTS.len() {
        let defects: Vec<Defect> = DEFECTS
            .into_iter()
            .enumerate()
            .filter_map(|(i, defect)| (bits >> i & 1 == 1).then_some(defect))
            .collect();
        let [none, read, .., all] = all_scopes();
        compare(UNRESTRICTED, &defects, &[read, all], &[none, all]);
    }
}

#[test]
fn every_combination_of_restrictions_is_decided_as_the_table_says() {
    let [none, read, .., all] = all_scopes();
    let mut count = 0;
    for limit in LIMITS {
        for bar in BARS {
            for demand in DEMANDS {
                for expires in [false, true] {
                    let restrictions = Restrictions { limit, bar, demand, expires };
                    count += compare(restrictions, &[], &[all], &[none, read]);
                    compare(restrictions, &[Defect::Disabled], &[all], &[read]);
                }
            }
        }
    }
    assert_eq!(count, 5 * 4 * 5 * 2 * (2 * 4 * 5 * 7 * 5 * 2));
}
