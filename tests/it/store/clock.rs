//! The clock of a store.

use std::time::Duration;

use sophic_auth::model::{Clock as _, SystemClock};

use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_server_has_a_clock_and_a_file_has_none,
}

async fn a_server_has_a_clock_and_a_file_has_none(store: TestStore) {
    let before = store.time().await.expect("it answers");
    assert_eq!(before.newest_event, None);
    assert_eq!(before.now.is_some(), store.database.is_postgres());
    if let Some(now) = before.now {
        let off = SystemClock.now().saturating_since(now);
        assert!(off < Duration::from_mins(1), "it is this machine's: {off:?}");
    }
    let event = super::samples::event();
    store.begin("test").await.expect("a transaction").commit(&event).await.expect("a commit");
    let after = store.time().await.expect("it answers");
    assert_eq!(after.newest_event, Some(event.time));
}
