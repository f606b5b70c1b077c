//! A token that was made and could not be printed: nobody has it, so nothing may go by it. It is revoked again, and what
//! holds now is said.

use std::sync::Arc;

use super::operator;
use super::output::{Printed, Unprinted};
use crate::model::{Caller, Credential, PreviousToken};
use crate::service::{self, Reason, RevokeTarget, Rotated, RotatedCaller, RotationUndone, Service};

/// For the audit log.
const REASON: &str = "its token could not be printed";

/// Revokes a new credential unless its token was printed.
pub(super) async fn credential(
    service: &Arc<Service>,
    made: &Credential,
    printed: Printed,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let fate = revoked(service, made).await;
    Err(lost(
        &error,
        &format!(
            "{fate}, and nothing was made: try again, with another --request-id if there was one"
        ),
    ))
}

/// Revokes what a credential was rotated into unless its token was printed.
pub(super) async fn rotated(
    service: &Arc<Service>,
    rotated: &Rotated,
    printed: Printed,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let fate = revoked(service, &rotated.credential).await;
    let old = &rotated.predecessor;
    let id = old.id;
    let end = old.revoke_time.into_iter().chain(old.expire_time).min();
    let rest = match end.filter(|end| *end > service.now()) {
        Some(end) => format!(
            "the old token, of {id}, is accepted until {end}: rotate it once more before that"
        ),
        None => format!(
            "the old token, of {id}, has ended, as a rotation without an overlap asks: make a new one with `create`"
        ),
    };
    Err(lost(&error, &format!("{fate}; {rest}")))
}

/// Revokes a new caller unless its token was printed.
pub(super) async fn caller(
    service: &Arc<Service>,
    made: &Caller,
    printed: Printed,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let fate = caller_revoked(service, made).await;
    Err(lost(&error, &format!("{fate}, and nothing was made: create it once more")))
}

/// Takes a caller's rotation back unless its token was printed. The caller itself is not revoked, for its old token is in use.
pub(super) async fn caller_rotated(
    service: &Arc<Service>,
    rotated: &RotatedCaller,
    printed: Printed,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let id = rotated.caller.id;
    let fate = match service.undo_rotation(operator(), rotated, REASON).await {
        Ok(RotationUndone::OldGoesOn) => format!(
            "it is dead, and the old token of caller {id} goes on, as if it had not been rotated: rotate it again"
        ),
        Ok(RotationUndone::OldHasEnded) => format!(
            "it is dead, and the old token of caller {id} has ended, as a rotation without an overlap asks: rotate it once more"
        ),
        Ok(RotationUndone::Overtaken) => {
            format!("it is dead, and caller {id} was rotated or revoked by somebody else meanwhile")
        }
        Err(failed) if failed.reason == Reason::BarrierPending => format!(
            "it is dead, though not every server has confirmed it: see `caller list` for what holds of caller {id}"
        ),
        Err(failed) => {
            let old = rotated.caller.previous.map(|PreviousToken { expire_time, .. }| expire_time);
            let old = old.filter(|end| *end > service.now());
            let old = old.map_or_else(
                || "has ended".to_owned(),
                |end| format!("is accepted until {end}, or until the caller is rotated once more"),
            );
            format!(
                "it could not be ended ({failed}), and the old token of caller {id} {old}: rotate it once more with \
                 --overlap 0s, which ends the lost one"
            )
        }
    };
    Err(lost(&error, &fate))
}

/// Ends all that `dev` has made unless it could be printed; in a store that is thrown away nothing is left to be ended.
pub(super) async fn demo(
    service: &Arc<Service>,
    made: &[Credential],
    caller: &Caller,
    printed: Printed,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let mut fates = Vec::new();
    for credential in made {
        fates.push(revoked(service, credential).await);
    }
    fates.push(caller_revoked(service, caller).await);
    Err(lost(&error, &fates.join("; ")))
}

async fn caller_revoked(service: &Arc<Service>, made: &Caller) -> String {
    let id = made.id.to_string();
    fate(&format!("caller {id}"), service.revoke_caller(operator(), id).await)
}

async fn revoked(service: &Arc<Service>, made: &Credential) -> String {
    let target = RevokeTarget::Id(made.id, Some(made.kind));
    fate(&made.id.to_string(), service.revoke(operator(), target, "", REASON).await)
}

/// What became of what was made.
fn fate<T>(what: &str, revoked: service::Result<T>) -> String {
    match revoked {
        Ok(_) => format!("{what} was revoked again"),
        Err(failed) if failed.reason == Reason::BarrierPending => {
            format!("{what} was revoked again, though not every server has confirmed it")
        }
        Err(failed) => format!("{what} could not be revoked again ({failed}): revoke it"),
    }
}

/// A token that nobody was shown. Not quiet even where a pipe was closed.
#[derive(Debug, thiserror::Error)]
#[error("the new token could not be printed ({why}): {fate}")]
pub(super) struct Lost {
    why: String,
    fate: String,
}

fn lost(error: &Unprinted, fate: &str) -> anyhow::Error {
    Lost { why: error.to_string(), fate: fate.to_owned() }.into()
}
