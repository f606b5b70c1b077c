//! SIGKILL during an import: nothing is left half done, and a second run completes it.

use std::time::Duration;

use sophic_auth::service::TransferFormat;
use sophic_auth::store::AuditFilter;

use super::program::{command, run, text};
use super::{Over, keys};
use crate::stores::on_every_store;
use crate::waits::{self, eventually, let_time_pass};

on_every_store! {
    a_killed_import_is_completed_by_a_second_run,
    a_killed_all_or_nothing_import_leaves_nothing,
}

const LINES: usize = 6_000;

/// Writes the file and starts its import.
fn start(over: &Over, folder: &tempfile::TempDir, more: &[&str]) -> (String, std::process::Child) {
    let path = folder.path().join("legacy.csv");
    std::fs::write(&path, keys(0..LINES)).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    let args: Vec<&str> =
        ["import"].into_iter().chain(more.iter().copied()).chain([&*path]).collect();
    let null = std::process::Stdio::null;
    let child = command(&over.database, &args).stdout(null()).stderr(null()).spawn();
    (path, child.expect("the program starts"))
}

async fn count(over: &Over) -> usize {
    over.export(TransferFormat::Csv).await.lines().count() - 1
}

async fn a_killed_import_is_completed_by_a_second_run(over: Over) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (path, mut child) = start(&over, &folder, &[]);
    let before = over.service.revision().await.expect("a revision");
    eventually("three batches are written", async || {
        assert!(child.try_wait().expect("a state").is_none(), "it ended before it could be killed");
        over.service.revision().await.expect("a revision").0 >= before.0 + 3
    })
    .await;
    child.kill().expect("killed");
    waits::wait_for_exit(&mut child);
    let written = count(&over).await;
    assert!(written < LINES, "it was killed in the middle");
    assert_eq!(written % 1_000, 0, "whole batches");
    // Each batch has one change and one event, each credential one event, and there are no others.
    let revision = over.service.revision().await.expect("a revision");
    assert_eq!(revision.0 - before.0, written as u64 / 1_000);
    let events = over
        .database
        .open()
        .await
        .list_audit_events(&AuditFilter::default(), None, 10_000)
        .await
        .expect("events");
    let imports = events.iter().filter(|event| event.action == "credential.import").count();
    assert_eq!(imports, written + written / 1_000);

    let done = run(&over.database, &["--output", "json", "import", &path], "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report = text(&done.stdout);
    let wanted = format!(r#""written":{},"already_there":{written},"bad":0"#, LINES - written);
    assert!(report.contains(&wanted), "{report}");
    assert_eq!(count(&over).await, LINES);
}

async fn a_killed_all_or_nothing_import_leaves_nothing(over: Over) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (path, mut child) = start(&over, &folder, &["--all-or-nothing"]);
    let before = over.service.revision().await.expect("a revision");
    // At a different moment in each run.
    let moment = Duration::from_millis(u64::from(std::process::id() % 700) + 300);
    let_time_pass("up to somewhere between its start and its end", moment).await;
    child.kill().expect("killed");
    waits::wait_for_exit(&mut child);
    let written = count(&over).await;
    assert!(written == 0 || written == LINES, "{written}");
    if written == 0 {
        assert_eq!(over.service.revision().await.expect("a revision"), before);
    }
    let done = run(&over.database, &["import", "--all-or-nothing", &path], "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(count(&over).await, LINES);
}
