//! A small connection pool with many users: each waits its turn, and there is no deadlock.

use sophic_auth::grpc::pb::{
    self, RevokeRequest, Role, RotateRequest, Scope, UpdateCredentialRequest, revoke_request,
};
use sophic_auth::store::PoolSizes;
use tokio::task::JoinSet;

use super::changing::{Stage, TABLE};
use crate::harness::{Actor, Harness};
use crate::stores::{Database, run};
use crate::waits::within;

/// Number of keys on which every call with an acting user is made.
const KEYS: usize = 30;

async fn with_one_of_each(h: Harness) {
    let pools = PoolSizes { read: 1, write: 1 };
    let h = h.another(|config| config.pools = pools).await;
    let root = h.root().await;
    let stage = Stage::set(&h, &root).await;
    root.put_workspace("busy").await;
    root.put_user("grace").await;
    root.put_membership("busy", "grace", Role::Admin).await;
    let mut calls = JoinSet::new();
    for (rpc, _) in TABLE {
        let (stage, root) = (stage.clone(), root.clone());
        calls.spawn(async move { stage.call(&root, rpc).await.map(drop).map_err(|e| (rpc, e)) });
    }
    for _ in 0..KEYS {
        let key = root.create_key("busy", &[Scope::Read]).await.credential.expect("it is given");
        let root = root.clone();
        calls.spawn(async move { on_behalf(&root, key).await.map_err(|e| ("on behalf", e)) });
    }
    within("every call is done", async {
        while let Some(call) = calls.join_next().await {
            call.expect("no panic").unwrap_or_else(|(rpc, status)| panic!("{rpc}: {status:?}"));
        }
    })
    .await;
}

/// Updates, rotates and revokes for an acting user: the calls that read the most before they write.
async fn on_behalf(root: &Actor, key: pb::Credential) -> Result<(), tonic::Status> {
    let (mut auth, acting_user) = (root.auth(), "grace".to_owned());
    let update = UpdateCredentialRequest {
        credential: Some(pb::Credential { id: key.id.clone(), name: "new".to_owned(), ..key }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["name".to_owned()] }),
        acting_user: acting_user.clone(),
    };
    let credential_id = auth.update_credential(update).await?.into_inner().credential;
    let credential_id = credential_id.expect("it is given").id;
    let rotate =
        RotateRequest { credential_id, acting_user: acting_user.clone(), ..Default::default() };
    let successor = auth.rotate(rotate).await?.into_inner().credential.expect("it is given");
    let credential = Some(revoke_request::Credential::CredentialId(successor.id));
    auth.revoke(RevokeRequest { credential, acting_user, ..Default::default() }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_management_call_works_with_a_pool_of_one_connection() {
    run(Database::postgres().await, with_one_of_each).await;
}
