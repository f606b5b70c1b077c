//! The replicas' rows, as in `src/store/postgres/feed.rs`.

use sophic_auth::model::{ReplicaId, Revision};
use sophic_auth::store::{IncarnationId, Published, RULES, Replica, Replicas, Synced};

use super::super::plan::{LEASE, Omission};
use super::Store;

/// The row of a replica.
#[derive(Clone)]
pub(super) struct Row {
    replica: Replica,
    ended: bool,
    inserted: u64,
}

impl Store {
    /// Commits durably.
    pub(super) fn flush(&mut self) {
        self.on_disk = self.rows.clone();
    }

    pub(in crate::simulation) fn insert_row(&mut self, id: ReplicaId, now: u64, wall: i64) {
        let replica = Replica { id, applied: Revision(0), seq: 0, lease: LEASE, rules: RULES };
        self.rows.insert(id, Row { replica, ended: false, inserted: now });
        self.ids.push(id);
        self.expiries.insert(id, wall);
        self.flush();
    }

    /// The row of this replica, unless it has ended.
    fn live(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.rows.get_mut(&id).filter(|row| !row.ended).map(|row| &mut row.replica)
    }

    pub(in crate::simulation) fn state(&self) -> (IncarnationId, Revision) {
        (self.incarnation_id(), self.revision())
    }

    pub(in crate::simulation) fn sync(
        &mut self,
        id: ReplicaId,
        published: &Published,
        wall: i64,
    ) -> Option<Synced> {
        let (incarnation, revision) = self.state();
        let omission = self.omission;
        let row = self.live(id)?;
        let same = published.incarnation.as_ref() == Some(&incarnation)
            || matches!(
                omission,
                Some(Omission::AcknowledgedInAnotherIncarnation | Omission::IncarnationIgnored)
            );
        row.applied = if same { published.applied } else { Revision(0) };
        row.seq = match omission {
            Some(Omission::StoreCounts) => row.seq + 1,
            _ => published.seq,
        };
        self.expiries.insert(id, wall);
        if published.durable {
            self.flush();
        }
        let after = published.applied.0 + 1..;
        let changes = self.changes.range(after).map(|(_, change)| change.clone()).collect();
        Some(Synced { incarnation, revision, changes })
    }

    /// For the heartbeat of an omission.
    pub(in crate::simulation) fn heartbeat(&mut self, id: ReplicaId, seq: i64) -> bool {
        self.live(id).map(|row| row.seq = seq).is_some()
    }

    /// Marks a row as ended.
    pub(in crate::simulation) fn end_row(&mut self, id: ReplicaId) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.ended = true;
        }
        self.flush();
    }

    pub(in crate::simulation) fn mark_ended(&mut self, id: ReplicaId, seq: i64) -> bool {
        let stands = self.live(id).is_some_and(|row| row.seq == seq);
        if stands {
            self.end_row(id);
        }
        stands
    }

    /// Deletes a row by hand that was inserted before `before`. Returns whether there was one.
    pub(in crate::simulation) fn vanish(&mut self, before: u64, at: usize) -> bool {
        let old = self.rows.iter().filter(|(_, row)| !row.ended && row.inserted < before);
        let old: Vec<_> = old.map(|(id, _)| *id).collect();
        let Some(id) = old.get(at % old.len().max(1)) else { return false };
        self.rows.remove(id);
        self.flush();
        true
    }

    pub(in crate::simulation) fn all_ids(&self) -> impl Iterator<Item = ReplicaId> {
        self.ids.iter().copied()
    }

    /// The rows, and those that have expired by the clock of the database.
    pub(in crate::simulation) fn replicas(&self, wall: i64) -> (Replicas, Vec<(ReplicaId, i64)>) {
        let (incarnation, revision) = self.state();
        let expired = |row: &&Replica| {
            let lease = i64::try_from(LEASE.as_nanos()).expect("a second");
            self.expiries.get(&row.id).is_some_and(|since| since + lease < wall)
        };
        let live = self.rows.values().filter(|row| !row.ended).map(|row| &row.replica);
        let replicas: Vec<_> = live.cloned().collect();
        let ended = self.rows.values().filter(|row| row.ended).map(|row| row.replica.id).collect();
        let expired_rows = replicas.iter().filter(expired).map(|row| (row.id, row.seq)).collect();
        (Replicas { incarnation, revision, replicas, ended }, expired_rows)
    }
}
