//! The client's protobuf code is committed, so that who uses it compiles neither protox nor a database. Here it is made
//! anew and compared; `UPDATE=1 scripts/test generated` writes it.

use std::path::Path;

use sophic_auth_client::pb as client;

const FILE: &str = "client/src/generated/sophic.auth.v1.rs";

/// As in `build.rs`: messages whose `Debug` is written by hand.
const WITH_TOKENS: [&str; 8] = [
    "sophic.auth.v1.IntrospectRequest",
    "sophic.auth.v1.RevokeRequest",
    "sophic.auth.v1.CreateKeyResponse",
    "sophic.auth.v1.CreatePatResponse",
    "sophic.auth.v1.CreateCallerResponse",
    "sophic.auth.v1.RotateResponse",
    "sophic.auth.v1.RotateCallerResponse",
    "sophic.auth.v1.LeakedToken",
];

fn generate(out: &Path) -> String {
    let protos = ["auth_service", "directory_service", "admin_service"]
        .map(|name| format!("proto/sophic/auth/v1/{name}.proto"));
    let mut compiler = protox::Compiler::new(["proto"]).expect("the folder is there");
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(&protos).expect("the protocol compiles");
    tonic_prost_build::configure()
        .build_server(false)
        .emit_rerun_if_changed(false)
        .skip_debug(WITH_TOKENS)
        .out_dir(out)
        .compile_fds(compiler.file_descriptor_set())
        .expect("code is generated");
    std::fs::read_to_string(out.join("sophic.auth.v1.rs")).expect("it is in UTF-8")
}

#[test]
fn the_clients_protobuf_code_is_that_of_the_protocol() {
    let folder = tempfile::tempdir().expect("a folder");
    let fresh = generate(folder.path());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &fresh).expect("it can be written");
    }
    let committed = std::fs::read_to_string(FILE).expect("it is committed");
    assert!(
        committed == fresh,
        "{FILE} is not that of proto/: run UPDATE=1 scripts/test generated"
    );
}

#[test]
fn every_message_with_a_token_is_redacted_in_both_crates() {
    let build = std::fs::read_to_string("build.rs").expect("it is there");
    for message in WITH_TOKENS {
        assert!(build.contains(message), "{message} is not in build.rs");
    }
    assert_eq!(build.matches("\"sophic.auth.v1.").count(), WITH_TOKENS.len());
}

#[test]
fn no_message_prints_a_token() {
    let token = || "sophic_key_SECRET".to_owned();
    let revoke = client::revoke_request::Credential::Token(token());
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
    ];
    for printed in printed {
        assert!(!printed.contains("SECRET") && printed.contains("redacted"), "{printed}");
    }
}
