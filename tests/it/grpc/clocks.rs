//! A server whose clock is wrong deletes nothing and frees nothing. If the store has a clock, the server uses that.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sophic_auth::model::{Clock, DisplayName, Slug, SystemClock, Timestamp, WorkspaceId};
use sophic_auth::server::uncached_service;
use sophic_auth::service::{
    Context, ListAuditEvents, Options, PageRequest, PutWorkspace, Reason, Service, StoreClock,
};

use crate::stores::{TestStore, on_every_store};

on_every_store! {
    nothing_is_deleted_by_a_clock_that_the_store_contradicts,
    a_clock_that_is_ahead_frees_no_slug,
    clocks_that_agree_purge,
    a_clock_that_jumps_between_two_syncs_deletes_nothing,
    times_that_a_wrong_clock_wrote_do_not_confirm_it,
}

const DAY: Duration = Duration::from_hours(24);

/// A machine whose clock is ahead or behind by a number of days.
struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let days = DAY * u32::try_from(self.0.abs()).expect("some days");
        let now = SystemClock.now();
        if self.0 < 0 { now.saturating_sub(days) } else { now.saturating_add(days) }
    }
}

/// A machine whose clock is set ahead by a number of days while it runs.
#[derive(Default)]
struct Jumping(AtomicI64);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Wrong(self.0.load(Ordering::Relaxed)).now()
    }
}

/// A server on this store, on a machine whose clock is wrong by a number of days.
async fn on(store: &TestStore, days: i64) -> Arc<Service> {
    let clock = Arc::new(StoreClock::new(Arc::new(Wrong(days))));
    let service = uncached_service(store.shared(), clock, Options::default());
    // As on startup.
    service.sync_clock().await.expect("the store answers");
    service
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

async fn nothing_is_deleted_by_a_clock_that_the_store_contradicts(store: TestStore) {
    assert_eq!(put(&on(&store, 0).await, "w1", "acme").await, None);
    for days in [400, -400] {
        let service = on(&store, days).await;
        let operator = || Context::operator("server");
        let cutoff = service.ago(DAY);
        let refused = [
            service.purge_dead(operator(), cutoff, |_| ()).await.map_err(|error| error.reason),
            service.purge_changes(cutoff).await.map_err(|error| error.reason),
            service.purge_audit(operator(), cutoff, |_| ()).await.map_err(|error| error.reason),
        ];
        assert_eq!(refused, [Err(Reason::ClocksDisagree); 3], "{days}");
        // The whole log is still there: the retention goes by the earlier of the two clocks.
        let page = PageRequest { size: 10, token: String::new() };
        let request = ListAuditEvents { page, ..ListAuditEvents::default() };
        let events = service.list_audit_events(&operator(), &request).await;
        let events = events.expect("events").events;
        assert!(events.iter().any(|event| event.action == "workspace.put"));
        // An event of the refusal would confirm the wrong clock at the next start.
        let alike = events.iter().all(|event| event.refusal.as_deref() != Some("CLOCKS_DISAGREE"));
        assert!(alike, "{days}: {events:?}");
        assert!(cutoff <= SystemClock.now().saturating_sub(DAY), "{days}: {cutoff}");
        if store.database.is_postgres() {
            let off = SystemClock.now().saturating_since(service.now());
            let off = off.max(service.now().saturating_since(SystemClock.now()));
            assert!(off < Duration::from_mins(1), "the store's time is the server's: {off:?}");
        }
    }
}

async fn a_clock_that_is_ahead_frees_no_slug(store: TestStore) {
    let right = on(&store, 0).await;
    assert_eq!(put(&right, "w1", "old").await, None);
    assert_eq!(put(&right, "w1", "new").await, None);
    let ahead = on(&store, 400).await;
    assert_eq!(put(&ahead, "w2", "old").await, Some(Reason::SlugTaken));
    assert_eq!(put(&right, "w2", "old").await, Some(Reason::SlugTaken));
    // The times that this clock writes hide how long the store was idle.
    assert_eq!(put(&ahead, "w3", "other").await, None);
    for days in [40, 400] {
        assert_eq!(put(&on(&store, days).await, "w2", "old").await, Some(Reason::SlugTaken));
    }
}

async fn clocks_that_agree_purge(store: TestStore) {
    let service = on(&store, 0).await;
    assert_eq!(put(&service, "w1", "acme").await, None);
    let purged = service.purge_dead(Context::operator("server"), service.ago(DAY), |_| ()).await;
    assert_eq!(purged.expect("it may"), 0);
    service.purge_changes(service.ago(DAY)).await.expect("it may");
}

async fn a_clock_that_jumps_between_two_syncs_deletes_nothing(store: TestStore) {
    let machine = Arc::new(Jumping::default());
    let clock = Arc::new(StoreClock::new(Arc::clone(&machine) as _));
    let service = uncached_service(store.shared(), clock, Options::default());
    service.sync_clock().await.expect("the store answers");
    assert!(!service.clock_was_set());
    for days in [400, -400] {
        machine.0.store(days, Ordering::Relaxed);
        assert!(service.clock_was_set(), "and so it is asked at once");
        if store.database.is_postgres() {
            // The expiry goes by this. A file has only the machine's time.
            let now = service.now();
            let off = SystemClock.now().saturating_since(now);
            let off = off.max(now.saturating_since(SystemClock.now()));
            assert!(off < Duration::from_mins(1), "{days}: {off:?}");
        }
        let refused = service.purge_changes(service.ago(DAY)).await;
        assert_eq!(refused.map_err(|error| error.reason), Err(Reason::ClocksDisagree));
        assert!(!service.clock_was_set(), "it was asked");
    }
}

async fn times_that_a_wrong_clock_wrote_do_not_confirm_it(store: TestStore) {
    assert_eq!(put(&on(&store, 0).await, "w1", "acme").await, None);
    assert_eq!(put(&on(&store, 400).await, "w2", "other").await, None);
    let purge = async |days| {
        // After a restart.
        let service = on(&store, days).await;
        let cutoff = service.ago(DAY);
        let purged = service.purge_dead(Context::operator("server"), cutoff, |_| ()).await;
        purged.map_err(|error| error.reason)
    };
    for days in [400, 406, 0] {
        let refused = days != 0 || !store.database.is_postgres();
        assert_eq!(purge(days).await.is_err(), refused, "{days}");
    }
    // A file that was idle for long is purged again after a week of use.
    assert_eq!(purge(408).await.is_err(), store.database.is_postgres());
}
