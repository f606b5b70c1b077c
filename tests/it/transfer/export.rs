//! Exporting, and moving an export from one database to the other and back without changing a byte.

use sophic_auth::model::{Digest, WorkspaceId};
use sophic_auth::service::{Context, TransferFormat};
use sophic_auth::store::{AuditFilter, ExportFilter};

use super::{EACH, Over, keys, legacy};
use crate::stores::{Database, Fixture as _, on_every_store};

on_every_store! {
    an_export_can_be_of_one_owner,
    an_export_is_in_the_audit_log,
}

/// Returns a file with one of everything.
fn everything() -> String {
    let digest = Digest::of("of another system").to_hex();
    format!(
        "id,kind,workspace,user,max_role,name,scopes,digest,token,hint,ip_allowlist,annotations,create_time,\
         expire_time,disable_time,revoke_time,last_use_time,last_use_ip,creator,predecessor_id,family_id\n\
         01890a5d-ac96-774b-bcce-b302099a8057,key,acme,,,\"all, \"\"of\"\" it 🔑\",read admin,{digest},,abc...wxyz,\
         192.0.2.0/24 2001:db8::1,\"{{\"\"a\"\":\"\"\"\",\"\"b\"\":\"\"é,\\\"\"\"\"}}\",2023-06-01T12:00:00.000001Z,\
         2999-12-31T23:59:59.999999Z,2024-01-01T00:00:00Z,2024-01-02T00:00:00Z,2023-12-31T23:59:59.5Z,2001:db8::2,\
         user:ada,01890a5d-ac96-774b-bcce-b302099a8056,01890a5d-ac96-774b-bcce-b302099a8055\n\
         ,pat,,ada,viewer,little,read,,{},,,,,,,,,,,,\n\
         ,pat,,ada,,\"a\nb\",read capture,,{},,,,,,,,,,,,\n\
         ,pat,,ada,,=cmd(),read capture,,{},,,,,,,,,,,,\n",
        legacy(1),
        legacy(2),
        legacy(3),
    )
}

async fn round_trip(from: Database, to: Database) {
    let (from, to) = (std::sync::Arc::new(from), std::sync::Arc::new(to));
    let (one, other) = (Over::set_up(from).await, Over::set_up(to).await);
    let (report, recorded) = one.import_csv(&everything()).await;
    // A line break is a control character, which names cannot contain.
    assert_eq!((report.written, recorded.lines()), (3, vec![4]));
    one.import_csv(&keys(10..1_510)).await;
    for format in [TransferFormat::Jsonl, TransferFormat::Csv] {
        let exported = one.export(format).await;
        let (report, recorded) = other.import(&exported, format, EACH).await;
        assert_eq!(recorded.bad, []);
        assert_eq!(report.expect("a report").lines, 1_503);
        for format in [TransferFormat::Jsonl, TransferFormat::Csv] {
            assert_eq!(other.export(format).await, one.export(format).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sqlite_exports_postgres_imports_and_exports_the_same() {
    round_trip(Database::sqlite(), Database::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_exports_sqlite_imports_and_exports_the_same() {
    round_trip(Database::postgres().await, Database::sqlite()).await;
}

async fn an_export_can_be_of_one_owner(over: Over) {
    over.import_csv(&keys(0..3)).await;
    over.import_csv(&format!("user,name,scopes,token\nada,n,read,{}\n", legacy(9))).await;
    let filter = ExportFilter {
        workspace_id: Some(WorkspaceId::parse("w").expect("an id")),
        ..ExportFilter::default()
    };
    let mut output = Vec::new();
    let context = Context::operator("test");
    let format = TransferFormat::Csv;
    let export = over.service.export(&context, &filter, format, &mut output, &mut |_| {}).await;
    assert_eq!(export.expect("an export"), 3);
    assert_eq!(String::from_utf8_lossy(&output).lines().count(), 4);
    assert_eq!(over.export(format).await.lines().count(), 5);
}

async fn an_export_is_in_the_audit_log(over: Over) {
    over.import_csv(&keys(0..3)).await;
    over.export(TransferFormat::Jsonl).await;
    let events = over
        .database
        .open()
        .await
        .list_audit_events(&AuditFilter::default(), None, 100)
        .await
        .expect("events");
    let last = events.last().expect("an event");
    assert_eq!(last.action, "credential.export");
    assert!(last.after.as_deref().is_some_and(|after| after.contains(r#""credentials":3"#)));
}
