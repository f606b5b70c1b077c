//! Time and network address of each credential's last use, and the time of each personal access token's last use in each
//! workspace. They are collected in memory, so that introspection does not write, and flushed in batches about once a
//! minute and at shutdown. A process that is killed loses at most a minute.

use std::cmp::Reverse;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{CredentialFacts, CredentialId, LastUse, NotedUse, Workspace, WorkspaceUse};
use crate::service::Service;

/// Number of shards, each with its lock, so that concurrent introspections seldom contend. A power of two.
const SHARDS: usize = 64;
/// Maximum number of credentials in a shard. Uses of further credentials are dropped until the next flush, which
/// happens early when a shard is half full.
const SHARD_MAX: usize = 4_096;
/// Number of credentials that one transaction updates.
const CREDENTIALS_PER_TRANSACTION: usize = 500;

/// Credentials with uses that the store does not have yet.
#[derive(Default)]
struct Shard {
    /// Used since the last flush.
    noted: Vec<Arc<CredentialFacts>>,
    /// Taken by the flush that is running. Its writes may not have been committed.
    being_written: Vec<Arc<CredentialFacts>>,
}

/// Credentials used since the last flush. The latest use is stored in the facts of each credential, which introspection
/// has already loaded.
pub struct LastUses {
    shards: Box<[Mutex<Shard>]>,
    filling: Notify,
    /// One flush at a time.
    flush: tokio::sync::Mutex<()>,
}

impl Default for LastUses {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, filling: Notify::new(), flush: tokio::sync::Mutex::default() }
    }
}

impl LastUses {
    /// Notes a use. `workspace` is the one in which a personal access token was allowed. If the credential is already
    /// noted, this takes only the lock of its facts, and allocates nothing unless the workspace is not noted yet.
    pub fn note(
        &self,
        credential: &Arc<CredentialFacts>,
        last_use: LastUse,
        workspace: Option<&Arc<Workspace>>,
    ) {
        if !credential.note_use(last_use, workspace) {
            return;
        }
        let mut shard = self.shard(credential.id).lock();
        if shard.noted.len() >= SHARD_MAX {
            drop(shard);
            credential.take_use();
            return;
        }
        shard.noted.push(Arc::clone(credential));
        if shard.noted.len() == SHARD_MAX / 2 {
            self.filling.notify_one();
        }
    }

    /// Whether a use of this credential is noted, and its write is not known to be committed.
    pub fn is_noted(&self, id: CredentialId) -> bool {
        let shard = self.shard(id).lock();
        shard.noted.iter().chain(&shard.being_written).any(|credential| credential.id == id)
    }

    /// Waits until a shard is half full.
    pub async fn filling(&self) {
        self.filling.notified().await;
    }

    /// Notes uses again that were taken but could not be written.
    fn note_again(&self, credential: &Arc<CredentialFacts>, noted: &NotedUse) {
        self.note(credential, noted.last_use, None);
        for (workspace, time) in &noted.workspaces {
            self.note(credential, LastUse { time: *time, ip: None }, Some(workspace));
        }
    }

    /// Takes all noted uses, sorted by id. [`Self::is_noted`] sees them until [`Self::forget_taken`].
    fn take(&self) -> Vec<(Arc<CredentialFacts>, NotedUse)> {
        let taken = self.shards.iter().flat_map(|shard| {
            let mut shard = shard.lock();
            let Shard { noted, being_written } = &mut *shard;
            // Moved, not replaced, to keep the capacity for the next minute, which sees mostly the same credentials.
            being_written.append(noted);
            being_written.clone()
        });
        let uses = taken.filter_map(|credential| {
            let noted = credential.take_use()?;
            Some((credential, noted))
        });
        let mut uses: Vec<_> = uses.collect();
        // A credential that was reloaded from the store meanwhile is noted twice. The latest use comes first.
        uses.sort_unstable_by_key(|(credential, noted)| {
            (credential.id, Reverse(noted.last_use.time))
        });
        uses.dedup_by(|(credential, earlier), (kept, latest)| {
            let same = credential.id == kept.id;
            if same {
                latest.workspaces.extend(earlier.workspaces.drain(..));
            }
            same
        });
        uses
    }

    /// Ends what [`Self::take`] began, when its uses are committed or noted again.
    fn forget_taken(&self) {
        for shard in &self.shards {
            shard.lock().being_written.clear();
        }
    }

    /// Selects the shard by the last byte of the id, which is random.
    fn shard(&self, id: CredentialId) -> &Mutex<Shard> {
        &self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS]
    }
}

impl Service {
    /// Waits until enough uses are noted that they should be flushed early.
    pub async fn last_uses_fill_up(&self) {
        self.last_uses.filling().await;
    }

    /// Writes the noted uses and returns the number of changed rows. Uses that cannot be written are noted again.
    pub async fn flush_last_uses(&self) -> u64 {
        let _one_at_a_time = self.last_uses.flush.lock().await;
        let uses = self.last_uses.take();
        let mut written = 0;
        for (i, batch) in uses.chunks(CREDENTIALS_PER_TRANSACTION).enumerate() {
            let rows: Vec<_> = batch.iter().map(|(of, noted)| (of.id, noted.last_use)).collect();
            match self.store.write_last_uses(&rows, &workspace_uses(batch)).await {
                Ok(count) => written += count,
                Err(error) => {
                    tracing::warn!(%error, "last uses could not be written: the next flush tries again");
                    for (credential, noted) in &uses[i * CREDENTIALS_PER_TRANSACTION..] {
                        self.last_uses.note_again(credential, noted);
                    }
                    break;
                }
            }
        }
        self.last_uses.forget_taken();
        written
    }
}

/// Returns the uses in workspaces, ordered by workspace and credential, with one for each of these pairs: that of the
/// newest generation, and of those the latest.
fn workspace_uses(batch: &[(Arc<CredentialFacts>, NotedUse)]) -> Vec<WorkspaceUse> {
    let uses = batch.iter().flat_map(|(credential, noted)| {
        noted.workspaces.iter().map(|(workspace, time)| WorkspaceUse {
            credential_id: credential.id,
            workspace_id: workspace.id.clone(),
            generation: workspace.generation,
            time: *time,
        })
    });
    let mut uses: Vec<_> = uses.collect();
    uses.sort_unstable_by(|one, other| {
        let pair = (&one.workspace_id, one.credential_id);
        pair.cmp(&(&other.workspace_id, other.credential_id))
            .then_with(|| (other.generation, other.time).cmp(&(one.generation, one.time)))
    });
    uses.dedup_by(|later, kept| {
        later.workspace_id == kept.workspace_id && later.credential_id == kept.credential_id
    });
    uses
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use uuid::Uuid;

    use super::*;
    use crate::model::tests::samples;
    use crate::model::{
        Credential, Digest, DisplayName, Owner, PatPolicy, Slug, Timestamp, WorkspaceId,
    };

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
        let all = uses.take();
        uses.forget_taken();
        all.into_iter().map(|(credential, noted)| (credential.id, noted.last_use)).collect()
    }

    #[test]
    fn a_use_is_noted_until_its_write_is_committed() {
        let uses = LastUses::default();
        let (first, other) = (credential(1), credential(2));
        uses.note(&first, at(1), None);
        assert_eq!(uses.take().len(), 1);
        assert!(uses.is_noted(first.id) && !uses.is_noted(other.id));
        // Its write fails.
        uses.note(&first, at(1), None);
        uses.forget_taken();
        assert!(uses.is_noted(first.id));
        assert_eq!(uses.take().len(), 1);
        uses.forget_taken();
        assert!(!uses.is_noted(first.id));
    }

    #[test]
    fn the_latest_use_is_kept_in_any_order() {
        let uses = LastUses::default();
        let ip: IpAddr = "192.0.2.1".parse().expect("an address");
        let latest = LastUse { ip: Some(ip), ..at(2) };
        let (first, again) = (credential(1), credential(1));
        uses.note(&first, latest, None);
        uses.note(&first, at(1), None);
        // Reloaded from the store meanwhile.
        uses.note(&again, at(1), None);
        assert_eq!(taken(&uses), [(first.id, latest)]);
        assert_eq!(taken(&uses), []);
    }

    #[test]
    fn uses_beyond_the_capacity_are_dropped_and_noted_credentials_are_still_updated() {
        let uses = LastUses::default();
        // All in one shard: the last byte of their ids is the same.
        let count = u128::try_from(SHARD_MAX).expect("small") + 10;
        let credentials: Vec<_> = (0..count).map(|number| credential(number << 8)).collect();
        for credential in &credentials {
            uses.note(credential, at(1), None);
        }
        uses.note(&credentials[0], at(2), None);
        let noted = taken(&uses);
        assert_eq!(noted.len(), SHARD_MAX);
        assert_eq!(noted[0], (credentials[0].id, at(2)));
        // The credential that was dropped can be noted now.
        let last = credentials.last().expect("many");
        uses.note(last, at(3), None);
        assert_eq!(taken(&uses), [(last.id, at(3))]);
    }

    fn workspace(number: usize, generation: i64) -> Arc<Workspace> {
        let id = WorkspaceId::parse(&format!("w{number}")).expect("an id");
        let time = at(1).time;
        Arc::new(Workspace {
            id,
            slug: Slug::parse("acme").expect("a slug"),
            display_name: DisplayName::parse("Acme").expect("a name"),
            disabled: false,
            pat_policy: PatPolicy::default(),
            generation,
            generation_time: None,
            create_time: time,
            update_time: time,
            delete_time: None,
        })
    }

    /// Returns the number of the workspace, the generation and the time of each use.
    fn taken_in_workspaces(uses: &LastUses) -> Vec<(String, i64, i64)> {
        let all = uses.take();
        uses.forget_taken();
        let uses = workspace_uses(&all).into_iter();
        uses.map(|one| (one.workspace_id.to_string(), one.generation, one.time.unix_micros()))
            .collect()
    }

    #[test]
    fn the_latest_use_in_each_workspace_is_kept() {
        let uses = LastUses::default();
        let (token, reloaded) = (credential(1), credential(1));
        let note = |of, time, workspace: &Arc<Workspace>| uses.note(of, at(time), Some(workspace));
        note(&token, 3, &workspace(1, 0));
        note(&token, 2, &workspace(1, 0));
        note(&token, 4, &workspace(2, 0));
        note(&token, 1, &workspace(2, 1));
        note(&reloaded, 5, &workspace(1, 0));
        note(&reloaded, 5, &workspace(3, 0));
        uses.note(&token, at(9), None);
        let expected = [("w1", 0, 5), ("w2", 1, 1), ("w3", 0, 5)];
        let expected = expected.map(|(id, generation, time)| (id.to_owned(), generation, time));
        assert_eq!(taken_in_workspaces(&uses), expected);
        assert_eq!(taken_in_workspaces(&uses), []);
    }

    #[test]
    fn uses_in_workspaces_beyond_the_capacity_are_dropped_until_the_next_flush() {
        use crate::model::NOTED_WORKSPACES_MAX;
        let uses = LastUses::default();
        let token = credential(1);
        for number in 0..NOTED_WORKSPACES_MAX + 3 {
            uses.note(&token, at(1), Some(&workspace(number, 0)));
        }
        let all = uses.take();
        assert_eq!(workspace_uses(&all).len(), NOTED_WORKSPACES_MAX);
        // Their write fails.
        uses.note_again(&token, &all[0].1);
        uses.forget_taken();
        assert_eq!(taken_in_workspaces(&uses).len(), NOTED_WORKSPACES_MAX);
        uses.note(&token, at(2), Some(&workspace(NOTED_WORKSPACES_MAX, 0)));
        assert_eq!(taken_in_workspaces(&uses).len(), 1);
    }
}
