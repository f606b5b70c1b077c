//! Pages of all digests, for the filter that rejects unknown tokens during a flood.

use super::samples::{at, digest, key, workspace, write};
use crate::stores::{TestStore, on_every_store};
use crate::waits::within;

on_every_store! {
    every_digest_is_on_exactly_one_page_active_or_not,
}

async fn every_digest_is_on_exactly_one_page_active_or_not(store: TestStore) {
    assert_eq!(store.list_digests(None, 10).await.expect("a page"), []);
    let acme = workspace("acme");
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        for number in 1..=7 {
            tx.insert_credential(&key(&acme, number), &digest(number)).await.expect("it is made");
        }
        tx.revoke_credentials(&[key(&acme, 3).id], at(100)).await.expect("it is revoked");
    })
    .await;
    let mut expected: Vec<_> = (1..=7).map(digest).collect();
    expected.sort_by_key(|digest| *digest.as_bytes());
    let (mut pages, mut after) = (Vec::new(), None);
    within("the last page of digests", async {
        loop {
            let page = store.list_digests(after.as_ref(), 3).await.expect("a page");
            assert!(page.len() <= 3, "{page:?}");
            let Some(last) = page.last() else { break };
            after = Some(*last);
            pages.extend(page);
        }
    })
    .await;
    assert_eq!(pages, expected);
}
