//! CSV rules: quoted text is data, and a file that is not CSV is refused as a whole.

use sophic_auth::model::{DisplayName, Slug, WorkspaceId};
use sophic_auth::service::{Context, PutWorkspace, TransferFormat};

use super::import::{count, is_allowed};
use super::{ALL_OR_NOTHING, EACH, Over, legacy};
use crate::stores::on_every_store;

on_every_store! {
    a_quoted_line_break_does_not_start_a_record,
    a_file_that_is_not_csv_is_refused_and_nothing_is_written,
    every_legal_name_survives_an_import_and_export,
}

async fn victim(over: &Over) {
    let name = DisplayName::parse("Victim").expect("a name");
    let (id, slug) = (WorkspaceId::parse("v"), Slug::parse("victim"));
    let (id, slug) = (id.expect("an id"), Some(slug.expect("a slug")));
    let put = PutWorkspace {
        id,
        slug,
        display_name: Some(name),
        disabled: None,
        policy: None,
        pat_policy: None,
    };
    let context = Context::operator("test");
    over.service.put_workspace(context, put).await.expect("a workspace");
}

async fn a_quoted_line_break_does_not_start_a_record(over: Over) {
    victim(&over).await;
    let injected = legacy(9);
    let text = format!(
        "workspace,name,scopes,token,annotations\n\
         acme,\"harmless\nvictim,injected,admin,{injected},\n\",read,{},\n\
         acme,\"spread \"\"out\"\"\",read,{},\"{{\n\"\"note\"\":\n\"\"x\"\"}}\"\n\
         acme,last,,{},\n",
        legacy(1),
        legacy(2),
        legacy(3),
    );
    let (report, recorded) = over.import_csv(&text).await;
    assert!(!is_allowed(&over, &injected).await, "a name is no record");
    // Each record is numbered by its first line.
    assert_eq!(recorded.lines(), [2, 8], "{:?}", recorded.bad);
    assert!(recorded.bad[0].1.starts_with("name: "), "{:?}", recorded.bad);
    assert_eq!((report.lines, report.written, report.bad), (3, 1, 2));
    assert!(is_allowed(&over, &legacy(2)).await);
    let exported = over.export(TransferFormat::Jsonl).await;
    assert!(!exported.contains(r#""workspace":"v""#), "{exported}");
    assert!(exported.contains(r#"{"note":"x"}"#), "{exported}");
}

async fn a_file_that_is_not_csv_is_refused_and_nothing_is_written(over: Over) {
    let revision = over.service.revision().await.expect("a revision");
    let good: String = (10..2_510).map(|n| format!("acme,n,read,{}\n", legacy(n))).collect();
    for (line, what) in [
        (format!("acme,\"open,read,{}\nacme,next,read,{}\n", legacy(1), legacy(2)), "never closed"),
        (format!("acme,a\"b,read,{}\n", legacy(1)), "must be in quotes"),
        (format!("acme,\"a\"b,read,{}\n", legacy(1)), "text between a closing quote"),
        (format!("acme,a\rb,read,{}\n", legacy(1)), "carriage return"),
        (format!("acme,\"{}", "x\n".repeat(700_000)), "too long"),
    ] {
        for options in [EACH, ALL_OR_NOTHING] {
            let text = format!("workspace,name,scopes,token\n{good}{line}");
            let (report, _) = over.import(&text, TransferFormat::Csv, options).await;
            let error = report.expect_err(what).to_string();
            assert!(error.starts_with("line 2502: ") && error.contains(what), "{error}");
            assert!(error.contains("nothing is written") && !error.contains("legacy"), "{error}");
        }
    }
    assert_eq!(over.service.revision().await.expect("a revision"), revision);
    assert_eq!(count(&over).await, 0);
}

async fn every_legal_name_survives_an_import_and_export(over: Over) {
    let names = [
        "\"quoted\"",
        "a,b",
        "=cmd()",
        "+1",
        "-1",
        "@x",
        "\\N",
        "null",
        "true",
        "\\x41",
        "a  b",
        "🔑,\"",
        "'",
        "\"",
        "2024-01-01",
        "#comment",
        ";",
        "\u{feff}bom",
    ];
    let lines = names.iter().enumerate().map(|(n, name)| {
        let line = serde_json::json!({"workspace": "acme", "name": name, "scopes": ["read"],
            "hint": "\\N", "annotations": {"a.b": "1,\"2\";=3"}, "token": legacy(n)});
        format!("{line}\n")
    });
    let text: String = lines.collect();
    let (report, recorded) = over.import(&text, TransferFormat::Jsonl, EACH).await;
    let legal = names.len() as u64 - report.expect("a report").bad;
    assert!(legal >= 16, "{:?}", recorded.bad);
    let (csv, jsonl) =
        (over.export(TransferFormat::Csv).await, over.export(TransferFormat::Jsonl).await);
    let name = sophic_auth::model::WorkspaceName::parse("acme").expect("a name");
    // Then into another store with the same workspace. Existing credentials are skipped, so this compares the exports.
    over.service.delete_workspace(Context::operator("test"), name, false).await.expect("deleted");
    assert_eq!(count(&over).await, 0, "what is of a deleted owner is not exported");
    let other = crate::stores::Database::sqlite();
    let other = <Over as crate::stores::Fixture>::set_up(std::sync::Arc::new(other)).await;
    let (report, recorded) = other.import(&csv, TransferFormat::Csv, EACH).await;
    assert_eq!(recorded.bad, []);
    assert_eq!(report.expect("a report").written, legal);
    assert_eq!(other.export(TransferFormat::Jsonl).await, jsonl);
    assert_eq!(other.export(TransferFormat::Csv).await, csv);
}
