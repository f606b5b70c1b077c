//! No text of any request has a NUL: not every database takes one. Asked of each message's bytes before it is decoded, by
//! its descriptor, so that no field can be forgotten; what else a field must be like its own type says.
//!
//! Let through are texts that are only ever compared, or hashed: a presented token, and what a proxy passes on of a
//! client. What is wrong with those is an answer, and no error.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::DESCRIPTORS;
use super::introspect::bytes;
use crate::service::Violations;

/// Fields that may have a NUL.
const COMPARED_OR_HASHED: [&str; 5] = [
    "sophic.auth.v1.IntrospectRequest.token",
    "sophic.auth.v1.IntrospectRequest.workspace",
    "sophic.auth.v1.IntrospectRequest.client_ip",
    "sophic.auth.v1.RevokeRequest.token",
    "sophic.auth.v1.LeakedToken.token",
];
/// Messages whose texts all may.
const PASSED_ON: &str = "envoy.";
/// Messages in messages: more than any of ours has.
const DEPTH_MAX: usize = 8;

/// What a field holds, as far as texts are concerned.
enum Holds {
    Text,
    Message(String),
    /// A key and its value, which are called by the field's name.
    Entry(String),
}

struct Field {
    name: String,
    repeated: bool,
    holds: Holds,
}

/// By the full name of a message, its fields that hold texts by their numbers.
static MESSAGES: LazyLock<HashMap<String, HashMap<u32, Field>>> = LazyLock::new(|| {
    let mut messages = HashMap::new();
    // Made by build.rs from what it compiled: it decodes, or there are no services at all.
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
    for file in &files {
        for message in &file.message_type {
            insert(&mut messages, &format!("{}.{}", file.package(), message.name()), message);
        }
    }
    messages
});

fn insert(
    messages: &mut HashMap<String, HashMap<u32, Field>>,
    full_name: &str,
    message: &DescriptorProto,
) {
    for nested in &message.nested_type {
        insert(messages, &format!("{full_name}.{}", nested.name()), nested);
    }
    let fields = message.field.iter().filter_map(|field| {
        let holds = match field.r#type() {
            Type::String => {
                let name = format!("{full_name}.{}", field.name());
                if COMPARED_OR_HASHED.contains(&&*name) || name.starts_with(PASSED_ON) {
                    return None;
                }
                Holds::Text
            }
            Type::Message => {
                let of = field.type_name().trim_start_matches('.').to_owned();
                let entry = message.nested_type.iter().any(|nested| {
                    nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
                        && of == format!("{full_name}.{}", nested.name())
                });
                if entry { Holds::Entry(of) } else { Holds::Message(of) }
            }
            _ => return None,
        };
        let repeated = field.label() == prost_types::field_descriptor_proto::Label::Repeated;
        let number = u32::try_from(field.number()).ok()?;
        Some((number, Field { name: field.name().to_owned(), repeated, holds }))
    });
    messages.insert(full_name.to_owned(), fields.collect());
}

/// Notes each text with a NUL of a message of this name. What does not decode is left to prost.
pub(super) fn check(full_name: &str, message: &[u8]) -> Violations {
    let mut violations = Violations::default();
    // Most have none at all, whatever their fields are.
    if message.contains(&0) {
        walk(&mut violations, full_name, message, Within::Message(""), DEPTH_MAX);
    }
    violations
}

/// Where a message stands.
#[derive(Clone, Copy)]
enum Within<'a> {
    /// Its fields are called by this and their own names.
    Message(&'a str),
    /// It is an entry of the map of this name.
    Entry(&'a str),
}

fn walk(
    violations: &mut Violations,
    full_name: &str,
    message: &[u8],
    within: Within<'_>,
    depth: usize,
) {
    let Some(fields) = MESSAGES.get(full_name).filter(|_| depth > 0) else { return };
    let mut counts: HashMap<u32, usize> = HashMap::new();
    let mut rest = message;
    while let Ok((number, wire)) = decode_key(&mut rest) {
        let known = fields.get(&number).filter(|_| wire == WireType::LengthDelimited);
        let Some(field) = known else {
            if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
                return;
            }
            continue;
        };
        let Some(value) = bytes(&mut rest) else { return };
        let name = match within {
            Within::Message(prefix) => format!("{prefix}{}", field.name),
            Within::Entry(name) => name.to_owned(),
        };
        match &field.holds {
            Holds::Text if value.contains(&0) => violations.add(&name, "must have no NUL"),
            Holds::Text => {}
            Holds::Entry(of) => walk(violations, of, value, Within::Entry(&name), depth - 1),
            Holds::Message(of) => {
                let count = counts.entry(number).or_default();
                let index = if field.repeated { format!("[{count}]") } else { String::new() };
                *count += 1;
                let prefix = format!("{name}{index}.");
                walk(violations, of, value, Within::Message(&prefix), depth - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::pb;

    fn fields(full_name: &str, message: &impl prost::Message) -> Vec<String> {
        let Err(error) = check(full_name, &message.encode_to_vec()).finish() else {
            return Vec::new();
        };
        error.violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn each_text_with_a_nul_is_named_wherever_it_is() {
        let nul = || "a\0b".to_owned();
        let request = pb::UpdateCredentialRequest {
            credential: Some(pb::Credential {
                name: nul(),
                ip_allowlist: vec![String::new(), nul()],
                annotations: [(nul(), nul())].into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec![nul()] }),
            acting_user: "ada".to_owned(),
        };
        let mut named = fields("sophic.auth.v1.UpdateCredentialRequest", &request);
        named.sort();
        let expected = [
            "credential.annotations",
            "credential.annotations",
            "credential.ip_allowlist",
            "credential.name",
            "update_mask.paths",
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn what_is_only_hashed_may_have_one_and_numbers_may_have_zeros() {
        let token = "a\0b".to_owned();
        let leaked = pb::LeakedToken { token: token.clone(), ..Default::default() };
        let request = pb::RevokeLeakedRequest { tokens: vec![leaked] };
        assert!(fields("sophic.auth.v1.RevokeLeakedRequest", &request).is_empty());
        let token = Some(pb::revoke_request::Credential::Token(token));
        let request = pb::RevokeRequest { credential: token, ..Default::default() };
        assert!(fields("sophic.auth.v1.RevokeRequest", &request).is_empty());
        let time = prost_types::Timestamp { seconds: 1 << 32, nanos: 1 << 16 };
        let request = pb::BulkRevokeRequest { created_before: Some(time), ..Default::default() };
        assert!(fields("sophic.auth.v1.BulkRevokeRequest", &request).is_empty());
    }

    #[test]
    fn what_is_no_message_is_left_to_prost() {
        for bytes in [&b"\x00"[..], b"\x0a\xff\x00", b"\x0a\x05\x00", b"\xff\xff\xff\x00"] {
            check("sophic.auth.v1.RevokeCallerRequest", bytes).finish().expect("nothing is noted");
        }
    }
}
