//! Every text field of every request, from the descriptors, with every kind of text: no answer is INTERNAL, and both
//! stores give the same one. (A presented token, and headers that a proxy passes on, may be any text.)

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use sophic_auth::grpc::DESCRIPTORS;
use sophic_auth::grpc::pb::{Role, Scope};
use sophic_auth::model::Permission;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::wire::{self, Frames};
use crate::faces::wire::Call;
use crate::harness::Harness;
use crate::stores::{Database, Fixture as _};

/// Packages whose messages are times and the like, without texts.
const WITHOUT_TEXT: [&str; 2] = ["google.protobuf.Timestamp", "google.protobuf.Duration"];

fn texts() -> [(&'static str, String); 7] {
    [
        ("NUL", "\0".to_owned()),
        ("NUL inside", "a\0b".to_owned()),
        ("1 MiB", "x".repeat(1 << 20)),
        ("60,000 bytes", "x".repeat(60_000)),
        ("U+202E", "a\u{202e}b".to_owned()),
        ("lone combining marks", "\u{301}\u{327}".to_owned()),
        ("line breaks", "a\r\nb\n".to_owned()),
    ]
}

/// All messages by name, and each RPC with the name of its request.
struct Schema {
    messages: HashMap<String, DescriptorProto>,
    rpcs: Vec<(String, String)>,
}

impl Schema {
    fn read() -> Self {
        let mut schema = Self { messages: HashMap::new(), rpcs: Vec::new() };
        for file in FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors").file {
            let package = file.package().to_owned();
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    schema.rpcs.push((path, method.input_type()[1..].to_owned()));
                }
            }
            for message in file.message_type {
                schema.insert(&package, message);
            }
        }
        schema
    }

    fn insert(&mut self, within: &str, message: DescriptorProto) {
        let name = format!("{within}.{}", message.name());
        for nested in message.nested_type.clone() {
            self.insert(&name, nested);
        }
        self.messages.insert(name, message);
    }

    /// The path to each text of this message: field numbers, and the readable form.
    fn texts_of(&self, message: &str) -> Vec<(Vec<i32>, String)> {
        let mut found = Vec::new();
        for field in &self.messages[message].field {
            if field.r#type() == Type::String {
                found.push((vec![field.number()], field.name().to_owned()));
            } else if let Some(of) = nested(field) {
                for (mut way, name) in self.texts_of(of) {
                    way.insert(0, field.number());
                    found.push((way, format!("{}.{name}", field.name())));
                }
            }
        }
        found
    }

    /// The message with valid values, except for the text at the end of this path.
    fn encode(&self, message: &str, way: &[i32], text: &str, key: &str) -> Vec<u8> {
        use prost::encoding::{WireType, encode_key, encode_varint};
        let mut out = Vec::new();
        for field in &self.messages[message].field {
            let rest = way.split_first().filter(|(first, _)| **first == field.number());
            let chosen = field.oneof_index.is_none()
                || field.proto3_optional()
                || field.name() == "credential_id";
            let others = self.messages[message].field.iter().any(|other| {
                other.oneof_index.is_some()
                    && other.oneof_index == field.oneof_index
                    && way.first() == Some(&other.number())
            });
            if rest.is_none() && (!chosen || others) {
                continue;
            }
            let number = u32::try_from(field.number()).expect("a number");
            let bytes = match (field.r#type(), nested(field)) {
                (Type::String, _) if rest.is_some() => text.as_bytes().to_vec(),
                (Type::String, _) => plausible(message, field.name(), key).into(),
                (Type::Message, Some(of)) if !field.name().contains("policy") || rest.is_some() => {
                    let way = rest.map_or(&[][..], |(_, rest)| rest);
                    self.encode(of, way, text, key)
                }
                (Type::Enum, _) if ["scopes", "role", "max_role"].contains(&field.name()) => {
                    encode_key(number, WireType::Varint, &mut out);
                    encode_varint(1, &mut out);
                    continue;
                }
                (Type::Bool, _) if field.name() == "dry_run" => {
                    encode_key(number, WireType::Varint, &mut out);
                    encode_varint(1, &mut out);
                    continue;
                }
                _ => continue,
            };
            if field.label() == Label::Repeated && bytes.is_empty() && rest.is_none() {
                continue;
            }
            encode_key(number, WireType::LengthDelimited, &mut out);
            encode_varint(bytes.len() as u64, &mut out);
            out.extend(bytes);
        }
        out
    }
}

/// The message type of a field, if it may have texts.
fn nested(field: &FieldDescriptorProto) -> Option<&str> {
    let name = field.type_name().trim_start_matches('.');
    (field.r#type() == Type::Message && !WITHOUT_TEXT.contains(&name)).then_some(name)
}

/// A valid value for a field, if there is one.
fn plausible<'a>(message: &str, field: &str, key: &'a str) -> &'a str {
    let message = message.rsplit('.').next().unwrap_or_default();
    match (message, field) {
        ("Credential", "id") | (_, "credential_id") => key,
        ("Workspace", "id") => "id-of-acme",
        ("User", "id") | (_, "user") => "ada",
        (_, "workspace" | "slug") => "acme",
        (_, "display_name") => "Ada",
        ("RevokeCallerRequest" | "UpdateCallerRequest" | "RotateCallerRequest", "caller") => "one",
        ("FieldMask", "paths") => "name",
        ("CreateCallerRequest", "name") => "another",
        ("UpdateCallerRequest", "name") => "one",
        (_, "permissions") => "introspect",
        (_, "name") => "ci",
        _ => "",
    }
}

/// Result of a call, for programs.
fn outcome(status: &Status) -> String {
    if status.code() == Code::Ok {
        return "OK".to_owned();
    }
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
    let fields: Vec<_> =
        violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect();
    format!("{:?} {reason} {fields:?}", status.code())
}

async fn every_rpc(h: &Harness, schema: &Schema) -> Vec<String> {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    h.caller("one", &[Permission::Introspect]).await;
    let key = root.create_key("acme", &[Scope::Read]).await.credential.expect("it is given").id;
    let mut lines = Vec::new();
    for (path, message) in &schema.rpcs {
        for (way, name) in schema.texts_of(message) {
            for (what, text) in texts() {
                let message = schema.encode(message, &way, &text, &key);
                let frames = Frames::of(&[&message]).with_authorization(root.authorization());
                let case = format!("{path} {name}, {what}");
                let answer = match wire::try_send(h, path, frames).await {
                    Ok(answer) => outcome(&answer.status()),
                    // A peer that refuses the length may have closed already.
                    Err(_) if what == "1 MiB" => "refused by its length".to_owned(),
                    Err(error) => panic!("{case}: {error}"),
                };
                assert!(!answer.starts_with("Internal"), "{case}: {answer}");
                let too_long = answer.starts_with("OutOfRange") || answer.starts_with("Resource");
                match what {
                    "1 MiB" if too_long => {}
                    "1 MiB" => assert_eq!(answer, "refused by its length", "{case}"),
                    "NUL" | "NUL inside" if !may_hold_any(path, &name) => {
                        assert!(answer.starts_with("InvalidArgument"), "{case}: {answer}");
                        lines.push(format!("{case}: {answer}"));
                    }
                    _ => lines.push(format!("{case}: {answer}")),
                }
            }
        }
    }
    lines
}

/// Texts that are only compared or hashed.
fn may_hold_any(path: &str, name: &str) -> bool {
    path.starts_with("/envoy.")
        || name.rsplit('.').next() == Some("token")
        || (path.ends_with("Introspect")
            && (name.ends_with("workspace") || name.ends_with("client_ip")))
}

/// The HTTP faces, by their forms, queries and headers.
async fn every_endpoint(h: &Harness) -> Vec<String> {
    let proxy = h.caller("proxy", &[Permission::Introspect]).await;
    let bearer = proxy.authorization().expect("a token");
    let mut lines = Vec::new();
    for (what, text) in texts().into_iter().filter(|(what, _)| *what != "1 MiB") {
        let text = &text[..text.len().min(8_000)];
        for field in ["token", "workspace", "scope", "client_ip", "token_type_hint"] {
            let mut fields = vec![(field, text)];
            if field != "token" {
                fields.push(("token", "nobody's"));
            }
            for target in ["/oauth2/introspect", "/oauth2/revoke"] {
                let call = Call::form(target, &fields).header("authorization", &bearer);
                let status = call.send(h.running.http).await.status;
                assert!(status < 500, "{target} {field}, {what}: {status}");
                lines.push(format!("{target} {field}, {what}: {status}"));
            }
        }
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for query in ["scope", "scope=read&client_ip_header", "identity_only"] {
            let target = format!("/auth?{query}={}", &escaped[..escaped.len().min(3_000)]);
            let call = Call::get(&target).header("x-sophic-auth-caller", &bearer);
            let status = call.send(h.running.http).await.status;
            assert!(status < 500, "{query}, {what}: {status}");
            lines.push(format!("/auth {query}, {what}: {status}"));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_of_every_request_gets_the_same_answer_from_both_stores() {
    let schema = Schema::read();
    let mut transcripts = Vec::new();
    for database in [Database::sqlite(), Database::postgres().await] {
        let database = Arc::new(database);
        let h = Harness::set_up(Arc::clone(&database)).await;
        let mut lines = every_rpc(&h, &schema).await;
        lines.extend(every_endpoint(&h).await);
        transcripts.push(lines);
        h.running.stop().await;
        database.drop_database().await;
    }
    let [sqlite, postgres] = &transcripts[..] else { panic!("two transcripts") };
    assert!(sqlite.len() > 500, "{}", sqlite.len());
    assert_eq!(sqlite.len(), postgres.len());
    for (left, right) in sqlite.iter().zip(postgres) {
        assert_eq!(left, right);
    }
}
