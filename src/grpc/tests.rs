//! The permission table knows every RPC, and every service that is served.

use prost::Message as _;

use super::{DESCRIPTORS, Rule, refusals, rule};

fn paths() -> Vec<String> {
    let descriptors = prost_types::FileDescriptorSet::decode(DESCRIPTORS)
        .expect("this build made the descriptors");
    let mut paths = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

#[test]
fn every_rpc_has_a_rule() {
    let paths = paths();
    assert!(paths.len() >= 21, "the descriptors are not all there: {paths:?}");
    for path in paths {
        assert!(!rule(&path).any_of().is_empty(), "{path}");
    }
}

#[test]
fn what_is_not_in_the_table_is_not_known() {
    assert_eq!(rule("/sophic.auth.v1.AuthService/introspect"), Rule::Unknown);
    assert_eq!(rule("/sophic.auth.v1.AuthService/Introspect/"), Rule::Unknown);
    assert_eq!(rule(""), Rule::Unknown);
}

#[test]
fn every_rpc_that_manages_something_has_a_name_in_the_audit_log() {
    let reads = ["/Get", "/List", "/Watch", "/Introspect", "/BatchIntrospect", "/Check"];
    for path in paths() {
        let manages = !reads.iter().any(|read| path.contains(read));
        assert!(!manages || refusals::action(&path).is_some(), "{path}");
    }
}
