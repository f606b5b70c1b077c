//! Pages list a thousand credentials exactly once each, while others are created.

use std::collections::HashSet;

use sophic_auth::grpc::pb::{ListCredentialsRequest, Scope};

use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    a_thousand_credentials_are_listed_once_each_while_others_are_made,
}

async fn a_thousand_credentials_are_listed_once_each_while_others_are_made(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let made = make(&root, 8, 125).await;
    let others = tokio::task::spawn({
        let root = root.clone();
        async move { make(&root, 2, 20).await }
    });
    let mut seen = Vec::new();
    let mut page_token = String::new();
    within("the last page of credentials", async {
        loop {
            let request =
                ListCredentialsRequest { page_size: 37, page_token, ..Default::default() };
            let page = root.auth().list_credentials(request).await.expect("a page").into_inner();
            seen.extend(page.credentials.into_iter().map(|credential| credential.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    })
    .await;
    let others = others.await.expect("they are made");
    let mut sorted = seen.clone();
    sorted.sort();
    assert_eq!(seen, sorted, "oldest first");
    let once: HashSet<_> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "none twice");
    assert!(made.iter().all(|id| once.contains(id)), "none is missing");
    assert!(seen.iter().all(|id| made.contains(id) || others.contains(id)));
}

/// Creates this many keys, in parallel.
async fn make(root: &crate::harness::Actor, sides: usize, each: usize) -> Vec<String> {
    let sides: Vec<_> = (0..sides)
        .map(|_| {
            let root = root.clone();
            tokio::task::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..each {
                    let made = root.create_key("acme", &[Scope::Read]).await;
                    ids.push(made.credential.expect("it is given").id);
                }
                ids
            })
        })
        .collect();
    let mut ids = Vec::new();
    for side in sides {
        ids.extend(side.await.expect("no panic"));
    }
    ids
}
