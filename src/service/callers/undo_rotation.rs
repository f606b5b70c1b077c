//! Undoing the rotation of a caller whose new token could not be shown.

use std::sync::Arc;

use super::{attempt, change_entry, write_caller};
use crate::model::{AuditAction, Caller, CallerIdentity};
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::{Context, Result, RotatedCaller, Service};
use crate::store::Lock;
use crate::token::{Token, TokenKind};

/// Outcome of undoing a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoRotationOutcome {
    /// The old token is again the token of the caller and does not expire.
    OldTokenValid,
    /// No usable token is left, because the old token had ended.
    OldTokenExpired,
    /// Another rotation or a revocation came first, and its result stays.
    Superseded,
}

impl Service {
    /// Ends the new token of a rotation, which was never shown. The old token becomes the token of the caller again if
    /// the rotation had an overlap and the old token has not expired. A still older token that the rotation ended stays
    /// ended.
    pub async fn undo_rotation(
        self: &Arc<Self>,
        context: Context,
        rotated: &RotatedCaller,
        reason: &'static str,
    ) -> Result<UndoRotationOutcome> {
        let this = Arc::clone(self);
        let (id, old_hint) = (rotated.caller.id, rotated.old_hint.clone());
        let lost = rotated.token.digest();
        let attempt = attempt(&context, AuditAction::CallerUndoRotation, &id.to_string());
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("undo_rotation").await?;
            let before = tx.find_caller(id, Lock::Update).await?;
            let Some(before) = before.filter(|before| before.revoke_time.is_none()) else {
                drop(tx);
                return Ok(this.nothing_to_commit().await?.done(UndoRotationOutcome::Superseded));
            };
            let mut after = Caller { previous: None, ..before.clone() };
            let undone = if before.identity == CallerIdentity::Token(lost) {
                let old = before.previous.filter(|previous| previous.expire_time > now);
                if let Some((old, hint)) = old.zip(old_hint) {
                    after.identity = CallerIdentity::Token(old.digest);
                    after.hint = hint;
                    // A retry of the rotation would end the old token without an overlap.
                    after.rotation = None;
                    UndoRotationOutcome::OldTokenValid
                } else {
                    // The caller gets a token that is never shown.
                    let never_shown = Token::mint(TokenKind::Service, &*this.random)?;
                    after.identity = CallerIdentity::Token(never_shown.digest());
                    after.hint = String::new();
                    UndoRotationOutcome::OldTokenExpired
                }
            } else if before.previous.is_some_and(|previous| previous.digest == lost) {
                // A later rotation keeps the lost token valid for its overlap. It ends here.
                UndoRotationOutcome::Superseded
            } else {
                drop(tx);
                return Ok(this.nothing_to_commit().await?.done(UndoRotationOutcome::Superseded));
            };
            write_caller(&mut *tx, &mut after).await?;
            let changed: Entry<'_> = change_entry(AuditAction::CallerUndoRotation, &before, &after);
            let event = this.audit_event(&context, Entry { reason: Some(reason), ..changed })?;
            Ok(this.commit(tx, &event).await?.done(undone))
        })
        .await
    }
}
