//! Databases of other programs: no command accepts or changes them, and the error advises correctly.

use std::path::{Path, PathBuf};

use super::program::{Ended, Program, command, run, split};
use crate::store::raw;
use crate::stores::{Database, on_every_store};

on_every_store! {
    a_newer_schema_is_refused_by_backup_and_all_else,
}

const COMMANDS: [&str; 8] = [
    "key list",
    "backup copy.db",
    "introspect",
    "user put ada",
    "migrate --dry-run",
    "migrate",
    "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0",
    "dev --listen 127.0.0.1:0 --http-listen 127.0.0.1:0",
];

fn on(url: &str, folder: &Path, words: &str) -> Ended {
    let mut command = command();
    command.args(split(words)).args(["--database-url", url]).current_dir(folder);
    run(command, "sophic_key_x")
}

fn refused(ended: Ended) -> String {
    assert!(matches!(ended.code, Some(1 | 2)) && ended.out.is_empty(), "{ended:?}");
    ended.err
}

/// All files of a directory and their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        paths.map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_file_of_another_program_is_not_changed() {
    // A database of another program, and one of a program with the same migration tool and a table of the same name.
    let migrator = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT, \
        installed_on TIMESTAMP, success BOOLEAN, checksum BLOB, execution_time BIGINT); \
        INSERT INTO _sqlx_migrations VALUES (1, 'init', '2027-01-01', TRUE, x'00', 1); \
        CREATE TABLE credentials (id INTEGER)";
    for statements in ["CREATE TABLE songs (title TEXT)", migrator] {
        let database = Database::sqlite();
        raw::run(&database, statements).await;
        let file = database.file().expect("a file");
        let folder = file.parent().expect("a folder");
        let before = contents(folder);
        for words in COMMANDS {
            let error = refused(on(&database.url(), folder, words));
            assert!(error.contains("belongs to another program"), "{words}: {error}");
            assert!(!error.contains("sophic-auth migrate"), "{words}: {error}");
            assert_eq!(contents(folder), before, "{words}");
        }
    }
}

#[tokio::test]
async fn an_empty_file_is_not_a_store_and_is_not_backed_up() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let file = folder.path().join("store.db");
    std::fs::write(&file, "").expect("a file");
    let url = format!("sqlite:{}", file.display());
    for words in &COMMANDS[..4] {
        let error = on(&url, folder.path(), words).failed(2);
        assert!(error.contains("there is no store") && error.contains("migrate"), "{error}");
        assert_eq!(contents(folder.path()), [(file.clone(), Vec::new())], "{words}");
    }
    on(&url, folder.path(), "migrate").ok();
    on(&url, folder.path(), "backup copy.db").ok();
}

#[tokio::test]
async fn a_backup_is_not_restored_over_another_programs_database() {
    let (ours, theirs) = (Database::sqlite(), Database::sqlite());
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    on(&ours.url(), folder.path(), "migrate").ok();
    on(&ours.url(), folder.path(), "backup copy.db").ok();
    raw::run(&theirs, "CREATE TABLE songs (title TEXT)").await;
    let file = theirs.file().expect("a file");
    let before = contents(file.parent().expect("a folder"));
    let error = refused(on(&theirs.url(), folder.path(), "restore copy.db"));
    assert!(error.contains("belongs to another program"), "{error}");
    assert_eq!(contents(file.parent().expect("a folder")), before);
}

#[tokio::test]
async fn tables_of_another_program_in_postgres_are_not_changed() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let database = Database::empty_postgres().await;
    raw::run(&database, "CREATE TABLE orders (id bigint)").await;
    let error = refused(on(&database.url(), folder.path(), "key list"));
    assert!(error.contains("tables of other programs (orders)"), "{error}");
    raw::run(&database, "CREATE TABLE credentials (id bigint)").await;
    for words in COMMANDS.iter().filter(|words| !words.starts_with("backup")) {
        let error = refused(on(&database.url(), folder.path(), words));
        assert!(
            error.contains("belongs to another program") && error.contains("credentials"),
            "{error}"
        );
        assert!(!error.contains("sophic-auth migrate"), "{words}: {error}");
    }
    let none = "SELECT 1 / (CASE WHEN to_regclass('workspaces') IS NULL THEN 1 ELSE 0 END)";
    raw::run(&database, none).await;
    database.drop_database().await;
}

async fn a_newer_schema_is_refused_by_backup_and_all_else(p: Program) {
    p.run("user put ada").ok();
    let row = "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
               SELECT 9999, 'of the future', installed_on, success, checksum, execution_time \
               FROM _sqlx_migrations WHERE version = 1";
    raw::run(&p.database, row).await;
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let words =
        COMMANDS.iter().filter(|words| !p.database.is_postgres() || **words != "backup copy.db");
    for words in words {
        let error = refused(on(&p.database.url(), folder.path(), words));
        assert!(error.contains("run a newer sophic-auth"), "{words}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
