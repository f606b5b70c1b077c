//! Columns of other systems' files: names, types, times and spellings, and values that look like something else.

use serde_json::json;
use sophic_auth::model::Digest;
use sophic_auth::service::{Column, ColumnOptions, TransferFormat};

use super::import::{count, is_allowed};
use super::{EACH, Over, legacy};
use crate::stores::on_every_store;

on_every_store! {
    unknown_columns_are_listed_and_nothing_is_written,
    columns_can_be_renamed_and_preset,
    a_token_that_looks_like_a_digest_is_refused_with_the_whole_file,
    a_json_array_is_read_like_json_lines,
    credentials_revoked_elsewhere_are_imported_as_revoked,
    a_value_of_the_wrong_type_is_named,
    an_empty_file_is_an_error,
}

async fn unknown_columns_are_listed_and_nothing_is_written(over: Over) {
    let text =
        format!("workspace,title,name,scopes,token,owner_id\nacme,t,n,read,{},7\n", legacy(1));
    let (report, _) = over.import(&text, TransferFormat::Csv, EACH).await;
    let error = report.expect_err("it is refused").to_string();
    assert!(error.contains("title, owner_id") && error.contains("--ignore-columns"), "{error}");
    let object = json!({"workspace": "acme", "name": "n", "title": [{"a": 1}], "owner_id": 7,
        "scopes": ["read"], "token": legacy(1)});
    let (_, recorded) = over.import(&object.to_string(), TransferFormat::Jsonl, EACH).await;
    assert!(recorded.bad[0].1.contains("title, owner_id"), "{:?}", recorded.bad);
    assert_eq!(count(&over).await, 0);
    let named = |names: &[&str]| ColumnOptions {
        ignored: names.iter().map(|name| (*name).to_owned()).collect(),
        ..ColumnOptions::default()
    };
    let csv = TransferFormat::Csv;
    let (report, _) = over.import_as(&text, csv, EACH, named(&["title"])).await;
    let error = report.expect_err("one unknown column is left").to_string();
    assert!(error.contains("format: owner_id."), "{error}");
    let (report, _) = over.import_as(&text, csv, EACH, named(&["title", "owner_id"])).await;
    assert_eq!(report.expect("a report").written, 1);
    let all = ColumnOptions { ignore_unknown: true, ..ColumnOptions::default() };
    let (report, recorded) =
        over.import_as(&object.to_string(), TransferFormat::Jsonl, EACH, all).await;
    assert_eq!((report.expect("a report").existing, recorded.bad.len()), (1, 0));
}

async fn columns_can_be_renamed_and_preset(over: Over) {
    let digest = Digest::of(&legacy(1)).to_hex().to_uppercase();
    let columns = || ColumnOptions {
        renamed: vec![("hash".to_owned(), Column::Digest), ("made".to_owned(), Column::CreateTime)],
        preset: vec![(Column::Scopes, "read".to_owned()), (Column::Workspace, "acme".to_owned())],
        ..ColumnOptions::default()
    };
    let text = format!("hash,name,made,scopes\n{digest},n,1704110400123,\nzz,m,soon,\n\\N,\\N,,\n");
    let (report, recorded) = over.import_as(&text, TransferFormat::Csv, EACH, columns()).await;
    assert_eq!((report.expect("a report").written, recorded.lines()), (1, vec![3, 4]));
    let reason = &recorded.bad[0].1;
    assert!(
        reason.contains("digest (hash): ") && reason.contains("create_time (made): "),
        "{reason}"
    );
    assert!(recorded.bad[1].1.contains("name: is missing"), "{:?}", recorded.bad);
    assert!(is_allowed(&over, &legacy(1)).await);
    let exported = over.export(TransferFormat::Jsonl).await;
    assert!(exported.contains(r#""create_time":"2024-01-01T12:00:00.123Z""#), "{exported}");
    let (report, _) = over.import_as("name\nn\n", TransferFormat::Csv, EACH, columns()).await;
    assert!(report.expect_err("no such column").to_string().contains("--rename names hash"));
}

async fn a_token_that_looks_like_a_digest_is_refused_with_the_whole_file(over: Over) {
    let digest = Digest::of(&legacy(1));
    for spelled in [digest.to_hex(), format!("\\x{}", digest.to_hex().to_uppercase())] {
        let text = format!(
            "workspace,name,scopes,token\nacme,good,read,{}\nacme,n,read,{spelled}\n",
            legacy(2)
        );
        let (report, recorded) = over.import_csv(&text).await;
        assert_eq!((report.written, recorded.lines()), (0, vec![3]), "{:?}", recorded.bad);
        assert!(recorded.bad[0].1.contains("--tokens-look-like-digests"), "{:?}", recorded.bad);
        assert!(report.nothing_written.is_some_and(|why| why.contains("digests")));
        assert!(!is_allowed(&over, &spelled).await && !is_allowed(&over, &legacy(2)).await);
    }
    // A legacy Sentry token has 64 hexadecimal digits.
    let token = digest.to_hex();
    let text = format!("workspace,name,scopes,token\nacme,n,read,{token}\n");
    let columns = ColumnOptions { tokens_look_like_digests: true, ..ColumnOptions::default() };
    let (report, _) = over.import_as(&text, TransferFormat::Csv, EACH, columns).await;
    assert_eq!(report.expect("a report").written, 1);
    assert!(is_allowed(&over, &token).await);
}

async fn a_json_array_is_read_like_json_lines(over: Over) {
    let object = |n: usize| {
        json!({"workspace": "acme", "name": "a ],[ b", "scopes": "read", "token": legacy(n),
            "create_time": 1_704_110_400, "annotations": {"k": "\"]}"}})
    };
    let array = json!([object(1), object(2), {"name": 5}, object(3)]);
    let pretty = serde_json::to_string_pretty(&array).expect("JSON");
    let (report, recorded) = over.import(&pretty, TransferFormat::Jsonl, EACH).await;
    let report = report.expect("a report");
    assert_eq!((report.lines, report.written, report.bad), (4, 3, 1));
    assert_eq!(recorded.lines(), [3], "elements are numbered");
    assert!(recorded.bad[0].1.starts_with("name: must be a string"), "{:?}", recorded.bad);
    let (report, _) = over.import(&array.to_string(), TransferFormat::Jsonl, EACH).await;
    assert_eq!(report.expect("a report").existing, 3);
    let cut = &pretty[..pretty.len() - 2];
    let (report, _) =
        over.import(&cut.replace("legacy-", "other-"), TransferFormat::Jsonl, EACH).await;
    let error = report.expect_err("the array is truncated").to_string();
    assert!(error.contains("ends in the middle"), "{error}");
    assert_eq!(count(&over).await, 3);
}

async fn credentials_revoked_elsewhere_are_imported_as_revoked(over: Over) {
    let mut text = String::from("workspace,name,scopes,token,revoked,enabled\n");
    for (n, rest) in ["t,", ",false", "f,true", "1,0", ",", "maybe,"].into_iter().enumerate() {
        text += &format!("acme,n,read,{},{rest}\n", legacy(n));
    }
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!((report.written, recorded.lines()), (5, vec![7]));
    assert!(recorded.bad[0].1.starts_with("revoked: must be true or false"), "{:?}", recorded.bad);
    for (n, alive) in [false, false, true, false, true].into_iter().enumerate() {
        assert_eq!(is_allowed(&over, &legacy(n)).await, alive, "{n}");
    }
    let object = json!({"workspace": "acme", "name": "n", "scopes": ["read"], "token": legacy(10),
        "enabled": false});
    let (report, _) = over.import(&object.to_string(), TransferFormat::Jsonl, EACH).await;
    assert_eq!(report.expect("a report").written, 1);
    assert!(!is_allowed(&over, &legacy(10)).await);
}

async fn a_value_of_the_wrong_type_is_named(over: Over) {
    let text = "{\"workspace\":\"acme\",\"name\":{\"first\":\"n\"}}\n\n{\"scopes\":7}\n{\"enabled\":\"x\"}\n\
                {\"expire_time\":true}\n{\"annotations\":{\"a\":1}}\n";
    let (_, recorded) = over.import(text, TransferFormat::Jsonl, EACH).await;
    let wanted = [
        (1, "name: must be a string"),
        (3, "scopes: must be an array of strings"),
        (4, "kind: is missing"),
        (5, "expire_time: must be a string or a number"),
        (6, "annotations: must be an object of strings"),
    ];
    for ((line, what), (recorded_line, reason)) in wanted.iter().zip(&recorded.bad) {
        assert_eq!(line, recorded_line);
        assert!(reason.starts_with(what), "{line}: {reason}");
    }
    assert_eq!(recorded.bad.len(), wanted.len());
    assert!(recorded.bad[2].1.contains("enabled: must be true or false"), "{:?}", recorded.bad);
}

async fn an_empty_file_is_an_error(over: Over) {
    for format in [TransferFormat::Csv, TransferFormat::Jsonl] {
        for text in ["", "\n", " \r\n", "\u{feff}"] {
            let (report, _) = over.import(text, format, EACH).await;
            assert!(report.expect_err("nothing").to_string().contains("is empty"), "{text:?}");
        }
    }
    // A table without rows and an array without elements are not empty files.
    for (text, format) in [("name\n", TransferFormat::Csv), ("[]", TransferFormat::Jsonl)] {
        let (report, _) = over.import(text, format, EACH).await;
        assert_eq!(report.expect("a report").lines, 0);
    }
}
