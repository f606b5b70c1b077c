//! The explanation of a decision: its rows and what they judged. `oracle.rs` compares the outcomes of all situations.

use super::super::*;
use super::{ADMIN, Case, READ, acme, allowlist, facts, now_plus};
use crate::model::{FoundFacts, Workspace};

/// Explains the case, as asked about by token.
fn explained(case: &Case, tells_workspace: bool) -> Explanation {
    let found = FoundFacts {
        credential: facts(&case.credential),
        principal: case.principal(),
        named_workspace: case.found.clone().map(std::sync::Arc::new),
    };
    let request = Request {
        workspace: case.named,
        required_scopes: case.required,
        client_ip: case.client_ip.map(|ip| ip.parse().expect("a good address")),
    };
    explain(PresentedText::Accepted, &found, &request, case.now, tells_workspace)
}

/// The row of this denial, and its facts as text.
fn row(explanation: &Explanation, denial: Denial) -> (RowOutcome, String) {
    let row = explanation.rows.iter().find(|row| row.denial == Some(denial)).expect("a row");
    let facts = row.facts.iter().map(|fact| format!("{}={}", fact.name, fact.value));
    (row.outcome, facts.collect::<Vec<_>>().join(" "))
}

#[test]
fn the_rows_are_those_of_the_page() {
    let page = include_str!("../../../docs/decisions.md");
    let lines = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number: u8 = cells.next()?.parse().ok()?;
        Some((number, cells.nth(1)?.to_owned()))
    });
    let mut written = Vec::new();
    for (number, denials) in lines {
        for denial in denials.split(", ") {
            let name = denial.trim_matches('`');
            written.push((number, Some(name.to_owned()).filter(|name| name != "allowed")));
        }
    }
    let rows = explained(&Case::key(), false).rows.into_iter();
    let rows: Vec<_> =
        rows.map(|row| (row.number, row.denial.map(|denial| denial.as_str().to_owned()))).collect();
    assert_eq!(rows, written);
}

#[test]
fn a_row_names_what_it_judged() {
    let mut case = Case { client_ip: Some("198.51.100.7"), ..Case::key() };
    case.credential.ip_allowlist = allowlist(&["192.0.2.0/24", "2001:db8::/32"]);
    let explanation = explained(&case, false);
    let judged = "ip_allowlist=192.0.2.0/24,2001:db8::/32 client_ip=198.51.100.7".to_owned();
    assert_eq!(row(&explanation, Denial::IpNotAllowed), (RowOutcome::Denied, judged));
    let not_reached = (RowOutcome::NotReached, String::new());
    assert_eq!(row(&explanation, Denial::WorkspaceMismatch), not_reached);
    assert_eq!(explanation.rows.last().expect("a row").outcome, RowOutcome::NotReached);

    let mut case = Case { membership: Some(Role::Member), required: ADMIN, ..Case::pat() };
    case.credential.scopes = READ;
    let explanation = explained(&case, false);
    assert_eq!(
        row(&explanation, Denial::NotAMember),
        (
            RowOutcome::Passed,
            "named_workspace=acme workspace_state=enabled membership_role=member".to_owned()
        )
    );
    let judged = "granted_scopes=read max_role=owner effective_role=member role_capped_by=membership \
                  effective_scopes=read required_scopes=admin missing_scopes=admin \
                  token_lacks_scopes=admin role_lacks_scopes=admin";
    assert_eq!(
        row(&explanation, Denial::InsufficientScope),
        (RowOutcome::Denied, judged.to_owned())
    );
}

#[test]
fn a_denied_membership_tells_no_more_than_the_decision() {
    let disabled = Some(Workspace { disabled: true, ..acme() });
    let deleted = Some(Workspace { delete_time: Some(now_plus(-1)), ..acme() });
    for (found, membership, state) in [
        (None, None, "workspace_state=unknown membership_role=none"),
        (Some(acme()), None, "workspace_state=enabled membership_role=none"),
        (disabled, Some(Role::Owner), "workspace_state=disabled membership_role=owner"),
        (deleted, Some(Role::Owner), "workspace_state=unknown membership_role=owner"),
    ] {
        let case = Case { found, membership, ..Case::pat() };
        let told = |tells| row(&explained(&case, tells), Denial::NotAMember);
        assert_eq!(told(false), (RowOutcome::Denied, "named_workspace=acme".to_owned()));
        let all = format!("named_workspace=acme {state}");
        assert_eq!(told(true), (RowOutcome::Denied, all));
    }
}

#[test]
fn rows_1_and_2_are_about_the_presented_text() {
    let case = Case::key();
    let found = FoundFacts {
        credential: facts(&case.credential),
        principal: case.principal(),
        named_workspace: None,
    };
    let request = Request { workspace: None, required_scopes: READ, client_ip: None };
    for (presented, outcomes, denial) in [
        (PresentedText::NotGiven, [RowOutcome::NotApplicable; 2], None),
        (PresentedText::Accepted, [RowOutcome::Passed; 2], None),
        (
            PresentedText::NotAccepted,
            [RowOutcome::Passed, RowOutcome::Denied],
            Some(Denial::TokenUnknown),
        ),
    ] {
        let explanation = explain(presented, &found, &request, case.now, false);
        assert_eq!(explanation.decision.denial, denial);
        let first: Vec<_> = explanation.rows[..2].iter().map(|row| row.outcome).collect();
        assert_eq!(first, outcomes, "{presented:?}");
        let rest = if denial.is_some() { RowOutcome::NotReached } else { RowOutcome::Passed };
        assert_eq!(explanation.rows[2].outcome, rest);
    }
}
