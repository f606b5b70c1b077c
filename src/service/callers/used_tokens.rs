//! New service tokens that were used at this server. A retry of a rotation does not replace them.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::model::limits::REPLAY_AGE_MAX;
use crate::model::{Caller, CallerId, CallerIdentity, Digest, Timestamp};

/// For each caller that was rotated of late, the digest of its new token, once that was used here, and when that was
/// noted. Kept in memory only.
#[derive(Debug, Default)]
pub(in crate::service) struct UsedTokens(RwLock<HashMap<CallerId, (Digest, Timestamp)>>);

impl UsedTokens {
    /// Notes that the caller was authenticated by its current or previous token.
    pub(super) fn note(&self, caller: &Caller, digest: &Digest, now: Timestamp) {
        let Some(rotation) = caller.rotation else { return };
        let is_current =
            matches!(&caller.identity, CallerIdentity::Token(current) if current.equals(digest));
        let is_previous = caller.previous.is_some_and(|previous| previous.digest.equals(digest));
        // A retry later than that replaces nothing. Twice, because clocks of servers may differ.
        let is_recent = |time| now.saturating_since(time) < REPLAY_AGE_MAX * 2;
        let replaceable = is_current && !is_previous && rotation.time().is_some_and(is_recent);
        if replaceable && !self.is_noted(caller.id, digest) {
            let mut used = self.0.write();
            used.retain(|_, (_, time)| is_recent(*time));
            used.insert(caller.id, (*digest, now));
        }
    }

    /// Whether a use of this token of the caller is noted.
    pub(super) fn is_noted(&self, caller: CallerId, digest: &Digest) -> bool {
        self.0.read().get(&caller).is_some_and(|(noted, _)| noted.equals(digest))
    }
}
