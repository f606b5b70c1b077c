//! Refuses texts with a NUL in any request, because Postgres cannot store one. Each message is checked before it is
//! decoded, field by field of its descriptor, so that no field can be forgotten. All other rules of a field are those
//! of its type.
//!
//! Texts that are only compared or hashed are exempt: presented tokens, and the client's headers that a proxy passes
//! on. A malformed one gets an answer, not an error.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::DESCRIPTORS;
use super::introspect::read_bytes;
use crate::service::Violations;

/// Fields that may contain a NUL.
const EXEMPT_FIELDS: [&str; 5] = [
    "sophic.auth.v1.IntrospectRequest.token",
    "sophic.auth.v1.IntrospectRequest.workspace",
    "sophic.auth.v1.IntrospectRequest.client_ip",
    "sophic.auth.v1.RevokeRequest.token",
    "sophic.auth.v1.LeakedToken.token",
];
/// Prefix of the packages whose fields may all contain a NUL.
const EXEMPT_PACKAGES: &str = "envoy.";
/// Deepest nesting of messages that is checked. No request message is nested deeper.
const DEPTH_MAX: usize = 8;

/// Type of a field that holds texts.
enum FieldType {
    Text,
    Message(String),
    /// An entry of a map. Its key and its value are reported under the field's name.
    Entry(String),
}

struct Field {
    name: String,
    repeated: bool,
    holds: FieldType,
}

/// The fields that hold texts, by the full name of the message and the number of the field.
static MESSAGES: LazyLock<HashMap<String, HashMap<u32, Field>>> = LazyLock::new(|| {
    let mut messages = HashMap::new();
    // Generated with the services, so it always decodes.
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
                if EXEMPT_FIELDS.contains(&&*name) || name.starts_with(EXEMPT_PACKAGES) {
                    return None;
                }
                FieldType::Text
            }
            Type::Message => {
                let type_name = field.type_name().trim_start_matches('.').to_owned();
                let entry = message.nested_type.iter().any(|nested| {
                    nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
                        && type_name == format!("{full_name}.{}", nested.name())
                });
                if entry { FieldType::Entry(type_name) } else { FieldType::Message(type_name) }
            }
            _ => return None,
        };
        let repeated = field.label() == prost_types::field_descriptor_proto::Label::Repeated;
        let number = u32::try_from(field.number()).ok()?;
        Some((number, Field { name: field.name().to_owned(), repeated, holds }))
    });
    messages.insert(full_name.to_owned(), fields.collect());
}

/// Returns a violation for each text with a NUL. Bytes that do not decode are left to prost.
pub(super) fn check(full_name: &str, message: &[u8]) -> Violations {
    let mut violations = Violations::default();
    // Most messages have no zero byte at all.
    if message.contains(&0) {
        check_message(&mut violations, full_name, message, Parent::Message(""), DEPTH_MAX);
    }
    violations
}

/// Where a message is nested.
#[derive(Clone, Copy)]
enum Parent<'a> {
    /// In a message. The prefix is put before the names of its fields.
    Message(&'a str),
    /// In an entry of the map with this name. The entry's fields are reported under that name.
    Entry(&'a str),
}

fn check_message(
    violations: &mut Violations,
    full_name: &str,
    message: &[u8],
    parent: Parent<'_>,
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
        let Some(value) = read_bytes(&mut rest) else { return };
        let name = match parent {
            Parent::Message(prefix) => format!("{prefix}{}", field.name),
            Parent::Entry(name) => name.to_owned(),
        };
        match &field.holds {
            FieldType::Text if value.contains(&0) => violations.add(&name, "must have no NUL"),
            FieldType::Text => {}
            FieldType::Entry(type_name) => {
                check_message(violations, type_name, value, Parent::Entry(&name), depth - 1);
            }
            FieldType::Message(type_name) => {
                let count = counts.entry(number).or_default();
                let index = if field.repeated { format!("[{count}]") } else { String::new() };
                *count += 1;
                let prefix = format!("{name}{index}.");
                check_message(violations, type_name, value, Parent::Message(&prefix), depth - 1);
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
    fn every_text_with_a_nul_is_named_at_any_depth() {
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
    fn hashed_texts_may_have_a_nul_and_numbers_may_have_zero_bytes() {
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
    fn bytes_that_are_not_a_message_are_left_to_prost() {
        for bytes in [&b"\x00"[..], b"\x0a\xff\x00", b"\x0a\x05\x00", b"\xff\xff\xff\x00"] {
            check("sophic.auth.v1.RevokeCallerRequest", bytes).finish().expect("no violation");
        }
    }
}
