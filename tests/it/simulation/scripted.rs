//! Scripted scenarios that random runs hardly ever find, because three or four events must meet within milliseconds.
//! Each runs with the safeguard and without. The store is that of the simulation; the code of the replica and of the
//! waiting process is real.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::cache::{
    BarrierWait, ChangeApplier, ChangeBuffer, Lease, Mirror, NextStep, StallDetector,
};
use sophic_auth::model::ReplicaId;

use super::plan::{LEASE, Omission, Plan};
use super::rng::Rng;
use super::store::{Mutation, Store};

/// A replica and a store.
struct Scenario {
    store: Store,
    omission: Option<Omission>,
    applier: ChangeApplier,
    lease: Arc<Lease>,
    mirror: Arc<Mirror>,
    id: ReplicaId,
}

impl Scenario {
    /// Creates a replica that registers at time zero.
    fn new(omission: Option<Omission>) -> Self {
        let plan = Plan { promotions: true, ..Plan::draw(&mut Rng::new(0), omission) };
        let (mirror, lease) = (Arc::new(Mirror::new(1_000)), Arc::new(Lease::new(LEASE)));
        let parts = (Arc::clone(&mirror), Arc::clone(&lease), Arc::new(ChangeBuffer::default()));
        let mut store = Store::new(&plan);
        let mut applier = ChangeApplier::new(parts.0, parts.1, parts.2, || {});
        let id = ReplicaId(uuid::Uuid::from_u128(1));
        store.insert_row(id, 0, 0);
        let (incarnation, revision) = store.state();
        applier.on_registered(incarnation, revision);
        Self { store, omission, applier, lease, mirror, id }
    }

    fn sync(&mut self, sent: Duration) -> NextStep {
        let mut published = self.applier.begin_sync(sent);
        published.durable &= self.omission != Some(Omission::NondurableSyncs);
        let mut synced = self.store.sync(self.id, &published, 0);
        if let (Some(Omission::IncarnationIgnored), Some(synced)) = (self.omission, &mut synced) {
            synced.incarnation = published.incarnation.clone().expect("it is registered");
        }
        self.applier.on_synced(sent, &published, synced)
    }

    /// Whether the replica answers from memory at this time.
    fn answers(&self, now: Duration) -> bool {
        self.lease.held_since(self.lease.snapshot(), now)
    }

    /// Whether a process that observes the rows at this time gives the replica up.
    fn is_given_up(&self, detector: &mut StallDetector, now: Duration) -> bool {
        !detector.observe(&mut self.store.replicas(0).0, now).is_empty()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A crash loses the replica's last sync, so its row looks unchanged. The lease counts from the lost sync.
fn given_up_within_the_lease_after_a_lost_sync(omission: Option<Omission>) -> bool {
    let mut scenario = Scenario::new(omission);
    scenario.sync(millis(0));
    scenario.store.write_behind();
    let mut detector = StallDetector::default();
    assert!(!scenario.is_given_up(&mut detector, millis(1)));
    scenario.sync(millis(160));
    scenario.store.crash();
    let (now, end) = (millis(1_080), millis(1_130));
    assert!(!scenario.is_given_up(&mut detector, millis(950)));
    scenario.is_given_up(&mut detector, now) && scenario.answers(end)
}

/// A crash loses a sync that another process saw, and the next sync gets the same number.
fn given_up_within_the_lease_after_a_repeated_sync_number(omission: Option<Omission>) -> bool {
    let mut scenario = Scenario::new(omission);
    scenario.sync(millis(0));
    scenario.sync(millis(20));
    let mut detector = StallDetector::default();
    assert!(!scenario.is_given_up(&mut detector, millis(21)));
    scenario.store.crash();
    scenario.sync(millis(1_000));
    assert!(!scenario.is_given_up(&mut detector, millis(1_000)));
    let now = millis(1_100);
    scenario.is_given_up(&mut detector, now) && scenario.answers(now)
}

/// A promotion loses a change that a replica has applied, and its revision now belongs to another change.
fn released_by_an_acknowledgement_of_another_incarnation(omission: Option<Omission>) -> bool {
    let mut scenario = Scenario::new(omission);
    scenario.store.commit(Mutation::Create(1), 1, None);
    assert_eq!(scenario.sync(millis(0)), NextStep::SyncAgain);
    scenario.store.promote(1);
    let (revision, ..) = scenario.store.commit(Mutation::Create(2), 2, None);
    assert_eq!(revision, scenario.mirror.applied());
    let published = scenario.applier.begin_sync(millis(10));
    // The reply is on its way, so the replica does not know yet.
    let synced = scenario.store.sync(scenario.id, &published, 0);
    let released =
        BarrierWait::new(revision).check(&scenario.store.replicas(0).0, |_| None).is_some();
    let wrong = released && scenario.answers(millis(11));
    assert_eq!(scenario.applier.on_synced(millis(10), &published, synced), NextStep::Register);
    wrong
}

/// A promotion loses a change that a replica has read, and its revision now belongs to another change.
fn keeps_answering_in_another_incarnation(omission: Option<Omission>) -> bool {
    let mut scenario = Scenario::new(omission);
    scenario.store.commit(Mutation::Create(1), 1, None);
    assert_eq!(scenario.sync(millis(0)), NextStep::SyncAgain);
    scenario.store.promote(1);
    scenario.store.commit(Mutation::Create(2), 2, None);
    scenario.sync(millis(10)) == NextStep::Wait && scenario.answers(millis(11))
}

#[test]
fn another_incarnation_of_the_store_is_noticed() {
    assert!(!keeps_answering_in_another_incarnation(None));
    assert!(
        keeps_answering_in_another_incarnation(Some(Omission::IncarnationIgnored)),
        "nothing was shown"
    );
}

#[test]
fn a_crash_that_loses_a_sync_shortens_no_wait() {
    let violates = given_up_within_the_lease_after_a_lost_sync;
    assert!(!violates(None));
    assert!(violates(Some(Omission::NondurableSyncs)), "nothing was shown");
}

#[test]
fn sync_numbers_do_not_repeat_after_a_crash() {
    let violates = given_up_within_the_lease_after_a_repeated_sync_number;
    assert!(!violates(None));
    assert!(violates(Some(Omission::StoreCounts)), "nothing was shown");
}

#[test]
fn an_acknowledgement_in_another_incarnation_releases_no_wait() {
    let violates = released_by_an_acknowledgement_of_another_incarnation;
    assert!(!violates(None));
    assert!(violates(Some(Omission::AcknowledgedInAnotherIncarnation)), "nothing was shown");
}
