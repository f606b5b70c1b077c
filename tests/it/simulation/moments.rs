//! Moments that chance hardly ever finds, since three or four things must meet within milliseconds: stepped by hand, with
//! the safeguard and without. The store is the simulation's, the steps of the replica and of whoever waits the real ones.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::cache::{Hub, Lease, Mirror, Standstill, Step, Tail, Wait};
use sophic_auth::model::ReplicaId;

use super::plan::{Broken, LEASE, Plan};
use super::rng::Rng;
use super::store::{Store, Wanted};

/// A replica and a store.
struct Moment {
    store: Store,
    broken: Option<Broken>,
    tail: Tail,
    lease: Arc<Lease>,
    mirror: Arc<Mirror>,
    id: ReplicaId,
}

impl Moment {
    /// Registered at time zero.
    fn new(broken: Option<Broken>) -> Self {
        let plan = Plan { promotions: true, ..Plan::draw(&mut Rng::new(0), broken) };
        let (mirror, lease) = (Arc::new(Mirror::new(1_000)), Arc::new(Lease::new(LEASE)));
        let parts = (Arc::clone(&mirror), Arc::clone(&lease), Arc::new(Hub::default()));
        let mut store = Store::new(&plan);
        let mut tail = Tail::new(parts.0, parts.1, parts.2, || {});
        let id = ReplicaId(uuid::Uuid::from_u128(1));
        store.insert_row(id, 0, 0);
        let (incarnation, revision) = store.state();
        tail.registered(incarnation, revision);
        Self { store, broken, tail, lease, mirror, id }
    }

    fn sync(&mut self, sent: Duration) -> Step {
        let mut published = self.tail.publish(sent);
        published.durable &= self.broken != Some(Broken::SyncsForgotten);
        let mut synced = self.store.sync(self.id, &published, 0);
        if let (Some(Broken::EpochIgnored), Some(synced)) = (self.broken, &mut synced) {
            synced.incarnation = published.incarnation.clone().expect("it is registered");
        }
        self.tail.synced(sent, &published, synced)
    }

    /// Whether the replica answers from memory at this time.
    fn answers(&self, now: Duration) -> bool {
        self.lease.has_held(self.lease.term(), now)
    }

    /// Whether a process that looks at this time gives the replica up.
    fn is_given_up(&self, standstill: &mut Standstill, now: Duration) -> bool {
        !standstill.look(&mut self.store.replicas(0).0, now).is_empty()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A crash loses the replica's last sync, so that its row looks as before; the lease counts from that sync.
fn given_up_within_the_lease_after_a_forgotten_sync(broken: Option<Broken>) -> bool {
    let mut moment = Moment::new(broken);
    moment.sync(millis(0));
    moment.store.write_behind();
    let mut standstill = Standstill::default();
    assert!(!moment.is_given_up(&mut standstill, millis(1)));
    moment.sync(millis(160));
    moment.store.crash();
    let (now, end) = (millis(1_080), millis(1_130));
    assert!(!moment.is_given_up(&mut standstill, millis(950)));
    moment.is_given_up(&mut standstill, now) && moment.answers(end)
}

/// A crash loses a sync that somebody saw, and the next one gets the same number.
fn given_up_within_the_lease_after_a_number_that_came_again(broken: Option<Broken>) -> bool {
    let mut moment = Moment::new(broken);
    moment.sync(millis(0));
    moment.sync(millis(20));
    let mut standstill = Standstill::default();
    assert!(!moment.is_given_up(&mut standstill, millis(21)));
    moment.store.crash();
    moment.sync(millis(1_000));
    assert!(!moment.is_given_up(&mut standstill, millis(1_000)));
    let now = millis(1_100);
    moment.is_given_up(&mut standstill, now) && moment.answers(now)
}

/// What a replica applied was lost in a promotion, and its number is another change's now.
fn released_by_an_acknowledgement_of_another_life(broken: Option<Broken>) -> bool {
    let mut moment = Moment::new(broken);
    moment.store.commit(Wanted::Create(1), 1, None);
    assert_eq!(moment.sync(millis(0)), Step::SyncAgain);
    moment.store.promote(1);
    let (revision, ..) = moment.store.commit(Wanted::Create(2), 2, None);
    assert_eq!(revision, moment.mirror.applied());
    let published = moment.tail.publish(millis(10));
    // Its reply is on the way: the replica does not know yet.
    let synced = moment.store.sync(moment.id, &published, 0);
    let released = Wait::new(revision).judge(&moment.store.replicas(0).0, |_| None).is_some();
    let wrong = released && moment.answers(millis(11));
    assert_eq!(moment.tail.synced(millis(10), &published, synced), Step::Register);
    wrong
}

/// A replica has read what a restore took back, and its number is another change's now.
fn lives_on_in_another_life(broken: Option<Broken>) -> bool {
    let mut moment = Moment::new(broken);
    moment.store.commit(Wanted::Create(1), 1, None);
    assert_eq!(moment.sync(millis(0)), Step::SyncAgain);
    moment.store.promote(1);
    moment.store.commit(Wanted::Create(2), 2, None);
    moment.sync(millis(10)) == Step::Wait && moment.answers(millis(11))
}

#[test]
fn another_life_of_the_store_is_noticed() {
    assert!(!lives_on_in_another_life(None));
    assert!(lives_on_in_another_life(Some(Broken::EpochIgnored)), "nothing was shown");
}

#[test]
fn a_crash_that_forgets_a_sync_shortens_no_wait() {
    let moment = given_up_within_the_lease_after_a_forgotten_sync;
    assert!(!moment(None));
    assert!(moment(Some(Broken::SyncsForgotten)), "nothing was shown");
}

#[test]
fn no_number_of_a_sync_comes_again_after_a_crash() {
    let moment = given_up_within_the_lease_after_a_number_that_came_again;
    assert!(!moment(None));
    assert!(moment(Some(Broken::StoreCounts)), "nothing was shown");
}

#[test]
fn an_acknowledgement_in_another_life_releases_nobody() {
    let moment = released_by_an_acknowledgement_of_another_life;
    assert!(!moment(None));
    assert!(moment(Some(Broken::AcknowledgedInAnotherLife)), "nothing was shown");
}
