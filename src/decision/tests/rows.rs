//! Rows 1 to 10: whether the token is active, and whether it may be used from this address and in this workspace. Also
//! the order of neighbouring rows, and their edge cases.

use std::time::Duration;

use super::super::*;
use super::{ADMIN, CAPTURE, Case, READ, READ_CAPTURE};
use super::{acme, allowlist, micros, now_plus, workspace};
use crate::model::{IpAllowlist, PatPolicy, Workspace, WorkspaceEntry, WorkspaceSet};

#[test]
fn the_denials_stand_in_the_order_of_the_table_with_its_statuses() {
    let table = [
        ("TOKEN_MISSING", 401, false),
        ("TOKEN_UNKNOWN", 401, false),
        ("TOKEN_REVOKED", 401, false),
        ("TOKEN_EXPIRED", 401, false),
        ("TOKEN_DISABLED", 401, false),
        ("PRINCIPAL_DISABLED", 401, false),
        ("IP_NOT_ALLOWED", 403, true),
        ("WORKSPACE_MISMATCH", 403, true),
        ("WORKSPACE_REQUIRED", 400, true),
        ("NOT_A_MEMBER", 403, true),
        ("WORKSPACE_NOT_GRANTED", 403, true),
        ("PAT_NOT_PERMITTED", 403, true),
        ("USER_CREDENTIAL_REQUIRED", 403, true),
        ("INSUFFICIENT_SCOPE", 403, true),
        ("UNKNOWN_TOKENS_TOO_MANY", 429, false),
    ];
    let built = Denial::ALL.map(|denial| {
        let decision = Decision::refused(denial);
        assert_eq!(decision.http_status(), denial.http_status());
        assert_eq!(decision.is_active(), denial.is_active());
        (denial.as_str(), denial.http_status(), denial.is_active())
    });
    assert_eq!(built, table);
}

#[test]
fn every_denial_has_its_own_explanation() {
    let mut explanations = Denial::ALL.map(Denial::explanation).to_vec();
    explanations.sort_unstable();
    explanations.dedup();
    assert_eq!(explanations.len(), 15);
    assert!(explanations.iter().all(|explanation| !explanation.is_empty()));
}

#[test]
fn rows_1_and_2_the_refusal_has_no_role_and_no_scopes() {
    for denial in [Denial::TokenMissing, Denial::TokenUnknown] {
        let decision = Decision::refused(denial);
        assert!(!decision.is_active());
        assert!(!decision.is_allowed());
        assert_eq!(decision.http_status(), 401);
        assert_eq!((decision.role, decision.scopes), (None, ScopeSet::NONE));
        assert_eq!(decision.missing_scopes, ScopeSet::NONE);
    }
}

#[test]
fn row_3_a_revoked_token_is_refused_before_an_expired_one() {
    for mut case in Case::both() {
        case.credential.revoke_time = Some(now_plus(-1));
        case.credential.expire_time = Some(now_plus(-2));
        assert_eq!(case.denial(), Some(Denial::TokenRevoked));
    }
}

#[test]
fn row_3_an_expired_token_is_refused_before_a_disabled_one() {
    for mut case in Case::both() {
        case.credential.expire_time = Some(now_plus(-1));
        case.credential.disable_time = Some(now_plus(-2));
        assert_eq!(case.denial(), Some(Denial::TokenExpired));
    }
}

#[test]
fn row_3_a_disabled_token_is_refused_before_a_disabled_owner() {
    for mut case in Case::both() {
        case.credential.disable_time = Some(now_plus(-1));
        case.disable_owner();
        assert_eq!(case.denial(), Some(Denial::TokenDisabled));
    }
}

#[test]
fn row_3_a_token_is_expired_from_the_instant_of_its_expiry() {
    for mut case in Case::both() {
        case.credential.expire_time = Some(now_plus(1));
        assert_eq!(case.denial(), None);
        case.credential.expire_time = Some(case.now);
        assert_eq!(case.denial(), Some(Denial::TokenExpired));
        case.credential.expire_time = Some(now_plus(-1));
        assert_eq!(case.denial(), Some(Denial::TokenExpired));
    }
}

#[test]
fn row_3_a_token_without_an_expiry_never_expires() {
    for mut case in Case::both() {
        case.now = micros(253_402_300_799_999_999);
        assert_eq!(case.denial(), None);
    }
}

#[test]
fn row_3_revoke_and_disable_times_in_the_future_count_too() {
    for mut case in Case::both() {
        case.credential.disable_time = Some(now_plus(60_000_000));
        assert_eq!(case.denial(), Some(Denial::TokenDisabled));
        case.credential.revoke_time = Some(now_plus(60_000_000));
        assert_eq!(case.denial(), Some(Denial::TokenRevoked));
    }
}

#[test]
fn row_3_what_was_made_before_its_owners_watermark_is_revoked() {
    for mut case in Case::both() {
        case.credential.generation = 2;
        assert_eq!(case.denial(), Some(Denial::TokenRevoked));
        for generation in [3, 4] {
            case.credential.generation = generation;
            assert_eq!(case.denial(), None, "of generation {generation}");
        }
    }
}

#[test]
fn row_3_the_watermark_comes_before_expiry_and_before_a_disabled_owner() {
    for mut case in Case::both() {
        case.credential.generation = 2;
        case.credential.expire_time = Some(now_plus(-1));
        case.credential.disable_time = Some(now_plus(-1));
        case.disable_owner();
        assert_eq!(case.denial(), Some(Denial::TokenRevoked));
    }
}

#[test]
fn row_3_the_watermark_of_a_workspace_does_not_reach_a_members_own_token() {
    let mut case = Case::pat();
    case.found = Some(Workspace { generation: 99, ..acme() });
    assert_eq!(case.denial(), None);
}

#[test]
fn row_3_everything_of_a_deleted_owner_is_revoked() {
    for mut case in Case::both() {
        case.workspace.iter_mut().for_each(|own| own.delete_time = Some(now_plus(-1)));
        case.user.iter_mut().for_each(|user| user.delete_time = Some(now_plus(-1)));
        case.disable_owner();
        assert_eq!(case.denial(), Some(Denial::TokenRevoked));
    }
}

#[test]
fn row_3_a_credential_without_an_owner_is_revoked() {
    for mut case in Case::both() {
        (case.workspace, case.user) = (None, None);
        assert_eq!(case.denial(), Some(Denial::TokenRevoked));
    }
}

#[test]
fn row_3_the_refusal_has_no_role_and_no_scopes() {
    for mut case in Case::both() {
        case.required = ScopeSet::ALL;
        case.credential.revoke_time = Some(now_plus(-1));
        assert_eq!(case.decide(), Decision::refused(Denial::TokenRevoked));
        assert!(!case.decide().is_active());
    }
}

#[test]
fn row_4_a_disabled_owner_is_refused_before_an_address_outside_the_allowlist() {
    for mut case in Case::both() {
        case.disable_owner();
        case.credential.ip_allowlist = allowlist(&["192.0.2.0/24"]);
        assert_eq!(case.decide(), Decision::refused(Denial::PrincipalDisabled));
    }
}

#[test]
fn row_4_a_disabled_workspace_is_row_4_for_its_key_and_row_8_for_a_members_token() {
    let disabled = Workspace { disabled: true, ..acme() };
    let key = Case { workspace: Some(disabled.clone()), named: Some("acme"), ..Case::key() };
    assert_eq!(key.denial(), Some(Denial::PrincipalDisabled));
    let pat = Case { found: Some(disabled), ..Case::pat() };
    assert_eq!(pat.denial(), Some(Denial::NotAMember));
}

fn is_let_in(entries: &[&str], client_ip: Option<&'static str>) -> bool {
    let answers = Case::both().map(|mut case| {
        case.credential.ip_allowlist = allowlist(entries);
        case.client_ip = client_ip;
        case.denial()
    });
    assert_eq!(answers[0], answers[1], "the kinds differ at {client_ip:?}");
    assert!(matches!(answers[0], None | Some(Denial::IpNotAllowed)), "{:?}", answers[0]);
    answers[0].is_none()
}

#[test]
fn row_5_without_an_allowlist_any_address_or_none_is_allowed() {
    for client_ip in [None, Some("192.0.2.1"), Some("2001:db8::1")] {
        assert!(is_let_in(&[], client_ip), "{client_ip:?}");
    }
    assert!(IpAllowlist::default().is_empty());
}

#[test]
fn row_5_with_an_allowlist_an_absent_address_is_refused() {
    assert!(!is_let_in(&["192.0.2.0/24"], None));
    assert!(!is_let_in(&["0.0.0.0/0", "::/0"], None));
}

#[test]
fn row_5_a_network_ends_at_its_last_address() {
    for (client_ip, inside) in [
        ("192.0.1.255", false),
        ("192.0.2.0", true),
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("2001:db7:ffff::", false),
        ("2001:db8::", true),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db9::", false),
        ("198.51.100.7", true),
        ("198.51.100.8", false),
    ] {
        let entries = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"];
        assert_eq!(is_let_in(&entries, Some(client_ip)), inside, "{client_ip}");
    }
}

#[test]
fn row_5_an_ipv4_address_mapped_into_ipv6_is_that_ipv4_address() {
    assert!(is_let_in(&["192.0.2.0/24"], Some("::ffff:192.0.2.9")));
    assert!(!is_let_in(&["192.0.2.0/24"], Some("::ffff:192.0.3.9")));
    assert!(is_let_in(&["::ffff:192.0.2.9"], Some("192.0.2.9")));
    assert!(is_let_in(&["::ffff:192.0.2.0/120"], Some("::ffff:192.0.2.9")));
    assert!(!is_let_in(&["::ffff:192.0.2.0/120"], Some("192.0.3.9")));
}

#[test]
fn row_5_a_network_of_one_address_family_contains_none_of_the_other() {
    assert!(is_let_in(&["0.0.0.0/0"], Some("203.0.113.5")));
    assert!(!is_let_in(&["0.0.0.0/0"], Some("2001:db8::1")));
    assert!(is_let_in(&["::/0"], Some("2001:db8::1")));
    assert!(!is_let_in(&["::/0"], Some("203.0.113.5")));
}

#[test]
fn row_5_comes_before_every_row_about_workspaces_and_scopes() {
    let mut mismatch = Case { named: Some("globex"), ..Case::key() };
    let mut capture = Case { required: CAPTURE, ..Case::key() };
    let mut unnamed = Case { named: None, found: None, membership: None, ..Case::pat() };
    let mut stranger = Case { membership: None, ..Case::pat() };
    let mut short = Case { membership: Some(Role::Viewer), required: ADMIN, ..Case::pat() };
    for case in [&mut mismatch, &mut capture, &mut unnamed, &mut stranger, &mut short] {
        assert!(case.denial().is_some_and(|denial| denial != Denial::IpNotAllowed));
        case.credential.ip_allowlist = allowlist(&["192.0.2.0/24"]);
        assert_eq!(case.denial(), Some(Denial::IpNotAllowed));
    }
}

#[test]
fn row_5_the_refusal_reports_role_and_scopes() {
    let mut case = Case::pat();
    case.credential.ip_allowlist = allowlist(&["192.0.2.0/24"]);
    case.membership = Some(Role::Member);
    let decision = case.decide();
    assert!(decision.is_active() && !decision.is_allowed());
    assert_eq!(decision.role, Some((Role::Member, RoleCap::Membership)));
    assert_eq!(decision.scopes, READ_CAPTURE);
    assert_eq!(decision.missing_scopes, ScopeSet::NONE);
}

#[test]
fn row_6_a_key_acts_in_its_own_workspace_by_slug_by_id_or_by_default() {
    for named in [None, Some("acme"), Some("ws_1")] {
        let case = Case { named, found: named.map(|_| acme()), ..Case::key() };
        assert_eq!(case.denial(), None, "{named:?}");
    }
}

#[test]
fn row_6_a_key_is_refused_wherever_another_workspace_is_named() {
    let other = || workspace("ws_2", "globex");
    let disabled = Workspace { disabled: true, ..other() };
    for (named, found) in [
        ("globex", Some(other())),
        ("ws_2", Some(other())),
        ("globex", Some(disabled)),
        ("nowhere", None),
    ] {
        let case = Case { named: Some(named), found, required: READ, ..Case::key() };
        assert_eq!(case.denial(), Some(Denial::WorkspaceMismatch), "{named}");
        assert!(case.decide().is_active());
    }
}

#[test]
fn row_6_a_name_is_compared_letter_by_letter() {
    for named in ["", "ACME", "Acme", "WS_1", "acm", "acme2", " acme", "acme ", "acme\0"] {
        let case = Case { named: Some(named), ..Case::key() };
        assert_eq!(case.denial(), Some(Denial::WorkspaceMismatch), "{named:?}");
    }
}

#[test]
fn row_6_another_workspace_is_refused_before_capture_and_before_scopes() {
    let mut case = Case { named: Some("globex"), required: ScopeSet::ALL, ..Case::key() };
    case.credential.scopes = READ;
    let decision = case.decide();
    assert_eq!(decision.denial, Some(Denial::WorkspaceMismatch));
    assert_eq!(decision.missing_scopes, ScopeSet::NONE);
}

#[test]
fn row_7_a_pat_without_a_workspace_is_refused_before_its_scopes_are_checked() {
    for required in [ScopeSet::NONE, READ, ScopeSet::ALL] {
        let mut case = Case { named: None, found: None, required, ..Case::pat() };
        case.membership = None;
        case.credential.scopes = READ;
        let decision = case.decide();
        assert_eq!(decision.denial, Some(Denial::WorkspaceRequired));
        assert_eq!((decision.http_status(), decision.is_active()), (400, true));
        assert_eq!((decision.role, decision.scopes), (None, ScopeSet::NONE));
    }
}

#[test]
fn row_8_unknown_disabled_and_foreign_workspaces_get_one_answer() {
    let disabled = Workspace { disabled: true, ..acme() };
    let deleted = Workspace { delete_time: Some(now_plus(-1)), ..acme() };
    let case = || Case { required: ScopeSet::ALL, ..Case::pat() };
    let unknown = Case { found: None, membership: None, ..case() }.decide();
    assert_eq!(unknown.denial, Some(Denial::NotAMember));
    for (found, membership) in [
        (Some(acme()), None),
        (Some(disabled.clone()), None),
        (Some(disabled), Some(Role::Owner)),
        (Some(deleted.clone()), None),
        (Some(deleted), Some(Role::Owner)),
        (None, Some(Role::Owner)),
    ] {
        let what = format!("{found:?} {membership:?}");
        assert_eq!(Case { found, membership, ..case() }.decide(), unknown, "{what}");
    }
    assert!(unknown.is_active());
    assert_eq!((unknown.role, unknown.scopes), (None, ScopeSet::NONE));
    assert_eq!(unknown.missing_scopes, ScopeSet::NONE);
}

#[test]
fn row_8_a_token_acts_in_any_workspace_of_its_users() {
    for (named, id, slug) in [("acme", "ws_1", "acme"), ("ws_2", "ws_2", "globex")] {
        let found = Some(workspace(id, slug));
        assert_eq!(Case { named: Some(named), found, ..Case::pat() }.denial(), None);
    }
}

fn entry(generation: i64) -> WorkspaceSet {
    WorkspaceSet::new([WorkspaceEntry { id: acme().id, generation }])
}

#[test]
fn row_9_a_token_without_its_last_workspace_acts_nowhere() {
    let mut case = Case::pat();
    case.credential.granted_workspaces = Some(entry(acme().generation));
    assert_eq!(case.denial(), None);
    // The workspace was deleted and created again.
    case.found = Some(Workspace { generation: acme().generation + 1, ..acme() });
    assert_eq!(case.denial(), Some(Denial::WorkspaceNotGranted));
    case.credential.granted_workspaces = Some(WorkspaceSet::default());
    assert_eq!(case.denial(), Some(Denial::WorkspaceNotGranted));
}

#[test]
fn row_9_says_nothing_about_a_workspace_whose_member_the_user_is_not() {
    let mut case = Case::pat();
    case.credential.granted_workspaces = Some(WorkspaceSet::default());
    case.membership = None;
    assert_eq!(case.denial(), Some(Denial::NotAMember));
    case.found = None;
    assert_eq!(case.denial(), Some(Denial::NotAMember));
}

#[test]
fn row_10_a_token_that_may_not_act_in_a_workspace_has_no_role_and_no_scopes_there() {
    let mut case = Case::pat();
    case.credential.barred_workspaces = entry(acme().generation);
    let decision = case.decide();
    assert_eq!(decision, Decision::refused(Denial::PatNotPermitted));
    assert!(decision.is_active());
}

#[test]
fn row_10_a_lifetime_counts_from_creation_to_expiry() {
    let mut case = Case::pat();
    let most = Duration::from_mins(1);
    let pat_policy = PatPolicy { lifetime_max: Some(most), ..PatPolicy::default() };
    case.found = Some(Workspace { pat_policy, ..acme() });
    assert_eq!(case.denial(), Some(Denial::PatNotPermitted), "without an expiry");
    let end = case.credential.create_time.saturating_add(most);
    case.credential.expire_time = Some(end);
    assert_eq!(case.denial(), None);
    case.credential.expire_time = Some(end.saturating_add(Duration::from_micros(1)));
    assert_eq!(case.denial(), Some(Denial::PatNotPermitted));
}

#[test]
fn row_10_does_not_apply_to_keys() {
    let pat_policy = PatPolicy { forbidden: true, ..PatPolicy::default() };
    let case = Case { workspace: Some(Workspace { pat_policy, ..acme() }), ..Case::key() };
    assert_eq!(case.denial(), None);
}
