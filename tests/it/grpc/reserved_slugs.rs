//! The 30 days for which a released slug does not resolve, with a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sophic_auth::model::limits::SLUG_RESERVATION;
use sophic_auth::model::{Clock, DisplayName, Slug, Timestamp, WorkspaceId, WorkspaceName};
use sophic_auth::server::uncached_service;
use sophic_auth::service::{Context, Options, PutWorkspace, Reason, Service};

use crate::stores::{TestStore, on_every_store};

on_every_store! {
    the_slug_of_a_renamed_workspace_is_free_after_30_days,
    the_slug_of_a_deleted_workspace_is_free_after_30_days,
}

/// A clock that moves only when it is set.
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst)).expect("a time")
    }
}

impl ManualClock {
    fn turn(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

fn service(store: &TestStore) -> (Arc<Service>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock(AtomicI64::new(1_767_225_600_000_000)));
    let service = uncached_service(store.shared(), Arc::clone(&clock) as _, Options::default());
    (service, clock)
}

async fn put(service: &Arc<Service>, id: &str, slug: &str) -> Option<Reason> {
    let id = WorkspaceId::parse(id).expect("an id");
    let slug = Slug::parse(slug).expect("a slug");
    let name = DisplayName::parse("Acme").expect("a name");
    let (slug, display_name) = (Some(slug), Some(name));
    let put =
        PutWorkspace { id, slug, display_name, disabled: None, policy: None, pat_policy: None };
    let outcome = service.put_workspace(Context::operator("test"), put).await;
    outcome.err().map(|error| error.reason)
}

/// Advances to the last microsecond of the reservation, and then past it.
fn reservation() -> i64 {
    i64::try_from(SLUG_RESERVATION.as_micros()).expect("30 days")
}

async fn the_slug_of_a_renamed_workspace_is_free_after_30_days(store: TestStore) {
    let (service, clock) = service(&store);
    assert_eq!(put(&service, "w1", "old").await, None);
    assert_eq!(put(&service, "w1", "new").await, None);
    clock.turn(reservation() - 1);
    assert_eq!(put(&service, "w2", "old").await, Some(Reason::SlugTaken));
    assert_eq!(put(&service, "old", "third").await, Some(Reason::WorkspaceIdTaken));
    clock.turn(1);
    assert_eq!(put(&service, "w2", "old").await, None);
    // Its first workspace has lost it.
    assert_eq!(put(&service, "w1", "old").await, Some(Reason::SlugTaken));
}

async fn the_slug_of_a_deleted_workspace_is_free_after_30_days(store: TestStore) {
    let (service, clock) = service(&store);
    assert_eq!(put(&service, "w1", "old").await, None);
    let name = WorkspaceName::parse("old").expect("a name");
    service.delete_workspace(Context::operator("test"), name, false).await.expect("it is deleted");
    clock.turn(reservation() - 1);
    assert_eq!(put(&service, "w2", "old").await, Some(Reason::SlugTaken));
    clock.turn(1);
    assert_eq!(put(&service, "w2", "old").await, None);
    // The deleted workspace can return only under another slug.
    assert_eq!(put(&service, "w1", "old").await, Some(Reason::SlugTaken));
    assert_eq!(put(&service, "w1", "other").await, None);
}
