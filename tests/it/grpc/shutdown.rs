//! Shutdown under load: answered changes are kept, other calls fail with an error, and the server stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sophic_auth::grpc::pb::{CreateKeyRequest, Scope};
use sophic_auth::model::CredentialId;
use sophic_auth::store;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::{eventually, within};

on_every_store! {
    a_change_that_was_answered_survives_a_shutdown,
    silent_and_idle_connections_do_not_delay_a_shutdown,
    a_second_server_takes_over_where_the_first_stopped,
}

async fn a_change_that_was_answered_survives_a_shutdown(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let stopped = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (root, stopped) = (root.clone(), Arc::clone(&stopped));
            tokio::task::spawn(async move {
                let mut made = Vec::new();
                loop {
                    let request = CreateKeyRequest {
                        workspace: "acme".to_owned(),
                        name: "ci".to_owned(),
                        scopes: vec![Scope::Read.into()],
                        ..Default::default()
                    };
                    match root.auth().create_key(request).await {
                        Ok(response) => {
                            let credential = response.into_inner().credential;
                            made.push(credential.expect("it is given").id);
                        }
                        Err(status) => {
                            assert!(
                                // The client reports INTERNAL for a connection that the server closed cleanly.
                                matches!(
                                    status.code(),
                                    Code::Unavailable | Code::Unknown | Code::Cancelled
                                ) || status.message() == "h2 protocol error: http2 error",
                                "{status:?}"
                            );
                            if stopped.load(Ordering::SeqCst) {
                                return made;
                            }
                        }
                    }
                }
            })
        })
        .collect();
    // Wait for load first: every client has had an answer by then.
    eventually("every client has been answered", async || {
        h.running.service.revision().await.expect("a revision").0 >= 40
    })
    .await;
    let Harness { database, running, .. } = h;
    within("it stops", running.stop()).await;
    stopped.store(true, Ordering::SeqCst);
    let store = store::open_existing(&database.location()).await.expect("it opens");
    let mut count = 0;
    for client in clients {
        for id in within("a client ends", client).await.expect("no panic") {
            let id = CredentialId::parse(&id).expect("an id");
            assert!(store.find_credential(id).await.expect("a read").is_some(), "{id}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
    store.close().await;
}

async fn silent_and_idle_connections_do_not_delay_a_shutdown(h: Harness) {
    // A silent connection, an idle one, and an endless health watch.
    let silent = TcpStream::connect(h.running.grpc).await.expect("it accepts");
    let silent_http = TcpStream::connect(h.running.http).await.expect("it accepts");
    h.gateway().await.introspect("x", "", &[]).await;
    let channel = h.channel();
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let watch = health.watch(request).await.expect("a stream");
    let Harness { running, .. } = h;
    within("it stops", running.stop()).await;
    drop((silent, silent_http, watch));
}

async fn a_second_server_takes_over_where_the_first_stopped(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let second = h.another(|config| config.shutdown_grace = Duration::from_secs(5)).await;
    let elsewhere = root.via(&second);
    // Each server sees the changes of the other.
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    assert!(elsewhere.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    let Harness { running, .. } = h;
    within("it stops", running.stop()).await;
    assert!(elsewhere.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    elsewhere.revoke_token(&key).await;
    assert!(!elsewhere.introspect(&key, "acme", &[Scope::Read]).await.active);
    second.running.stop().await;
}
