//! The code generated from `proto/` is committed, so that a build needs no protobuf compiler. These tests generate it
//! again and compare. `UPDATE=1 scripts/test generated` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use prost::Message as _;
use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use sophic_auth::grpc::envoy;
use sophic_auth_client::pb as client;
use tonic_prost_build::{Builder, Config};

const PROTOCOL: &str = "crates/protocol/src/generated";
const CLIENT: &str = "client/src/generated";
const SERVER: &str = "src/grpc/generated";
const OURS: [&str; 3] = [
    "sophic/auth/v1/auth_service.proto",
    "sophic/auth/v1/directory_service.proto",
    "sophic/auth/v1/admin_service.proto",
];
const ENVOYS: &str = "envoy/service/auth/v3/external_auth.proto";
/// The messages in the details of an error. Only reflection serves them, so that a client can decode the details.
const DETAILS: [&str; 2] = ["google/rpc/status.proto", "google/rpc/error_details.proto"];
const PACKAGE: &str = "sophic.auth.v1";

fn compile(protos: &[&str]) -> protox::Compiler {
    let mut compiler = protox::Compiler::new(["proto"]).expect("the folder is there");
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(protos).expect("the protocol compiles");
    compiler
}

/// Files of a directory, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Generates the code of these protos. A message with a secret field gets a `Debug` that leaves the field out.
fn generate(protos: &[&str], builder: Builder, messages_are_ours: bool) -> Files {
    let compiler = compile(protos);
    let pool = compiler.descriptor_pool();
    let secret: Vec<_> = pool.all_messages().filter(has_secret).collect();
    // The server's codec looks up a message's descriptor by its name.
    let mut config = Config::new();
    config.enable_type_names();
    let folder = tempfile::tempdir().expect("a folder");
    let mut builder = builder
        .emit_rerun_if_changed(false)
        .skip_debug(secret.iter().map(|message| format!(".{}", message.full_name())))
        .out_dir(folder.path());
    if !messages_are_ours {
        builder = builder.extern_path(format!(".{PACKAGE}"), "::sophic_auth_protocol::pb");
    }
    builder.compile_fds_with_config(compiler.file_descriptor_set(), config).expect("code");
    let mut files = read(folder.path());
    for message in secret {
        if message.package_name() == PACKAGE && !messages_are_ours {
            continue;
        }
        let file = files.iter_mut().find(|(name, _)| {
            name.replace("r#", "").trim_end_matches(".rs") == message.package_name()
        });
        file.expect("a file for each package").1.extend(redacted_debug(&message).into_bytes());
    }
    files
}

fn read(folder: &Path) -> Files {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let named = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.map(|path| (named(&path), std::fs::read(&path).expect("a file"))).collect()
}

fn generated() -> [(&'static str, Files); 3] {
    let messages = tonic_prost_build::configure().build_client(false).build_server(false);
    let client = tonic_prost_build::configure().build_server(false);
    let server = tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::grpc::codec::StrictCodec");
    let all = [&OURS[..], &[ENVOYS]].concat();
    let mut served = generate(&all, server, false);
    let descriptors = compile(&[&all[..], &DETAILS].concat());
    let descriptors = descriptors.file_descriptor_set().encode_to_vec();
    served.insert("descriptors.bin".to_owned(), descriptors);
    [
        (PROTOCOL, generate(&OURS, messages, true)),
        (CLIENT, generate(&OURS, client, false)),
        (SERVER, served),
    ]
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let mark = field.options().get_field_by_name("debug_redact").map(std::borrow::Cow::into_owned);
    mark.and_then(|mark| mark.as_bool()).unwrap_or(false)
}

fn has_secret(message: &MessageDescriptor) -> bool {
    message.fields().any(|field| is_secret(&field))
}

/// Returns a `Debug` that leaves out the secret fields of a message and of its oneofs.
fn redacted_debug(message: &MessageDescriptor) -> String {
    assert!(message.child_messages().all(|child| child.is_map_entry()), "{}", message.full_name());
    let mut path = message.name().to_owned();
    let mut inside = snake(message.name());
    let mut parent = message.parent_message();
    while let Some(outer) = parent {
        path = format!("{}::{path}", snake(outer.name()));
        inside = format!("{}::{inside}", snake(outer.name()));
        parent = outer.parent_message();
    }
    let mut body = format!("        f.debug_struct({:?})\n", message.name());
    for field in message.fields().filter(|field| field.containing_oneof().is_none()) {
        let name = field.name();
        let value = if is_secret(&field) { "\"redacted\"" } else { &format!("self.{name}") };
        let _ = writeln!(body, "            .field({name:?}, &{value})");
    }
    let mut text = String::new();
    for oneof in message.oneofs() {
        assert!(!oneof.is_synthetic(), "{}: an optional field", message.full_name());
        let name = oneof.name();
        let _ = writeln!(body, "            .field({name:?}, &self.{name})");
        let mut arms = "        match self {\n".to_owned();
        for field in oneof.fields() {
            let variant = camel(field.name());
            let (bound, value) =
                if is_secret(&field) { ("_", "\"redacted\"") } else { ("value", "value") };
            let _ = writeln!(
                arms,
                "            Self::{variant}({bound}) => \
                 f.debug_tuple({variant:?}).field(&{value}).finish(),"
            );
        }
        arms.push_str("        }\n");
        text.push_str(&debug_impl(&format!("{inside}::{}", camel(name)), &arms));
    }
    body.push_str("            .finish()\n");
    debug_impl(&path, &body) + &text
}

fn debug_impl(path: &str, body: &str) -> String {
    format!(
        "impl ::core::fmt::Debug for {path} {{\n    \
         fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n{body}    \
         }}\n}}\n"
    )
}

/// Converts `HttpRequest` to `http_request`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// Converts `credential_id` to `CredentialId`.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

#[test]
fn the_generated_code_is_that_of_the_protocol() {
    for (folder, fresh) in generated() {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::remove_dir_all(folder).expect("it can be emptied");
            std::fs::create_dir(folder).expect("a folder");
            for (name, text) in &fresh {
                std::fs::write(Path::new(folder).join(name), text).expect("it can be written");
            }
        }
        assert!(
            read(Path::new(folder)) == fresh,
            "{folder} is not that of proto/: run UPDATE=1 scripts/test generated"
        );
    }
}

/// Ensures that a new field whose name says that it is a token is marked as secret.
#[test]
fn every_field_that_is_named_a_token_is_marked_as_secret() {
    let pool: DescriptorPool = compile(&OURS).descriptor_pool();
    let ours = pool.all_messages().filter(|message| message.package_name() == PACKAGE);
    let mut marked = 0;
    for field in ours.flat_map(|message| message.fields().collect::<Vec<_>>()) {
        let text = matches!(field.kind(), Kind::String | Kind::Bytes);
        let named = field.name() == "token" || field.name().ends_with("_token");
        // Positions in a list.
        let page = ["page_token", "resume_token"].iter().any(|end| field.name().ends_with(end));
        assert!(!(text && named && !page) || is_secret(&field), "{}", field.full_name());
        marked += usize::from(is_secret(&field));
    }
    assert_eq!(marked, 10);
}

#[test]
fn no_message_prints_a_token() {
    let token = || "sophic_key_SECRET".to_owned();
    let revoke = client::revoke_request::Credential::Token(token());
    let http = envoy::service::auth::v3::attribute_context::HttpRequest {
        headers: [("authorization".to_owned(), token())].into(),
        header_map: None,
    };
    let header = envoy::config::core::v3::HeaderValue {
        key: "authorization".to_owned(),
        value: token(),
        raw_value: token().into_bytes(),
    };
    let printed = [
        format!("{:?}", client::IntrospectRequest { token: token(), ..Default::default() }),
        format!("{:?}", client::RevokeRequest { credential: Some(revoke), ..Default::default() }),
        format!("{:?}", client::CreateKeyResponse { token: token(), ..Default::default() }),
        format!("{:?}", client::CreatePatResponse { token: token(), ..Default::default() }),
        format!("{:?}", client::CreateCallerResponse { token: token(), ..Default::default() }),
        format!("{:?}", client::RotateResponse { token: token(), ..Default::default() }),
        format!("{:?}", client::RotateCallerResponse { token: token(), ..Default::default() }),
        format!("{:?}", client::LeakedToken { token: token(), ..Default::default() }),
        format!("{:?}", sophic_auth_client::Presented::new(&token())),
        format!("{http:?}"),
        format!("{header:?}"),
    ];
    for printed in printed {
        assert!(!printed.contains("SECRET") && printed.contains("redacted"), "{printed}");
        assert!(!printed.contains("83, 69, 67"), "{printed}");
    }
}
