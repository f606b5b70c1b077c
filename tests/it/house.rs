//! The rules of the house (ARCHITECTURE.md), checked on the source text: which room may name which, how long a file may
//! be, and that both stores are twins.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room of `src`, and the rooms that it may name. A room is a directory, or a file beside `lib.rs`.
pub(crate) const ROOMS: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("token", &["model"]),
    ("decision", &["model"]),
    ("policy", &["model"]),
    ("store", &["model"]),
    ("cache", &["model", "store", "token"]),
    ("service", &["cache", "decision", "model", "policy", "store", "token"]),
    ("proxied", &["cache", "decision", "model", "service", "token"]),
    ("grpc", &["cache", "decision", "model", "proxied", "service", "store", "token"]),
    ("http", &["cache", "decision", "model", "proxied", "service", "store", "token"]),
    ("server", &["cache", "grpc", "http", "model", "service", "store", "token"]),
    (
        "cli",
        &[
            "cache", "decision", "grpc", "http", "model", "policy", "server", "service", "store",
            "token",
        ],
    ),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// Crates that only these rooms may name.
const CRATES: [(&str, &[&str]); 8] = [
    ("sophic_auth_protocol", &["decision", "grpc", "model", "token"]),
    ("sqlx", &["store"]),
    ("tonic", &["grpc", "server"]),
    ("axum", &["http", "server"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli"]),
    ("rustls", &["server"]),
    ("quick_cache", &["cache"]),
];

/// Maximum number of lines of a file.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Rust file under this directory with its text, except for generated files.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("generated") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a file");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} is empty");
    found.sort();
    found
}

/// Returns the room of a file of `src`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a file of src");
    let first = inside.components().next().expect("a component").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the code of a line without its comment. A string that contains `//` is cut short, which hides no path.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// Returns the word after each occurrence of `prefix` at the beginning of a path.
fn words_after<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    let mut words = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        words.push(&rest[..end]);
    }
    words
}

#[test]
fn a_room_names_only_rooms_below_it() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let room = room(&path);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            panic!("{} is in no room of the table: give it one", path.display());
        };
        for (number, line) in text.lines().enumerate() {
            let named = words_after(code(line), "crate::");
            for other in named.into_iter().filter(|other| *other != room && !other.is_empty()) {
                // Macros of the crate are not rooms.
                let is_room = ROOMS.iter().any(|(name, _)| *name == other);
                if is_room && !allowed.contains(&other) {
                    wrong.push(format!("{}:{} names {other}", path.display(), number + 1));
                }
            }
            assert!(!code(line).contains("use crate::{"), "{}: one room a line", path.display());
        }
    }
    assert!(wrong.is_empty(), "dependencies point down only:\n{}", wrong.join("\n"));
}

#[test]
fn a_crate_is_named_only_where_it_belongs() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let room = room(&path);
        for (number, line) in text.lines().enumerate() {
            for (name, rooms) in CRATES {
                let used = !words_after(code(line), &format!("{name}::")).is_empty();
                if used && !rooms.contains(&room.as_str()) {
                    wrong.push(format!("{}:{} names {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn output_is_printed_in_one_file() {
    for (path, text) in sources("src") {
        if path.ends_with("cli/output.rs") {
            continue;
        }
        for line in text.lines().map(code) {
            for macro_name in ["println!", "print!", "eprintln!", "eprint!"] {
                assert!(!line.contains(macro_name), "{}: {line}", path.display());
            }
            let streams = ["io::stdout()", "io::stderr()"];
            let written = streams.iter().any(|stream| line.contains(stream));
            // Checking for a terminal prints nothing.
            assert!(!written || line.contains("is_terminal"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn a_flag_is_declared_in_a_file_of_arguments() {
    for (path, text) in sources("src") {
        let declares = text.lines().map(code).any(|line| line.trim_start().starts_with("#[arg("));
        let of_arguments = path.starts_with(root().join("src/cli/args"));
        assert!(!declares || of_arguments, "{}", path.display());
    }
}

#[test]
fn a_grpc_status_is_made_in_one_file() {
    // Functions that only read a status, or convert one of ours.
    let harmless = ["from", "from_header_map", "from_error"];
    let exempt = [Path::new("grpc/status.rs"), Path::new("grpc/tests.rs")];
    for (path, text) in sources("src") {
        if exempt.iter().any(|file| path.ends_with(file)) {
            continue;
        }
        for line in text.lines().map(code) {
            let mut made = words_after(line, "Status::");
            made.extend(words_after(line, "tonic::Status::"));
            made.retain(|name| name.starts_with(char::is_lowercase) && !harmless.contains(name));
            assert!(made.is_empty(), "{}: {line}", path.display());
        }
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    for folder in ["src", "tests", "client/src", "crates/protocol/src"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn every_file_begins_with_a_module_doc() {
    for folder in ["src", "tests", "client/src", "crates/protocol/src"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//! "), "{} has no head", path.display());
        }
    }
}

#[test]
fn both_stores_have_the_same_migrations() {
    let names = |database: &str| {
        let folder = root().join("migrations").join(database);
        let entries = std::fs::read_dir(folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<BTreeSet<_>>()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert_eq!(sqlite, postgres);
    let numbers: Vec<_> = sqlite.iter().map(|name| name[..4].to_owned()).collect();
    let distinct: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(numbers.len(), distinct.len(), "two migrations have one number: {sqlite:?}");
}

/// Enforces that a new scope comes with a migration.
#[test]
fn the_newest_schema_allows_exactly_the_bits_of_the_scopes() {
    for database in ["sqlite", "postgres"] {
        let folder = root().join("migrations").join(database);
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        let all: String =
            files.iter().map(|path| std::fs::read_to_string(path).expect("a file")).collect();
        let (_, newest) = all.rsplit_once("CHECK (scopes BETWEEN 0 AND ").expect("a check");
        let (most, _) = newest.split_once(')').expect("its end");
        let all_scopes = sophic_auth::model::ScopeSet::ALL.bits().to_string();
        assert_eq!(most, all_scopes, "{database}");
    }
}

#[test]
fn both_stores_are_twins_file_by_file() {
    let files = |database: &str| {
        let folder = root().join("src/store").join(database);
        let entries = std::fs::read_dir(folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<BTreeSet<_>>()
    };
    let (sqlite, postgres) = (files("sqlite"), files("postgres"));
    // Files that only one of the stores has: a database file on one side, a database server on the other.
    let only = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(&sqlite - &postgres, only(&["backup.rs", "file.rs", "restore.rs", "watched.rs"]));
    let servers: BTreeSet<_> = &postgres - &sqlite;
    let known = only(&[
        "connection_guard.rs",
        "hosts.rs",
        "shared_pool.rs",
        "primary.rs",
        "reachability.rs",
        "session.rs",
        "permits.rs",
        "url.rs",
        "primary_timeouts.rs",
    ]);
    assert!(servers.is_subset(&known), "{servers:?}");
}

/// Returns each trait of the store: its file in `src/store`, its name, and its text.
fn store_traits() -> Vec<(String, String, String)> {
    let folder = root().join("src/store");
    let mut traits = Vec::new();
    for (path, text) in sources("src/store") {
        if path.parent() != Some(&folder) {
            continue;
        }
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        for part in text.split("\npub trait ").skip(1) {
            let name = part.split(|c: char| !c.is_alphanumeric()).next().expect("a name");
            let end = part.find("\n}").expect("its end");
            traits.push((file.clone(), name.to_owned(), part[..end].to_owned()));
        }
    }
    traits
}

#[test]
fn a_trait_of_the_store_is_implemented_in_the_twin_files_of_its_name() {
    let traits = store_traits();
    assert!(traits.len() >= 20, "{traits:?}");
    for (file, name, _) in traits.iter().filter(|(file, ..)| file != "mod.rs") {
        for database in ["sqlite", "postgres"] {
            let path = root().join("src/store").join(database).join(file);
            let text = std::fs::read_to_string(&path).expect("a twin");
            assert!(text.contains(&format!("impl {name} for ")), "{name} in {}", path.display());
        }
    }
}

#[test]
fn one_file_reads_from_a_url_which_database_it_names() {
    for (path, text) in sources("src") {
        if path.ends_with("store/location.rs") {
            continue;
        }
        for line in text.lines().map(code) {
            let asks = ["starts_with(\"", "strip_prefix(\""].iter().any(|ask| {
                ["sqlite", "postgres"].iter().any(|name| line.contains(&format!("{ask}{name}")))
            });
            assert!(!asks, "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_method_of_the_store_is_named_in_its_conformance_suite() {
    let traits = store_traits();
    let suite: String = sources("tests/it/store").into_iter().map(|(_, text)| text).collect();
    let mut methods = Vec::new();
    for (_, _, text) in &traits {
        for rest in text.lines().filter_map(|line| line.strip_prefix("    async fn ")) {
            let end = rest.find(['(', '<']).expect("a signature");
            methods.push(&rest[..end]);
        }
    }
    assert!(methods.len() >= 70, "{methods:?}");
    let forgotten: Vec<_> =
        methods.into_iter().filter(|method| !suite.contains(&format!(".{method}("))).collect();
    assert!(forgotten.is_empty(), "no case in tests/it/store calls {forgotten:?}");
}

#[test]
fn a_transaction_begins_and_ends_in_one_file() {
    // Code that the types allow outside `service/commit.rs` but that must not be there: a store that can begin a
    // transaction, a bare transaction, and the wait for the barrier.
    let bare = ["dyn Store", "Box<dyn WriteTx>", "store.begin(", "barrier.wait(", "wait_locally("];
    for (path, text) in sources("src") {
        let above = !["store", "cache", "server"].contains(&room(&path).as_str());
        if !above || path.ends_with("service/commit.rs") {
            continue;
        }
        for line in text.lines().map(code) {
            for word in bare {
                assert!(!line.contains(word), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn the_service_has_private_fields_and_names_no_header() {
    let service = std::fs::read_to_string(root().join("src/service/mod.rs")).expect("a file");
    let (_, fields) = service.split_once("pub struct Service {").expect("the struct");
    let (fields, _) = fields.split_once("\n}").expect("its end");
    assert!(fields.lines().map(code).all(|line| !line.contains("pub")), "{fields}");
    for (path, text) in sources("src/service") {
        let headers = text.lines().map(code).filter(|line| line.contains("\"x-sophic"));
        assert_eq!(headers.collect::<Vec<_>>(), Vec::<&str>::new(), "{}", path.display());
    }
}

#[test]
fn every_statement_is_literal_text() {
    for (path, text) in sources("src") {
        for line in text.lines().map(code) {
            assert!(!line.contains("AssertSqlSafe"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn the_pages_name_every_variable_and_every_reason() {
    let page =
        |name: &str| std::fs::read_to_string(root().join("docs").join(name)).expect("a page");
    let (flags, errors) = (page("flags.md"), page("errors.md"));
    let mut missing = Vec::new();
    for (_, text) in sources("src/cli") {
        for (at, prefix) in text.match_indices("env = \"") {
            let rest = &text[at + prefix.len()..];
            let name = &rest[..rest.find('"').expect("the end of a name")];
            if !flags.contains(&format!("`{name}`")) {
                missing.push(name.to_owned());
            }
        }
    }
    let codes = sophic_auth::service::Reason::ALL.iter().map(|reason| reason.code());
    missing.extend(codes.filter(|code| !errors.contains(&format!("`{code}`"))).map(str::to_owned));
    assert!(missing.is_empty(), "docs/flags.md or docs/errors.md lacks {missing:?}");
}

#[test]
fn every_file_is_part_of_the_build() {
    for folder in ["src", "tests/it"] {
        let all = sources(folder);
        for (path, _) in &all {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let parent = path.parent().expect("a folder");
            // The `mod.rs` of a room is declared one directory higher. The crate roots are not declared.
            let (name, above) = match stem.as_str() {
                "lib" | "main" => continue,
                "mod" => {
                    let name = parent.file_name().expect("a name").to_string_lossy().into_owned();
                    (name, parent.parent().expect("a folder"))
                }
                _ => (stem, parent),
            };
            let named = format!("mod {name};");
            let found = ["mod.rs", "lib.rs", "main.rs"].iter().any(|file| {
                let text = all.iter().find(|(other, _)| *other == above.join(file));
                text.is_some_and(|(_, text)| text.lines().any(|line| line.ends_with(&named)))
            });
            assert!(found, "{} is named by no module: it is not compiled", path.display());
        }
    }
}
