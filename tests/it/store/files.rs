//! SQLite files that cannot be used, or are not databases.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sophic_auth::store::{self, Location, StoreError};
use tempfile::TempDir;

use super::raw;
use crate::stores::{Database, location};

fn folder() -> TempDir {
    TempDir::new().expect("a folder for temporary files")
}

fn sqlite(path: &Path) -> Location {
    location(&format!("sqlite:{}", path.display()))
}

async fn refusal(path: &Path) -> String {
    match store::open(&sqlite(path)).await.map(drop).expect_err("it cannot be opened") {
        StoreError::InvalidLocation(text) | StoreError::Lost(text) => text,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    let folder = folder();
    let path = folder.path().join("notes.txt");
    let text = "not a database, but somebody's notes: ".repeat(100);
    std::fs::write(&path, &text).expect("a file");
    assert!(refusal(&path).await.contains("not an SQLite database"));
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), text);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_not_changed() {
    let database = Database::sqlite();
    let file = database.file().expect("a file");
    store::migrate(&database.location()).await.expect("it is migrated");
    let mut bytes = std::fs::read(&file).expect("the file");
    // Everything except the header of the first page.
    bytes[100..4096].fill(0xa5);
    std::fs::write(&file, &bytes).expect("the file");
    assert!(refusal(&file).await.contains("damaged"));
    assert_eq!(std::fs::read(&file).expect("the file"), bytes);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_not_changed() {
    let database = Database::sqlite();
    raw::run(&database, "CREATE TABLE songs (title TEXT)").await;
    let file = database.file().expect("a file");
    assert!(refusal(&file).await.contains("belongs to another program"));
    raw::run(&database, "INSERT INTO songs (title) VALUES ('still here')").await;
}

#[tokio::test]
async fn a_directory_is_refused() {
    let folder = folder();
    assert!(refusal(folder.path()).await.contains("is a directory"));
}

#[tokio::test]
async fn a_file_in_a_missing_directory_is_refused_and_nothing_is_created() {
    let folder = folder();
    let text = refusal(&folder.path().join("missing/store.db")).await;
    assert!(text.contains("does not exist"), "{text}");
    assert!(!folder.path().join("missing").exists());
}

#[tokio::test]
async fn a_special_file_is_refused() {
    assert!(refusal(Path::new("/dev/null")).await.contains("not a regular file"));
    assert!(refusal(Path::new("/dev/full")).await.contains("not a regular file"));
}

#[tokio::test]
async fn a_new_file_and_its_log_are_readable_by_the_owner_only() {
    let database = Database::sqlite();
    let store = store::open(&database.location()).await.expect("it opens");
    let folder = database.file().expect("a file").parent().expect("a folder").to_owned();
    let files: Vec<_> = std::fs::read_dir(folder).expect("a folder").collect();
    assert!(files.len() >= 2, "the log is there too: {files:?}");
    for file in files {
        let mode = file.expect("an entry").metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    store.close().await;
}

#[tokio::test]
async fn a_name_with_special_characters_is_not_parsed_as_a_uri() {
    let folder = folder();
    let path = folder.path().join("file:a b%20c#ü.db");
    let store = store::open(&sqlite(&path)).await.expect("it opens");
    store.close().await;
    assert!(path.is_file());
}

#[tokio::test]
async fn a_symbolic_link_leads_to_the_file() {
    let folder = folder();
    let (file, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
    store::migrate(&sqlite(&file)).await.expect("it is migrated");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let store = store::open_existing(&sqlite(&link)).await.expect("it opens");
    store.ping().await.expect("it answers");
    store.close().await;
}
