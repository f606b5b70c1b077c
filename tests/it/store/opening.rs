//! Opening, pinging, closing.

use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_fresh_store_answers_and_is_at_revision_zero,
}

async fn a_fresh_store_answers_and_is_at_revision_zero(store: TestStore) {
    store.ping().await.expect("it answers");
    assert_eq!(store.revision().await.expect("a revision").0, 0);
}
