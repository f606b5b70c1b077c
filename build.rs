//! Compiles the protocol with protox (no `protoc` needed) and lists the migrations, so that none is forgotten.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

/// Messages whose generated `Debug` would print a token; `src/grpc/redact.rs` writes it by hand.
const WITH_TOKENS: [&str; 10] = [
    "sophic.auth.v1.IntrospectRequest",
    "sophic.auth.v1.RevokeRequest",
    "sophic.auth.v1.CreateKeyResponse",
    "sophic.auth.v1.CreatePatResponse",
    "sophic.auth.v1.CreateCallerResponse",
    "sophic.auth.v1.RotateResponse",
    "sophic.auth.v1.RotateCallerResponse",
    "sophic.auth.v1.LeakedToken",
    "envoy.service.auth.v3.AttributeContext.HttpRequest",
    "envoy.config.core.v3.HeaderValue",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    compile_protocol(&out)?;
    list_migrations(&out)
}

fn compile_protocol(out: &Path) -> Result<(), Box<dyn Error>> {
    let protos = [
        "proto/sophic/auth/v1/auth_service.proto",
        "proto/sophic/auth/v1/directory_service.proto",
        "proto/sophic/auth/v1/admin_service.proto",
        "proto/envoy/service/auth/v3/external_auth.proto",
    ];
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(protos)?;
    let descriptors = compiler.file_descriptor_set();
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // The codec finds a message's descriptor by its name.
    let mut names = prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::grpc::codec::StrictCodec")
        .skip_debug(WITH_TOKENS)
        .compile_fds_with_config(descriptors, names)?;
    Ok(())
}

/// Writes, for each database, an array of (version, name, SQL) in the order of the versions.
fn list_migrations(out: &Path) -> Result<(), Box<dyn Error>> {
    let mut listing = String::new();
    for database in ["sqlite", "postgres"] {
        let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("migrations").join(database);
        let mut files = fs::read_dir(&folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort();
        let constant = database.to_uppercase();
        writeln!(listing, "pub(super) const {constant}: &[(i64, &str, &str)] = &[")?;
        for file in files {
            let stem =
                file.file_stem().and_then(|stem| stem.to_str()).ok_or("a name not in UTF-8")?;
            let (version, name) =
                stem.split_once('_').ok_or("a migration is named NNNN_name.sql")?;
            let version: i64 = version.parse()?;
            writeln!(listing, "    ({version}, {name:?}, include_str!({:?})),", file.display())?;
        }
        writeln!(listing, "];")?;
    }
    fs::write(out.join("migrations.rs"), listing)?;
    Ok(())
}
