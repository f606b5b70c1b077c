//! The decision row by row, for people who ask why. It walks the rows with [`super::decide`], so the two cannot
//! disagree.

use super::{Decision, Denial, Request, walk};
use crate::model::{FoundFacts, PrincipalFacts, ScopeSet, Timestamp, WorkspaceName};

/// Stands for a value that is absent or empty.
const NONE: &str = "none";

/// What is known about the text that was presented, which rows 1 and 2 are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresentedText {
    /// The credential was named by its id, so there is no text.
    NotGiven,
    /// Introspection looks it up.
    Accepted,
    /// It belongs to an imported token, and introspection does not accept those.
    NotAccepted,
}

/// What became of the request at a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOutcome {
    /// The row did not deny it.
    Passed,
    /// The row denied it.
    Denied,
    /// The row is not about such a request.
    NotApplicable,
    /// An earlier row denied it.
    NotReached,
}

impl RowOutcome {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Denied => "denied",
            Self::NotApplicable => "not applicable",
            Self::NotReached => "not reached",
        }
    }
}

/// A fact that a row judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFact {
    /// Its name.
    pub name: &'static str,
    /// Its value, for people.
    pub value: String,
}

/// A row of the table, as it applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRow {
    /// Number of the row in `docs/decisions.md`.
    pub number: u8,
    /// The denial of the row. `None` for the last one, which allows the request.
    pub denial: Option<Denial>,
    /// What became of the request.
    pub outcome: RowOutcome,
    /// What the row demands, in a few words.
    pub text: &'static str,
    /// What the row judged. Empty if it was not reached or does not apply.
    pub facts: Vec<RowFact>,
}

/// A decision and the rows that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// Every row of the table, in its order. Row 3 has one for each of its denials.
    pub rows: Vec<ExplainedRow>,
}

/// What the facts of the rows come from.
struct Grounds<'a> {
    found: &'a FoundFacts,
    request: &'a Request<'a>,
    now: Timestamp,
    decision: Decision,
    tells_workspace: bool,
}

/// Decides, and explains each row. `tells_workspace` says whether row 8 may tell which of its three conditions applies,
/// which the decision itself does not.
pub fn explain(
    presented: PresentedText,
    found: &FoundFacts,
    request: &Request<'_>,
    now: Timestamp,
    tells_workspace: bool,
) -> Explanation {
    let (decision, outcomes) = outcomes(presented, found, request, now);
    let grounds = Grounds { found, request, now, decision, tells_workspace };
    let mut rows = Vec::new();
    for (denial, outcome) in Denial::ALL.into_iter().zip(outcomes) {
        let Some((number, text)) = row_of(denial) else { continue };
        let facts = match outcome {
            RowOutcome::Passed | RowOutcome::Denied => grounds.facts(denial, outcome),
            RowOutcome::NotApplicable | RowOutcome::NotReached => Vec::new(),
        };
        rows.push(ExplainedRow { number, denial: Some(denial), outcome, text, facts });
    }
    let allowed = decision.is_allowed();
    let outcome = if allowed { RowOutcome::Passed } else { RowOutcome::NotReached };
    let (number, text) = (LAST_ROW, "the request is allowed");
    rows.push(ExplainedRow { number, denial: None, outcome, text, facts: Vec::new() });
    Explanation { decision, rows }
}

/// Decides, and returns what became of the request at the row of each denial, in the order of [`Denial::ALL`].
pub(super) fn outcomes(
    presented: PresentedText,
    found: &FoundFacts,
    request: &Request<'_>,
    now: Timestamp,
) -> (Decision, [RowOutcome; Denial::ALL.len()]) {
    let mut outcomes = [RowOutcome::NotApplicable; Denial::ALL.len()];
    let mut see = |row: Denial, denies: bool| {
        outcomes[row as usize] = if denies { RowOutcome::Denied } else { RowOutcome::Passed };
    };
    if presented != PresentedText::NotGiven {
        see(Denial::TokenMissing, false);
        see(Denial::TokenUnknown, presented == PresentedText::NotAccepted);
    }
    let decision = if presented == PresentedText::NotAccepted {
        Decision::refused(Denial::TokenUnknown)
    } else {
        walk(found, request, now, &mut see)
    };
    let denied = outcomes.iter().position(|outcome| *outcome == RowOutcome::Denied);
    if let Some(denied) = denied {
        outcomes[denied + 1..].fill(RowOutcome::NotReached);
    }
    (decision, outcomes)
}

/// Number of the row that allows the request.
const LAST_ROW: u8 = 13;

/// Returns the number of a denial's row in `docs/decisions.md`, and what the row demands. `None` if it has no row.
const fn row_of(denial: Denial) -> Option<(u8, &'static str)> {
    Some(match denial {
        Denial::TokenMissing => (1, "a token is presented"),
        Denial::TokenUnknown => (2, "the token is known"),
        Denial::TokenRevoked => (3, "the credential is not revoked, and its owner not deleted"),
        Denial::TokenExpired => (3, "the credential has not expired"),
        Denial::TokenDisabled => (3, "the credential is not disabled"),
        Denial::PrincipalDisabled => {
            (4, "the user of the PAT, or the workspace of the key, is enabled")
        }
        Denial::IpNotAllowed => (5, "the client address is in the IP allowlist, if there is one"),
        Denial::WorkspaceMismatch => (6, "a key is used in its own workspace only"),
        Denial::WorkspaceRequired => (7, "a PAT is used in a workspace that the request names"),
        Denial::NotAMember => (8, "the workspace exists, is enabled, and has the user as a member"),
        Denial::WorkspaceNotGranted => (9, "a limited PAT is limited to this workspace too"),
        Denial::PatNotPermitted => {
            (10, "the workspace's policy permits the PAT, and its owners have not barred it")
        }
        Denial::UserCredentialRequired => (11, "capture is not required of a key"),
        Denial::InsufficientScope => (12, "every required scope is in effect"),
        // Only a batch has it, and it says nothing about the token.
        Denial::UnknownTokensTooMany => return None,
    })
}

impl Grounds<'_> {
    /// Returns what the row of this denial judged.
    fn facts(&self, denial: Denial, outcome: RowOutcome) -> Vec<RowFact> {
        let Self { found, request, .. } = self;
        let credential = &*found.credential;
        match denial {
            Denial::TokenMissing | Denial::UnknownTokensTooMany => Vec::new(),
            Denial::TokenUnknown => vec![fact(
                "imported_tokens",
                if outcome == RowOutcome::Denied {
                    "not accepted"
                } else {
                    "accepted or not needed"
                },
            )],
            Denial::TokenRevoked => vec![
                time("revoke_time", credential.revoke_time),
                yes_or_no("owner_deleted", self.owner_is_deleted()),
            ],
            Denial::TokenExpired => {
                vec![time("expire_time", credential.expire_time), time("now", Some(self.now))]
            }
            Denial::TokenDisabled => vec![time("disable_time", credential.disable_time)],
            Denial::PrincipalDisabled => {
                vec![self.owner(), yes_or_no("owner_disabled", found.principal.is_disabled())]
            }
            Denial::IpNotAllowed => {
                let ip = request.client_ip.map(|ip| ip.to_string());
                vec![
                    fact("ip_allowlist", or_none(credential.ip_allowlist.to_string())),
                    fact("client_ip", ip.unwrap_or_else(|| NONE.to_owned())),
                ]
            }
            Denial::WorkspaceMismatch => vec![self.owner(), self.named_workspace()],
            Denial::WorkspaceRequired => vec![self.named_workspace()],
            Denial::NotAMember => self.membership(outcome),
            Denial::WorkspaceNotGranted => {
                let granted =
                    found.joined_workspace().is_some_and(|(named, _)| credential.is_granted(named));
                vec![yes_or_no("workspace_granted", granted)]
            }
            Denial::PatNotPermitted => self.pat_policy(),
            Denial::UserCredentialRequired => {
                vec![scopes("required_scopes", request.required_scopes)]
            }
            Denial::InsufficientScope => self.scopes(),
        }
    }

    /// Whether the owner was deleted, and possibly created again, after the credential was created.
    fn owner_is_deleted(&self) -> bool {
        let FoundFacts { credential, principal, .. } = self.found;
        credential.generation < principal.generation() || principal.is_deleted()
    }

    fn owner(&self) -> RowFact {
        match &self.found.principal {
            PrincipalFacts::Workspace(own) => {
                fact("key_workspace", format!("{} ({})", own.slug, own.id))
            }
            PrincipalFacts::User(facts) => fact("user", facts.user.id.to_string()),
        }
    }

    fn named_workspace(&self) -> RowFact {
        fact(
            "named_workspace",
            match self.request.workspace {
                None => NONE,
                Some(name) if WorkspaceName::is_spelled(name) => name,
                // Any text of any length.
                Some(_) => "not the name of a workspace",
            },
        )
    }

    /// The facts of row 8. Where it denies, they tell no more than the decision, unless that is wanted.
    fn membership(&self, outcome: RowOutcome) -> Vec<RowFact> {
        let mut facts = vec![self.named_workspace()];
        let role = self.found.membership().map(|role| role.to_string());
        if outcome == RowOutcome::Passed || self.tells_workspace {
            let state = match self.found.named_workspace.as_deref() {
                None => "unknown",
                Some(named) if named.delete_time.is_some() => "unknown",
                Some(named) if named.disabled => "disabled",
                Some(_) => "enabled",
            };
            facts.push(fact("workspace_state", state));
            facts.push(fact("membership_role", role.unwrap_or_else(|| NONE.to_owned())));
        }
        facts
    }

    /// The facts of row 10. The user is a member of the workspace.
    fn pat_policy(&self) -> Vec<RowFact> {
        let credential = &*self.found.credential;
        let Some((named, _)) = self.found.joined_workspace() else { return Vec::new() };
        let policy = &named.pat_policy;
        let most = policy.lifetime_max.map(|most| format!("{}s", most.as_secs_f64()));
        vec![
            yes_or_no("pats_forbidden", policy.forbidden),
            yes_or_no("pat_expiry_required", policy.expiry_required),
            fact("pat_lifetime_max", most.unwrap_or_else(|| NONE.to_owned())),
            time("create_time", Some(credential.create_time)),
            time("expire_time", credential.expire_time),
            yes_or_no("barred", credential.is_barred(named)),
        ]
    }

    /// The facts of the row about scopes: how the effective ones come about, and which are missing.
    fn scopes(&self) -> Vec<RowFact> {
        let (credential, decision) = (&*self.found.credential, &self.decision);
        let mut facts = vec![scopes("granted_scopes", credential.scopes)];
        if let Some((role, cap)) = decision.role {
            facts.push(fact("max_role", credential.max_role.as_str()));
            facts.push(fact("effective_role", role.as_str()));
            facts.push(fact("role_capped_by", cap.as_str()));
        }
        facts.push(scopes("effective_scopes", decision.scopes));
        facts.push(scopes("required_scopes", self.request.required_scopes));
        if !decision.missing_scopes.is_empty() {
            facts.push(scopes("missing_scopes", decision.missing_scopes));
            facts.push(scopes("token_lacks_scopes", decision.token_lacks));
            facts.push(scopes("role_lacks_scopes", decision.role_lacks));
        }
        facts
    }
}

fn fact(name: &'static str, value: impl Into<String>) -> RowFact {
    RowFact { name, value: value.into() }
}

fn time(name: &'static str, time: Option<Timestamp>) -> RowFact {
    fact(name, time.map_or_else(|| NONE.to_owned(), |time| time.to_string()))
}

fn yes_or_no(name: &'static str, yes: bool) -> RowFact {
    fact(name, if yes { "yes" } else { "no" })
}

fn scopes(name: &'static str, scopes: ScopeSet) -> RowFact {
    fact(name, or_none(scopes.to_string().replace(' ', ",")))
}

/// Returns the text, or a word for an empty one.
fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}
