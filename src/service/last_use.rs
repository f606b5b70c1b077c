//! When and from where credentials were last used: collected in memory, so that introspection writes nothing, and written
//! in batches about once a minute and at the end. What a process that is killed had collected is lost: at most that minute.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Service;
use crate::model::{CredentialId, LastUse, Timestamp};

/// Parts that are locked each by itself, so that introspections seldom meet. A power of two.
const SHARDS: usize = 64;
/// Credentials in one part; a use of one more is dropped until the next flush, which this brings forward.
const SHARD_MAX: usize = 4_096;
/// Credentials in one transaction.
const BATCH: usize = 500;

type Shard = Mutex<HashMap<CredentialId, LastUse, RandomState>>;

/// Uses that are not written yet, the latest of each credential.
pub struct LastUses {
    shards: Box<[Shard]>,
    filling: Notify,
}

impl Default for LastUses {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self { shards, filling: Notify::new() }
    }
}

impl LastUses {
    /// Notes a use. Of a credential that is noted already it allocates nothing.
    pub fn note(&self, id: CredentialId, now: Timestamp, ip: Option<IpAddr>) {
        let last_use = LastUse { time: now, ip };
        let mut shard = self.shard(id).lock();
        if let Some(noted) = shard.get_mut(&id) {
            if noted.time < now {
                *noted = last_use;
            }
        } else if shard.len() < SHARD_MAX {
            shard.insert(id, last_use);
            if shard.len() == SHARD_MAX / 2 {
                self.filling.notify_one();
            }
        }
    }

    /// Whether a use is noted here that is not written yet.
    pub fn is_noted(&self, id: CredentialId) -> bool {
        self.shard(id).lock().contains_key(&id)
    }

    /// Waits until there is so much that it had better be written.
    pub async fn filling(&self) {
        self.filling.notified().await;
    }

    /// All of it, by id; nothing is noted afterwards.
    fn take(&self) -> Vec<(CredentialId, LastUse)> {
        // Drained, not replaced: the room stays for the next minute's, which are mostly the same.
        let mut taken: Vec<_> =
            self.shards.iter().flat_map(|shard| shard.lock().drain().collect::<Vec<_>>()).collect();
        taken.sort_unstable_by_key(|(id, _)| *id);
        taken
    }

    /// The last bytes of an id are random.
    fn shard(&self, id: CredentialId) -> &Shard {
        &self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS]
    }
}

impl Service {
    /// Writes the uses that were noted; how many rows it changed. What cannot be written is noted again.
    pub async fn flush_last_uses(&self) -> u64 {
        let uses = self.last_uses.take();
        let mut written = 0;
        for (i, batch) in uses.chunks(BATCH).enumerate() {
            match self.store.write_last_uses(batch).await {
                Ok(count) => written += count,
                Err(error) => {
                    tracing::warn!(%error, "last uses could not be written: the next flush tries again");
                    for (id, last_use) in &uses[i * BATCH..] {
                        self.last_uses.note(*id, last_use.time, last_use.ip);
                    }
                    break;
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> CredentialId {
        CredentialId(Uuid::from_u128(number))
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_unix_micros(micros).expect("a time")
    }

    #[test]
    fn the_latest_use_is_kept_whatever_the_order() {
        let uses = LastUses::default();
        let ip: IpAddr = "192.0.2.1".parse().expect("an address");
        uses.note(id(1), at(2), Some(ip));
        uses.note(id(1), at(1), None);
        assert_eq!(uses.take(), [(id(1), LastUse { time: at(2), ip: Some(ip) })]);
        assert_eq!(uses.take(), []);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_what_is_noted_goes_on() {
        let uses = LastUses::default();
        // All of one part: their last byte is the same.
        for number in 0..u128::try_from(SHARD_MAX).expect("small") + 10 {
            uses.note(id(number << 8), at(1), None);
        }
        uses.note(id(0), at(2), None);
        let taken = uses.take();
        assert_eq!(taken.len(), SHARD_MAX);
        assert_eq!(taken[0], (id(0), LastUse { time: at(2), ip: None }));
    }
}
