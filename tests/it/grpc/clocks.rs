//! A server whose clock is wrong: it deletes nothing, frees nothing, and where the store has a clock it goes by that.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::model::{Clock, DisplayName, Slug, SystemClock, Timestamp, WorkspaceId};
use sophic_auth::server::without_memory;
use sophic_auth::service::{
    Context, Options, PageRequest, PutWorkspace, Reason, Service, StoreClock,
};
use sophic_auth::store::AuditFilter;

use crate::stores::{TestStore, on_every_store};

on_every_store! {
    nothing_is_deleted_by_a_clock_that_the_store_contradicts,
    no_slug_is_freed_by_a_clock_that_runs_ahead,
    clocks_that_agree_purge,
}

const DAY: Duration = Duration::from_hours(24);

/// A machine whose clock is ahead, or behind, by so many days.
struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let days = DAY * u32::try_from(self.0.abs()).expect("some days");
        let now = SystemClock.now();
        if self.0 < 0 { now.saturating_sub(days) } else { now.saturating_add(days) }
    }
}

/// A server on this store, on a machine whose clock is wrong by so many days.
async fn on(store: &TestStore, days: i64) -> Arc<Service> {
    let clock = Arc::new(StoreClock::new(Arc::new(Wrong(days))));
    let service = without_memory(store.shared(), clock, Options::default());
    // As at the start.
    service.hear_the_time().await.expect("the store answers");
    service
}

async fn put(service: &Arc<Service>, id: &str, slug: &str) -> Option<Reason> {
    let id = WorkspaceId::parse(id).expect("an id");
    let slug = Slug::parse(slug).expect("a slug");
    let name = DisplayName::parse("Acme").expect("a name");
    let (slug, display_name) = (Some(slug), Some(name));
    let put = PutWorkspace { id, slug, display_name, disabled: None, policy: None };
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
        // The whole log is there, and was never in danger: what is long ago goes by the clock that is behind.
        let page = PageRequest { size: 10, token: String::new() };
        let events = service.list_audit_events(&AuditFilter::default(), &page).await;
        let events = events.expect("events").items;
        assert!(events.iter().any(|event| event.action == "workspace.put"));
        // An event of the refusal would speak for the wrong clock at the next start.
        let alike = events.iter().all(|event| event.refusal.as_deref() != Some("CLOCKS_DISAGREE"));
        assert!(alike, "{days}: {events:?}");
        assert!(cutoff <= SystemClock.now().saturating_sub(DAY), "{days}: {cutoff}");
        if store.database.is_postgres() {
            let off = SystemClock.now().saturating_since(service.clock.now());
            let off = off.max(service.clock.now().saturating_since(SystemClock.now()));
            assert!(off < Duration::from_mins(1), "the store's time is the server's: {off:?}");
        }
    }
}

async fn no_slug_is_freed_by_a_clock_that_runs_ahead(store: TestStore) {
    let right = on(&store, 0).await;
    assert_eq!(put(&right, "w1", "old").await, None);
    assert_eq!(put(&right, "w1", "new").await, None);
    let ahead = on(&store, 400).await;
    assert_eq!(put(&ahead, "w2", "old").await, Some(Reason::SlugTaken));
    assert_eq!(put(&right, "w2", "old").await, Some(Reason::SlugTaken));
}

async fn clocks_that_agree_purge(store: TestStore) {
    let service = on(&store, 0).await;
    assert_eq!(put(&service, "w1", "acme").await, None);
    let purged = service.purge_dead(Context::operator("server"), service.ago(DAY), |_| ()).await;
    assert_eq!(purged.expect("it may"), 0);
    service.purge_changes(service.ago(DAY)).await.expect("it may");
}
