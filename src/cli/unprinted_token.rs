//! Undoes the creation of a token that could not be printed. Nobody has such a token, so it is revoked, and the error
//! describes the resulting state.

use std::sync::Arc;

use super::operator;
use super::output::{PrintError, PrintResult};
use crate::model::{Caller, Credential, PreviousToken};
use crate::service::{
    self, Reason, RevokeTarget, Rotated, RotatedCaller, Service, UndoRotationOutcome,
};

/// Reason of the revocation, for the audit log.
const REASON: &str = "its token could not be printed";

/// Revokes a new credential unless its token was printed.
pub(super) async fn revoke_unless_printed(
    service: &Arc<Service>,
    created: &Credential,
    printed: PrintResult,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let outcome = revoke(service, created).await;
    Err(not_printed(
        &error,
        &format!(
            "{outcome}, so nothing was created: try again, and if you gave a --request-id, with another one"
        ),
    ))
}

/// Revokes the successor of a rotated credential unless its token was printed.
pub(super) async fn revoke_successor_unless_printed(
    service: &Arc<Service>,
    rotated: &Rotated,
    printed: PrintResult,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let outcome = revoke(service, &rotated.credential).await;
    let old = &rotated.predecessor;
    let id = old.id;
    let end = old.revoke_time.into_iter().chain(old.expire_time).min();
    let rest = match end.filter(|end| *end > service.now()) {
        Some(end) => {
            format!("the old token, of {id}, is accepted until {end}: rotate again before then")
        }
        None => format!(
            "the old token, of {id}, has expired, because there was no overlap: create a new credential with `create`"
        ),
    };
    Err(not_printed(&error, &format!("{outcome}; {rest}")))
}

/// Revokes a new caller unless its token was printed.
pub(super) async fn revoke_caller_unless_printed(
    service: &Arc<Service>,
    created: &Caller,
    printed: PrintResult,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let outcome = revoke_caller(service, created).await;
    Err(not_printed(&error, &format!("{outcome}, so nothing was created: try again")))
}

/// Undoes a caller's rotation unless its token was printed. Does not revoke the caller, whose old token is in use.
pub(super) async fn undo_caller_rotation_unless_printed(
    service: &Arc<Service>,
    rotated: &RotatedCaller,
    printed: PrintResult,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let id = rotated.caller.id;
    let outcome = match service.undo_rotation(operator(), rotated, REASON).await {
        Ok(UndoRotationOutcome::OldTokenValid) => format!(
            "the new token was revoked, and the old token of caller {id} is still valid: rotate again"
        ),
        Ok(UndoRotationOutcome::OldTokenExpired) => format!(
            "the new token was revoked, and the old token of caller {id} has expired, because there was no overlap: \
             rotate again"
        ),
        Ok(UndoRotationOutcome::Superseded) => {
            format!(
                "caller {id} was rotated or revoked in the meantime, so the new token is not valid"
            )
        }
        Err(failed) if failed.reason == Reason::BarrierPending => format!(
            "the new token was revoked, although not every server has confirmed it: `caller list` shows the state of \
             caller {id}"
        ),
        Err(failed) => {
            let old = rotated.caller.previous.map(|PreviousToken { expire_time, .. }| expire_time);
            let old = old.filter(|end| *end > service.now());
            let old = old.map_or_else(
                || "has expired".to_owned(),
                |end| format!("is accepted until {end}, or until the next rotation"),
            );
            format!(
                "the new token could not be revoked ({failed}), and the old token of caller {id} {old}: rotate again \
                 with --overlap 0s, which revokes the lost token"
            )
        }
    };
    Err(not_printed(&error, &outcome))
}

/// Revokes everything that `dev` has created unless it was printed.
pub(super) async fn revoke_demo_unless_printed(
    service: &Arc<Service>,
    created: &[Credential],
    caller: &Caller,
    printed: PrintResult,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let mut outcomes = Vec::new();
    for credential in created {
        outcomes.push(revoke(service, credential).await);
    }
    outcomes.push(revoke_caller(service, caller).await);
    Err(not_printed(&error, &outcomes.join("; ")))
}

async fn revoke_caller(service: &Arc<Service>, created: &Caller) -> String {
    let id = created.id.to_string();
    describe_revocation(&format!("caller {id}"), service.revoke_caller(operator(), id).await)
}

async fn revoke(service: &Arc<Service>, created: &Credential) -> String {
    let target = RevokeTarget::Id(created.id, Some(created.kind));
    describe_revocation(
        &created.id.to_string(),
        service.revoke(operator(), target, "", REASON).await,
    )
}

/// Describes the result of a revocation.
fn describe_revocation<T>(what: &str, revoked: service::Result<T>) -> String {
    match revoked {
        Ok(_) => format!("{what} was revoked"),
        Err(failed) if failed.reason == Reason::BarrierPending => {
            format!("{what} was revoked, although not every server has confirmed it")
        }
        Err(failed) => format!("{what} could not be revoked ({failed}): revoke it yourself"),
    }
}

/// A new token could not be printed. This is an error even if the reader closed the pipe.
#[derive(Debug, thiserror::Error)]
#[error("the new token could not be printed ({why}): {outcome}")]
pub(super) struct TokenNotPrinted {
    why: String,
    outcome: String,
}

fn not_printed(error: &PrintError, outcome: &str) -> anyhow::Error {
    TokenNotPrinted { why: error.to_string(), outcome: outcome.to_owned() }.into()
}
