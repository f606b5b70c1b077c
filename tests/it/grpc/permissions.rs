//! Each RPC asked by a caller with all permissions but those that it needs: refused, whatever the request.

use prost::Message as _;
use sophic_auth::grpc::{DESCRIPTORS, Rule, rule};
use sophic_auth::model::Permission;
use tonic::Code;

use super::refusal::refused;
use super::wire::{self, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    every_rpc_is_refused_to_who_lacks_its_permission,
}

pub(super) fn paths() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors").file;
    let methods = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let names = service.method.iter();
            names.map(move |method| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            })
        })
    });
    methods.collect()
}

async fn every_rpc_is_refused_to_who_lacks_its_permission(h: Harness) {
    let mut callers = Vec::new();
    let nobody = h.anonymous();
    for path in paths() {
        let Rule::AnyOf(needed) = rule(&path) else { panic!("{path} has no rule") };
        let others: Vec<_> =
            Permission::ALL.into_iter().filter(|one| !needed.contains(one)).collect();
        let name = format!("lacks-{}", callers.len());
        let lacking = h.caller(&name, &others).await;
        callers.push(name);
        // Bytes that are no message: they are not even decoded.
        let rejected = |token| Frames::of(&[b"\xff\xff\xff"]).with_authorization(token);
        let status = wire::status(&h, &path, rejected(lacking.authorization())).await;
        assert_eq!(
            refused::<()>(Err(status)),
            (Code::PermissionDenied, "PERMISSION_MISSING".to_owned()),
            "{path}"
        );
        let status = wire::status(&h, &path, rejected(nobody.authorization())).await;
        assert_eq!(
            refused::<()>(Err(status)),
            (Code::Unauthenticated, "CALLER_MISSING".to_owned()),
            "{path}"
        );
    }
    assert!(callers.len() >= 18, "{callers:?}");
}
