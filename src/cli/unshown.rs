//! A token that was made and could not be printed: nobody has it, so nothing may go by it. It is revoked again, and what
//! holds now is said.

use std::sync::Arc;

use super::operator;
use super::output::{Printed, Unprinted};
use crate::model::{Caller, Credential, PreviousToken};
use crate::service::{Reason, RevokeTarget, Rotated, Service};

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
    let rest = match end.filter(|end| *end > service.clock.now()) {
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
    let fate = match service.revoke_caller(operator(), made.id.to_string()).await {
        Ok(_) => format!("caller {} was revoked again: create it once more", made.id),
        Err(failed) => {
            format!("caller {} could not be revoked again ({failed}): revoke it", made.id)
        }
    };
    Err(lost(&error, &fate))
}

/// Says what holds of a caller whose new token was not printed. The caller is not revoked, for its old token is in use.
pub(super) fn caller_rotated(
    service: &Service,
    rotated: &Caller,
    printed: Printed,
) -> anyhow::Result<()> {
    let Err(error) = printed else { return Ok(()) };
    let now = service.clock.now();
    let old = rotated.previous.as_ref().map(|PreviousToken { expire_time, .. }| *expire_time);
    let rest = match old.filter(|end| *end > now) {
        Some(end) => {
            format!("the old one is accepted until {end}, or until the caller is rotated once more")
        }
        None => "the old one has ended, as a rotation without an overlap asks".to_owned(),
    };
    let text = format!(
        "nobody has the new token of caller {}; {rest}: rotate it once more, which ends the lost token",
        rotated.id
    );
    Err(lost(&error, &text))
}

async fn revoked(service: &Arc<Service>, made: &Credential) -> String {
    let target = RevokeTarget::Id(made.id, Some(made.kind()));
    match service.revoke(operator(), target, "", REASON).await {
        Ok(_) => format!("{} was revoked again", made.id),
        Err(failed) if failed.reason == Reason::BarrierPending => {
            format!("{} was revoked again, though not every server has confirmed it", made.id)
        }
        Err(failed) => format!("{} could not be revoked again ({failed}): revoke it", made.id),
    }
}

/// Not quiet even where a pipe was closed: a token is lost.
fn lost(error: &Unprinted, fate: &str) -> anyhow::Error {
    anyhow::anyhow!("the new token could not be printed ({error}): {fate}")
}
