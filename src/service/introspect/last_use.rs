//! When and from where credentials were last used: collected in memory, so that introspection writes nothing, and written
//! in batches about once a minute and at the end. What a process that is killed had collected is lost: at most that minute.

use std::cmp::Reverse;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{CredentialFacts, CredentialId, LastUse};
use crate::service::Service;

/// Parts that are locked each by itself, so that introspections seldom meet. A power of two.
const SHARDS: usize = 64;
/// Credentials in one part; a use of one more is dropped until the next flush, which this brings forward.
const SHARD_MAX: usize = 4_096;
/// Credentials in one transaction.
const BATCH: usize = 500;

type Shard = Mutex<Vec<Arc<CredentialFacts>>>;

/// The credentials that were used since the last flush. Each knows its latest use itself, which introspection has at hand.
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
    /// Notes a use. Of a credential that is noted already it locks and allocates nothing here.
    pub fn note(&self, credential: &Arc<CredentialFacts>, last_use: LastUse) {
        if !credential.note_use(last_use) {
            return;
        }
        let mut shard = self.shard(credential.id).lock();
        if shard.len() >= SHARD_MAX {
            drop(shard);
            credential.take_use();
            return;
        }
        shard.push(Arc::clone(credential));
        if shard.len() == SHARD_MAX / 2 {
            self.filling.notify_one();
        }
    }

    /// Whether a use is noted here that is not written yet.
    pub fn is_noted(&self, id: CredentialId) -> bool {
        self.shard(id).lock().iter().any(|credential| credential.id == id)
    }

    /// Waits until there is so much that it had better be written.
    pub async fn filling(&self) {
        self.filling.notified().await;
    }

    /// All of it, by id; nothing is noted afterwards.
    fn take(&self) -> Vec<(Arc<CredentialFacts>, LastUse)> {
        // Drained, not replaced: the room stays for the next minute's, which are mostly the same.
        let drained =
            self.shards.iter().flat_map(|shard| shard.lock().drain(..).collect::<Vec<_>>());
        let uses = drained.filter_map(|credential| {
            let last_use = credential.take_use()?;
            Some((credential, last_use))
        });
        let mut uses: Vec<_> = uses.collect();
        // What was read of the store anew meanwhile was noted again: its latest use comes first.
        uses.sort_unstable_by_key(|(credential, last_use)| (credential.id, Reverse(last_use.time)));
        uses.dedup_by_key(|(credential, _)| credential.id);
        uses
    }

    /// The last bytes of an id are random.
    fn shard(&self, id: CredentialId) -> &Shard {
        &self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS]
    }
}

impl Service {
    /// Waits until so many last uses are unwritten that they are better written now.
    pub async fn last_uses_fill_up(&self) {
        self.last_uses.filling().await;
    }

    /// Writes the uses that were noted; how many rows it changed. What cannot be written is noted again.
    pub async fn flush_last_uses(&self) -> u64 {
        let uses = self.last_uses.take();
        let mut written = 0;
        for (i, batch) in uses.chunks(BATCH).enumerate() {
            let rows: Vec<_> = batch.iter().map(|(of, last_use)| (of.id, *last_use)).collect();
            match self.store.write_last_uses(&rows).await {
                Ok(count) => written += count,
                Err(error) => {
                    tracing::warn!(%error, "last uses could not be written: the next flush tries again");
                    for (credential, last_use) in &uses[i * BATCH..] {
                        self.last_uses.note(credential, *last_use);
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
    use std::net::IpAddr;

    use uuid::Uuid;

    use super::*;
    use crate::model::tests::samples;
    use crate::model::{Credential, Digest, Owner, Timestamp, WorkspaceId};

    fn credential(number: u128) -> Arc<CredentialFacts> {
        let id = CredentialId(Uuid::from_u128(number));
        let owner = Owner::Workspace(WorkspaceId::parse("acme").expect("an id"));
        let credential = Credential { id, family_id: id, ..samples::credential(owner) };
        Arc::new(CredentialFacts::new(Digest::from_hash([0; 32]), &credential))
    }

    fn at(micros: i64) -> LastUse {
        let time = Timestamp::from_unix_micros(micros).expect("a time");
        LastUse { time, ip: None }
    }

    fn taken(uses: &LastUses) -> Vec<(CredentialId, LastUse)> {
        uses.take().into_iter().map(|(credential, last_use)| (credential.id, last_use)).collect()
    }

    #[test]
    fn the_latest_use_is_kept_whatever_the_order() {
        let uses = LastUses::default();
        let ip: IpAddr = "192.0.2.1".parse().expect("an address");
        let latest = LastUse { ip: Some(ip), ..at(2) };
        let (first, again) = (credential(1), credential(1));
        uses.note(&first, latest);
        uses.note(&first, at(1));
        // Read anew of the store meanwhile.
        uses.note(&again, at(1));
        assert_eq!(taken(&uses), [(first.id, latest)]);
        assert_eq!(taken(&uses), []);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_what_is_noted_goes_on() {
        let uses = LastUses::default();
        // All of one part: their last byte is the same.
        let count = u128::try_from(SHARD_MAX).expect("small") + 10;
        let credentials: Vec<_> = (0..count).map(|number| credential(number << 8)).collect();
        for credential in &credentials {
            uses.note(credential, at(1));
        }
        uses.note(&credentials[0], at(2));
        let noted = taken(&uses);
        assert_eq!(noted.len(), SHARD_MAX);
        assert_eq!(noted[0], (credentials[0].id, at(2)));
        // What was dropped then is noted now.
        let last = credentials.last().expect("many");
        uses.note(last, at(3));
        assert_eq!(taken(&uses), [(last.id, at(3))]);
    }
}
