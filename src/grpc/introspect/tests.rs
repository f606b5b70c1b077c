//! Compares the hand-written decoder and encoder with prost.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;
use prost::Message as _;
use uuid::Uuid;

use super::{request, response};
use crate::decision::{Decision, Denial, Lack, RoleCap, www_authenticate};
use crate::grpc::{convert, pb};
use crate::model::tests::samples;
use crate::model::{
    CallerId, Credential, CredentialFacts, CredentialId, Digest, DisplayName, FoundFacts, Owner,
    PatPolicy, PrincipalFacts, Role, Scope, ScopeSet, Slug, Timestamp, User, UserFacts, UserId,
    Workspace, WorkspaceId,
};
use crate::service::Introspection;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros).expect("a time within the years 1 to 9999")
}

fn named(text: &str) -> DisplayName {
    DisplayName::parse(text).expect("a well-formed name")
}

fn workspace(name: &str) -> Workspace {
    Workspace {
        id: WorkspaceId::parse("ws_1").expect("a well-formed id"),
        slug: Slug::parse("acme").expect("a well-formed slug"),
        display_name: named(name),
        disabled: false,
        pat_policy: PatPolicy::default(),
        generation: 0,
        generation_time: None,
        create_time: at(0),
        update_time: at(0),
        delete_time: None,
    }
}

fn credential(owner: Owner, name: &str, create: i64, expire: Option<i64>) -> Credential {
    let id = CredentialId(Uuid::from_u128(0x0195_f2d4_7c1e_7b3a_9d58_0242_ac12_0002));
    Credential {
        id,
        family_id: id,
        name: named(name),
        hint: "sophic_key_...abcd".to_owned(),
        create_time: at(create),
        expire_time: expire.map(at),
        ..samples::credential(owner)
    }
}

fn scope_sets() -> impl Strategy<Value = ScopeSet> {
    (0..8_i64).prop_map(|bits| ScopeSet::from_bits(bits).expect("three bits"))
}

fn decisions() -> impl Strategy<Value = Decision> {
    let denial = prop::option::of(prop::sample::select(Denial::ALL.to_vec()));
    let cap = prop::sample::select(vec![RoleCap::Membership, RoleCap::Token]);
    let role = prop::option::of((prop::sample::select(Role::ALL.to_vec()), cap));
    (denial, role, scope_sets(), scope_sets(), scope_sets(), scope_sets()).prop_map(
        |(denial, role, scopes, missing_scopes, token_lacks, role_lacks)| Decision {
            denial,
            role,
            scopes,
            missing_scopes,
            token_lacks,
            role_lacks,
            lack: (denial == Some(Denial::InsufficientScope)).then_some(Lack::Role),
        },
    )
}

fn found() -> impl Strategy<Value = Option<FoundFacts>> {
    let name = "[a-zé🦀]{1,200}";
    let times = (
        -1_000_000_000_000_000..4_000_000_000_000_000_i64,
        prop::option::of(0..9_000_000_000_000_i64),
    );
    prop::option::of((any::<bool>(), name, times, any::<bool>()).prop_map(
        |(key, name, (create, expire), named_workspace)| {
            let own = Arc::new(workspace(&name));
            let user_id = UserId::parse("ada").expect("a well-formed id");
            let owner = if key {
                Owner::Workspace(own.id.clone())
            } else {
                Owner::User { id: user_id.clone(), max_role: Role::Owner }
            };
            let user = User {
                id: user_id,
                display_name: named(&name),
                disabled: false,
                generation: 0,
                generation_time: None,
                create_time: at(0),
                update_time: at(0),
                delete_time: None,
            };
            FoundFacts {
                credential: Arc::new(CredentialFacts::new(
                    Digest::from_hash([0; 32]),
                    &credential(owner, &name, create, expire),
                )),
                principal: if key {
                    PrincipalFacts::Workspace(own.clone())
                } else {
                    PrincipalFacts::User(UserFacts { user, roles: Box::default() }.into())
                },
                named_workspace: (!key && named_workspace).then_some(own),
            }
        },
    ))
}

proptest! {
    #[test]
    fn an_answer_is_written_as_prost_would(
        decision in decisions(),
        found in found(),
        ttl_ms: u32,
        revision: u64,
        stale: bool,
        required in scope_sets(),
    ) {
        // An active answer always has a credential.
        prop_assume!(found.is_some() || !decision.is_active());
        let answer = Introspection {
            decision,
            found,
            www_authenticate: www_authenticate(&decision, required),
            cache_ttl: std::time::Duration::from_millis(ttl_ms.into()),
            revision,
            stale,
            identity_only: required.is_empty(),
        };
        let mut written = BytesMut::new();
        response::write(&answer, &mut written);
        let read = pb::IntrospectResponse::decode(&written[..]).expect("it decodes");
        let expected = convert::introspection(answer);
        prop_assert_eq!(&read, &expected);
        prop_assert_eq!(&written[..], &expected.encode_to_vec()[..]);
    }

    #[test]
    fn a_request_is_read_as_prost_would(
        token in "[ -~]{0,80}",
        workspace in "[a-z]{0,20}",
        scopes in prop::collection::vec(prop::sample::select(&Scope::ALL), 0..20),
        ip in prop::option::of(any::<std::net::IpAddr>()),
        fresh: bool,
        revision in 0..i64::MAX.unsigned_abs(),
    ) {
        let message = pb::IntrospectRequest {
            token: token.clone(),
            workspace: workspace.clone(),
            required_scopes: scopes.iter().map(|scope| scope.to_proto().into()).collect(),
            client_ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            fresh,
            at_least_revision: revision,
        };
        let bytes = message.encode_to_vec();
        let caller_id = CallerId(Uuid::nil());
        let read = request::read(&bytes, caller_id).expect("it reads");
        prop_assert_eq!(read.token, token);
        prop_assert_eq!(read.workspace, workspace);
        prop_assert_eq!(read.client_ip, ip.map(|ip| ip.to_canonical()));
        prop_assert_eq!(read.required_scopes, scopes.into_iter().collect::<ScopeSet>());
        prop_assert_eq!((read.fresh, read.at_least_revision), (fresh, revision));
    }

    #[test]
    fn bytes_that_prost_refuses_are_not_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if request::read(&bytes, CallerId(Uuid::nil())).is_some() {
            prop_assert!(pb::IntrospectRequest::decode(&bytes[..]).is_ok());
        }
    }
}

#[test]
fn unusual_requests_are_left_to_prost() {
    let refused = [
        pb::IntrospectRequest { required_scopes: vec![0], ..Default::default() },
        pb::IntrospectRequest { required_scopes: vec![127], ..Default::default() },
        pb::IntrospectRequest { required_scopes: vec![1; 33], ..Default::default() },
        pb::IntrospectRequest { client_ip: "here".to_owned(), ..Default::default() },
        pb::IntrospectRequest { at_least_revision: u64::MAX, ..Default::default() },
    ];
    for message in refused {
        let bytes = message.encode_to_vec();
        assert!(request::read(&bytes, CallerId(Uuid::nil())).is_none(), "{message:?}");
    }
}
