//! Taking a caller's rotation back, where nobody was shown the token that it made.

use std::sync::Arc;

use super::{attempt, changed};
use crate::model::{AuditAction, Caller, CallerIdentity};
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::{Context, Result, RotatedCaller, Service};
use crate::store::Lock;
use crate::token::{Token, TokenKind};

/// What holds once a rotation was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationUndone {
    /// The token from before is the caller's own again, for as long as before.
    OldGoesOn,
    /// The caller has no token that anybody knows: the one from before had ended.
    OldHasEnded,
    /// Another rotation, or a revocation, came meanwhile: the caller is as that left it.
    Overtaken,
}

impl Service {
    /// Ends the token that a rotation made and that nobody has seen. What the rotation has ended stays so: the token from before
    /// goes on where it was to live on and does, and the one before that does not come back.
    pub async fn undo_rotation(
        self: &Arc<Self>,
        context: Context,
        rotated: &RotatedCaller,
        reason: &'static str,
    ) -> Result<RotationUndone> {
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
                return Ok(this.nothing_to_commit().await?.done(RotationUndone::Overtaken));
            };
            let mut after = Caller { previous: None, ..before.clone() };
            let undone = if before.identity == CallerIdentity::Token(lost) {
                let old = before.previous.filter(|previous| previous.expire_time > now);
                if let Some((old, hint)) = old.zip(old_hint) {
                    after.identity = CallerIdentity::Token(old.digest);
                    after.hint = hint;
                    // A retry of the rotation would end the old token without an overlap.
                    after.rotation = None;
                    RotationUndone::OldGoesOn
                } else {
                    // Of a token that nobody is given.
                    let nobodys = Token::mint(TokenKind::Service, &*this.random)?;
                    after.identity = CallerIdentity::Token(nobodys.digest());
                    after.hint = String::new();
                    RotationUndone::OldHasEnded
                }
            } else if before.previous.is_some_and(|previous| previous.digest == lost) {
                // Rotated once more meanwhile, which lets the lost token live on for a while: it does not.
                RotationUndone::Overtaken
            } else {
                drop(tx);
                return Ok(this.nothing_to_commit().await?.done(RotationUndone::Overtaken));
            };
            tx.update_caller(&after).await?;
            let changed: Entry<'_> = changed(AuditAction::CallerUndoRotation, &before, &after);
            let event = this.audit_event(&context, Entry { reason: Some(reason), ..changed })?;
            Ok(this.commit(tx, &event).await?.done(undone))
        })
        .await
    }
}
