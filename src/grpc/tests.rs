//! The table of RPCs agrees with the proto; a refusal carries its reason.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Status;

use super::{DESCRIPTORS, status};
use crate::service::rpcs::{CallType, Rpc, request_bytes_max};
use crate::service::{Reason, ServiceError};

fn files() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).expect("the descriptors decode")
}

/// Each RPC of the protos: its path, its type, and the number of the field `acting_user` in its request.
fn methods() -> Vec<(String, CallType, Option<u32>)> {
    let files = files();
    let acting_user = |input: &str| {
        let mut messages = files.file.iter().flat_map(|file| {
            let named = |name: &str| format!(".{}.{name}", file.package()) == input;
            file.message_type.iter().filter(move |message| named(message.name()))
        });
        let fields = &messages.next().expect("a request").field;
        let field = fields.iter().find(|field| field.name() == "acting_user")?;
        u32::try_from(field.number()).ok()
    };
    let mut methods = Vec::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let call_type = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => CallType::Unary,
                    (false, true) => CallType::ServerStreaming,
                    (true, _) => CallType::BidiStreaming,
                };
                methods.push((path, call_type, acting_user(method.input_type())));
            }
        }
    }
    methods
}

fn at(path: &str) -> Rpc {
    Rpc::from_path(path).unwrap_or_else(|| panic!("{path} has no row"))
}

#[test]
fn every_rpc_has_a_rule() {
    let methods = methods();
    assert!(methods.len() >= 21, "descriptors are missing: {methods:?}");
    for (path, call_type, _) in methods {
        let row = at(&path).row();
        assert!(!row.rule.any_of().is_empty(), "{path}");
        assert_eq!((row.path, row.call_type), (&*path, call_type));
    }
}

#[test]
fn a_path_outside_the_table_is_unknown() {
    assert_eq!(Rpc::from_path("/sophic.auth.v1.AuthService/introspect"), None);
    assert_eq!(Rpc::from_path("/sophic.auth.v1.AuthService/Introspect/"), None);
    assert_eq!(Rpc::from_path(""), None);
}

#[test]
fn every_rpc_that_manages_something_has_a_name_in_the_audit_log() {
    let reads =
        ["/Get", "/List", "/Watch", "/Introspect", "/BatchIntrospect", "/Check", "/Explain"];
    for (path, ..) in methods() {
        let manages = !reads.iter().any(|read| path.contains(read));
        assert!(!manages || at(&path).row().action.is_some(), "{path}");
    }
}

#[test]
fn the_acting_user_is_read_from_the_field_of_that_name() {
    for (path, _, field) in methods() {
        let row = at(&path).row();
        let expected = row.action.and(field);
        assert_eq!(row.acting_user_field, expected, "{path}");
    }
}

#[test]
fn the_limit_of_a_service_is_that_of_its_largest_request() {
    assert_eq!(request_bytes_max("sophic.auth.v1.AuthService"), 1_024 * 1_024);
    assert_eq!(request_bytes_max("sophic.auth.v1.AdminService"), 16 * 1_024);
    for rpc in Rpc::ALL {
        let row = rpc.row();
        let service = row.path[1..].rsplit_once('/').expect("a method").0;
        assert!(request_bytes_max(service) >= row.request_bytes_max, "{rpc:?}");
    }
    assert_eq!(request_bytes_max("sophic.auth.v1.Nobody"), 0);
}

#[test]
fn a_refusal_carries_its_reason() {
    for reason in Reason::ALL {
        let response = Status::from(ServiceError::from(*reason)).into_http::<()>();
        assert_eq!(status::reason(&response), Some(*reason));
    }
    let response = Status::unimplemented("as tonic says it").into_http::<()>();
    assert_eq!(status::reason(&response), None);
}
